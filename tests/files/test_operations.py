"""What an atlas keeps is written through `files.local.operations` and through nothing else."""

import ast
from pathlib import Path

import pytest

import cytolabe

ROOT = Path(cytolabe.__file__).parent
ROOMS = ("files", "store", "snapshot", "provenance")
METHODS = {"write_bytes", "write_text", "mkdir", "unlink", "rmdir", "touch", "rename", "symlink_to", "hardlink_to"}
CALLS = {"link", "rename", "replace", "unlink", "remove", "mkdir", "makedirs", "rmdir", "removedirs", "write", "fsync"}
ALLOWED = {
    "files/local.py": "here the operations are",
    "files/publishing.py": "calls operations.unlink",
    "store/scratch.py": "its own directory for temporary files, with the rights of its owner only",
    "snapshot/diff.py": "renames columns of a table",
    "snapshot/training_cache.py": "a cache outside of the atlas, staged, and made again where it is lost",
}


def writes(tree: ast.AST) -> list[str]:
    """Return the calls that would change a disk."""
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        name = node.func.attr
        opened = name == "open" and any(
            isinstance(arg, ast.Constant) and isinstance(arg.value, str) and set(arg.value) & set("wxa+")
            for arg in [*node.args, *(keyword.value for keyword in node.keywords)]
        )
        if name in METHODS or opened or owner == "shutil" or (owner == "os" and name in CALLS):
            found.append(f"{owner}.{name}:{node.lineno}")
    return found


def test_no_other_module_of_these_rooms_writes():
    found = {
        path.relative_to(ROOT).as_posix(): calls
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if (calls := writes(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert set(found) <= set(ALLOWED), {name: calls for name, calls in found.items() if name not in ALLOWED}


@pytest.mark.parametrize(
    ("code", "is_write"),
    [
        ("path.write_bytes(b'')", True),
        ("path.open('xb')", True),
        ("os.link(a, b)", True),
        ("shutil.rmtree(a)", True),
        ("path.open('rb')", False),
        ("text.replace('a', 'b')", False),
        ("replace_file(path, b'')", False),
    ],
)
def test_the_check_knows_a_write_when_it_sees_one(code, is_write):
    assert bool(writes(ast.parse(code))) == is_write

"""Names, lengths, signatures and docstrings of every module."""

import ast
from collections.abc import Iterator

import pytest

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc"}
MAX_FILE, MAX_FUNCTION, MAX_POSITIONAL, MAX_PARAMETERS = 400, 80, 3, 6
# Whoever doubts a certificate reads one file: it computes every test again and may import nothing of ours.
ONE_FILE_ON_PURPOSE = {"cytolabe/audit/verifier.py": 600}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> Iterator[tuple[str, Function, bool]]:
    """Yield name, node and whether it is a method, of all functions however deep."""

    def walk(node: ast.AST, prefix: str, inside: bool) -> Iterator[tuple[str, Function, bool]]:  # noqa: FBT001
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield f"{prefix}{child.name}", child, inside
                yield from walk(child, f"{prefix}{child.name}.", False)  # noqa: FBT003
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, f"{prefix}{child.name}.", True)  # noqa: FBT003
            else:
                yield from walk(child, prefix, inside)

    yield from walk(tree, "", False)  # noqa: FBT003


def length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def positional(node: Function, *, method: bool) -> list[str]:
    names = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args]]
    return names[1:] if method and names[:1] in (["self"], ["cls"]) else names


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return ast.literal_eval(node.value)
    return None


def defined(tree: ast.Module) -> set[str]:
    """Return the public names that a module makes itself: classes, functions and constants with a docstring."""
    names = {node.name for node in tree.body if isinstance(node, Function | ast.ClassDef)}
    return {name for name in names if not name.startswith("_")}


def is_command_line(source) -> bool:
    """Tell whether the signatures of a module are command lines: typer reads options from positional parameters."""
    return source.name.startswith("cytolabe/cli/")


def test_no_module_is_a_drawer_for_everything(sources):
    found = [source.name for source in sources if set(source.path.with_suffix("").parts) & FORBIDDEN_NAMES]
    assert not found


def test_files_stay_short(sources):
    long = {source.name: len(source.text.splitlines()) for source in sources}
    assert {name: n for name, n in long.items() if n > ONE_FILE_ON_PURPOSE.get(name, MAX_FILE)} == {}


def test_functions_stay_short(sources):
    long = {
        f"{source.name}:{name}": length(node)
        for source in sources
        for name, node, _ in functions(source.tree)
        if length(node) > MAX_FUNCTION
    }
    assert long == {}


def test_public_functions_take_at_most_three_positional_parameters(sources):
    wide = {
        f"{source.name}:{name}": positional(node, method=method)
        for source in sources
        if not is_command_line(source)
        for name, node, method in functions(source.tree)
        if not any(part.startswith("_") for part in name.split("."))
        and len(positional(node, method=method)) > MAX_POSITIONAL
    }
    assert wide == {}


def test_public_functions_take_at_most_six_parameters(sources):
    wide = {
        f"{source.name}:{name}": len(positional(node, method=method)) + len(node.args.kwonlyargs)
        for source in sources
        if not is_command_line(source)
        for name, node, method in functions(source.tree)
        if not any(part.startswith("_") for part in name.split("."))
        and len(positional(node, method=method)) + len(node.args.kwonlyargs) > MAX_PARAMETERS
    }
    assert wide == {}


def test_all_is_sorted_and_complete(sources):
    wrong = {}
    for source in sources:
        names = exported(source.tree)
        public = set() if is_command_line(source) else defined(source.tree)
        if names is None:
            if public and source.path.name != "__main__.py":
                wrong[source.name] = "no __all__"
        elif sorted(names, key=_isort_key) != names or len(set(names)) != len(names):
            wrong[source.name] = "not sorted"
        elif missing := public - set(names):
            wrong[source.name] = f"missing {sorted(missing)}"
    assert wrong == {}


def _isort_key(name: str) -> tuple[int, str]:
    """Order of ruff's RUF022: constants, then classes, then the rest."""
    rank = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return rank, name


def test_what_all_names_exists(sources):
    missing = {}
    for source in sources:
        bound = {
            alias.asname or alias.name
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        bound |= {
            node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        bound |= defined(source.tree)
        if absent := set(exported(source.tree) or []) - bound:
            missing[source.name] = sorted(absent)
    assert missing == {}


def test_every_module_tells_its_decision(sources):
    silent = [source.name for source in sources if len(ast.get_docstring(source.tree) or "") < 20]
    assert not silent


def test_every_public_name_is_documented(sources):
    silent = []
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
                silent += [f"{source.name}:{node.name}"] if not ast.get_docstring(node) else []
    assert not silent


def test_annotations_are_not_postponed(sources):
    """Postponed annotations would silently turn off the shape checks of dataclasses."""
    found = [source.name for source in sources if "from __future__ import annotations" in source.text]
    assert not found


def test_nothing_inside_imports_the_root(sources):
    found = [
        f"{source.name}:{node.lineno}"
        for source in sources
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Import) and any(alias.name == "cytolabe" for alias in node.names))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "cytolabe"
            and node.level == 0
            and any(not _is_subpackage(source, alias.name) for alias in node.names)
        )
    ]
    assert not found


def _is_subpackage(source, name: str) -> bool:
    folder = next(parent for parent in source.path.parents if parent.name == "cytolabe")
    return (folder / name).is_dir() or (folder / f"{name}.py").is_file()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(a, b, c, d): ...", ["a", "b", "c", "d"]),
        ("def f(a, *, b): ...", ["a"]),
        ("def f(a, /, b): ...", ["a", "b"]),
    ],
)
def test_the_check_counts_positional_parameters(code, expected):
    node = ast.parse(code).body[0]
    assert positional(node, method=False) == expected

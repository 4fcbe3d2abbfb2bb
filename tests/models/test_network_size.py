"""Every fitted model that has a network says how large it is, and which weights those are."""

import ast
from pathlib import Path

from cytolabe import models

ROOT = Path(models.__file__).parent


def test_whatever_has_a_network_names_its_weights():
    found = {
        f"{path.relative_to(ROOT)}:{one.name}": {part.name for part in one.body if isinstance(part, ast.FunctionDef)}
        for path in ROOT.rglob("*.py")
        for one in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(one, ast.ClassDef) and one.name not in {"Sized", "NamedWeights"}
    }
    sized = {name for name, parts in found.items() if "network_size" in parts}
    assert len(sized) >= 7
    assert sized <= {name for name, parts in found.items() if "weights_digest" in parts}

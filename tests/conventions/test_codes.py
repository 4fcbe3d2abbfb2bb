"""Every finding code has an explanation, and every explanation has a finding."""

import ast
import re
import tomllib

import pytest

CODE = re.compile(r"[EWN]-[A-Z]+-\d\d")


def codes_of(tree: ast.Module) -> set[str]:
    """Return the literals that are codes; docstrings may name one without raising it."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if CODE.fullmatch(text)}


@pytest.fixture(scope="session")
def explained(package):
    path = package / "cli" / "codes.toml"
    if not path.exists():
        pytest.skip("cli/codes.toml is not written yet")
    return tomllib.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def used(sources):
    return {code: source.name for source in sources for code in codes_of(source.tree)}


def test_every_code_is_explained(used, explained):
    assert {code: place for code, place in used.items() if code not in explained} == {}


def test_every_explanation_belongs_to_a_code(used, explained):
    assert sorted(set(explained) - set(used)) == []


def test_an_explanation_says_what_it_means_and_what_to_do(explained):
    short = [code for code, entry in explained.items() if not all(str(value).strip() for value in entry.values())]
    assert not short
    assert [code for code in explained if not CODE.fullmatch(code)] == []


def test_the_letter_of_a_code_is_its_severity(sources):
    wrong = []
    words = {"E": "ERROR", "W": "WARNING", "N": "NOTE"}
    for source in sources:
        for node in ast.walk(source.tree):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"):
                continue
            given = {item.arg: item.value for item in node.keywords}
            code, severity = given.get("code"), given.get("severity")
            if (
                isinstance(code, ast.Constant)
                and isinstance(severity, ast.Attribute)
                and words[code.value[0]] != severity.attr
            ):
                wrong.append(f"{source.name}:{node.lineno} {code.value} is {severity.attr}")
    assert not wrong


def test_the_reader_of_codes_finds_them():
    tree = ast.parse('x = Finding(code="E-COUNTS-01")\ny = "see E-COUNTS-02"')
    assert codes_of(tree) == {"E-COUNTS-01"}

"""Every finding code has an explanation, and every explanation has a finding."""

import ast
import re
import tomllib

import pytest

CODE = re.compile(r"[EWN]-[A-Z][A-Z0-9]*-\d\d")
KEYS = {"title", "why", "remedy", "room"}


def codes_of(tree: ast.Module) -> set[str]:
    """Return the literals that are codes; docstrings may name one without raising it."""
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if CODE.fullmatch(text)}


@pytest.fixture(scope="session")
def explained(package):
    return tomllib.loads((package / "cli" / "codes.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def packs(package):
    """Return the rules of every validation pack: code -> table."""
    paths = sorted((package / "validate" / "packs").glob("*.toml"))
    return {
        rule["code"]: rule
        for path in paths
        for rule in tomllib.loads(path.read_text(encoding="utf-8")).get("rules", [])
    }


@pytest.fixture(scope="session")
def used(sources, packs):
    in_code = {code: source.name for source in sources for code in codes_of(source.tree)}
    return {**dict.fromkeys(packs, "a validation pack"), **in_code}


def test_every_code_is_explained(used, explained):
    assert {code: place for code, place in used.items() if code not in explained} == {}


def test_every_explanation_belongs_to_a_code(used, explained):
    assert sorted(set(explained) - set(used)) == []


def test_an_explanation_says_what_it_means_why_it_matters_and_what_to_do(explained):
    wrong = {
        code: sorted(entry) for code, entry in explained.items()
        if not KEYS <= set(entry) <= {*KEYS, "rule"} or not all(str(value).strip() for value in entry.values())
    }  # fmt: skip
    assert wrong == {}
    assert [code for code in explained if not CODE.fullmatch(code)] == []
    texts = [entry[key] for entry in explained.values() for key in ("title", "why", "remedy")]
    assert [text for text in texts if not text.endswith((".", "...", "?", "!"))] == []


def test_an_explanation_names_a_room_of_the_package(explained, package):
    rooms = {path.name for path in package.iterdir() if path.is_dir()}
    assert {code: entry["room"] for code, entry in explained.items() if entry["room"] not in rooms} == {}


def test_the_rule_of_a_pack_is_the_one_that_is_explained(explained, packs):
    assert {code for code, rule in packs.items() if explained[code].get("rule") != rule["rule"]} == set()
    words = {"E": "error", "W": "warning", "N": "note"}
    assert [code for code, rule in packs.items() if words[code[0]] != rule["severity"]] == []


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
    tree = ast.parse('x = Finding(code="E-COUNTS-01")\ny = "see E-COUNTS-02"\nz = {"E-H5AD-01": "E-COUNTS-1"}')
    assert codes_of(tree) == {"E-COUNTS-01", "E-H5AD-01"}

"""Tables, documents, and places for results."""

import io
import json
import sys

import pytest

from cytolabe.cli.output import (
    made_folder,
    print_document,
    print_error,
    print_findings,
    print_pairs,
    print_table,
    writable_file,
)
from cytolabe.errors import UsageError
from cytolabe.records import Finding, Severity


def finding(code, severity, **facts):
    return Finding(code=code, severity=severity, where="here", message="so", remedy="do that", rule="R1", **facts)


def test_columns_are_as_wide_as_their_content(capsys):
    print_table(["name", "n"], [["a long one", 3], [None, 12]])
    assert capsys.readouterr().out.splitlines() == [
        "name        n",
        "----------  --",
        "a long one  3",
        "            12",
    ]


def test_a_table_without_rows_has_a_header(capsys):
    print_table(["name", "n"], [])
    assert capsys.readouterr().out.splitlines() == ["name  n", "----  -"]


def test_pairs_stand_in_one_column(capsys):
    print_pairs({"a": 1, "longer": ["x", "y"], "none": None})
    assert capsys.readouterr().out.splitlines() == ["a       1", "longer  x, y", "none"]


def test_findings_are_printed_worst_first_with_how_many_and_what_to_do(capsys):
    print_findings(
        [finding("N-A-01", Severity.NOTE), finding("E-B-01", Severity.ERROR, n_affected=3, n_total=1200)],
        where="x.h5ad",
    )
    assert capsys.readouterr().out.splitlines() == [
        "x.h5ad: E-B-01 here (3 of 1,200): so", "    do: do that", "x.h5ad: N-A-01 here: so",
    ]  # fmt: skip


def test_nan_is_never_printed_as_json():
    with pytest.raises(ValueError, match="JSON"):
        print_document({"value": float("nan")})


def test_the_folder_of_a_result_is_made(tmp_path):
    assert writable_file(tmp_path / "a" / "b" / "x.json", "--out") == tmp_path / "a" / "b" / "x.json"
    assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a" / "b" / "x.json").exists()


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path):
    with pytest.raises(UsageError, match=r"--out .* is a folder"):
        writable_file(tmp_path, "--out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        made_folder(tmp_path / "file", "--out")


def test_texts_of_others_cannot_turn_a_line_around_or_color_a_terminal(capsys):
    print_table(["label"], [["B\x1b[31m cells"], ["T\ncells"], ["\u202eNK"]])
    print_pairs({"donor": "d\x07"})
    print_findings([finding("E-B-01", Severity.ERROR, n_affected=1, n_total=2)], where="x\x1b]0;.h5ad")
    print_error("UsageError", "one\ntwo \x1b[0m", as_json=False)
    said = capsys.readouterr()
    assert said.out.splitlines()[2:5] == ["B<U+001B>[31m cells", "T cells", "<U+202E>NK"]
    assert said.err.splitlines() == ["UsageError: one", "two <U+001B>[0m"]
    assert all(character.isprintable() or character == "\n" for character in said.out)


def test_a_document_is_json_in_any_alphabet(monkeypatch):
    for encoding in ("utf-8", "latin-1"):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace"))
        print_document({"label": "\U0001f9a0 \udcff"})
        sys.stdout.flush()
        assert json.loads(raw.getvalue().decode(encoding)) == {"label": "\U0001f9a0 \udcff"}

"""One file of plain Python, which shares no code with the audit, agrees with it, and catches what was forged or is stale."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.audit import verifier
from cytolabe.audit.all_copies import find_copies
from cytolabe.audit.cell_facts import cells_text, counts_text
from cytolabe.audit.certificate import Grounds, certify, joint_digest
from cytolabe.audit.leakage import audit_fold
from cytolabe.provenance import canonical_json, cells_digest, digest_of, jsonable
from cytolabe.records import FitScope
from cytolabe.split.document import split_document
from cytolabe.split.groups import leave_one_group_out

LABELS = np.array(["B", "T", "B", "T", "B", "T", "B", "T", "B", "B", "B", ""], dtype=object)


@pytest.fixture
def folder(overlapping, tmp_path):
    """Write what a run leaves: certificates, split, cells, counts and scores."""
    columns = {"person_id": [f"p{n}" for n in range(12)], "cell_type_ontology_term_id": "CL:0000236"}
    snapshot = overlapping(copies=2, label_origin=["sorted"] * 6 + ["automated"] * 6, **columns)
    report = find_copies(snapshot)
    # The pairs are not given to the split: copies reach across its folds and have to be found.
    split = leave_one_group_out(snapshot, by=("dataset",))
    labels = {"mid": LABELS}
    ids = snapshot.cells["cell_id"].to_numpy(dtype=object)
    certificates = []
    for fold in split.folds:
        scope = FitScope(step="fit", cells_digest=cells_digest(ids[fold.train_rows]), n_cells=len(fold.train_rows))
        audit = audit_fold(snapshot, fold, duplicates=report)
        certificates.append(
            certify(snapshot, fold, audit=audit, scopes={"pca": [scope]}, grounds=Grounds(labels=labels))
        )
    scores = [{"model": "pca", "split": c.split_id, "certificate": c.digest, "value": 0.5} for c in certificates]
    for name, document in (
        ("certificate.json", {"certificates": jsonable(certificates)}),
        ("split.json", split_document(split)),
        ("scores.json", {"scores": scores}),
    ):
        (tmp_path / name).write_bytes(canonical_json(document))
    (tmp_path / "cells.tsv").write_text(cells_text(snapshot.cells, labels, split.folds), encoding="utf-8")
    for name in ("a", "b"):
        rows = np.flatnonzero(snapshot.cells["dataset_id"] == name)
        genes = snapshot.measured_genes(name)
        counts = snapshot.counts(rows, genes)
        entries = [(counts[n].indices, counts[n].data) for n in range(len(rows))]
        (tmp_path / f"counts.{name}.tsv").write_text(counts_text(rows.tolist(), genes, entries), encoding="utf-8")
    return tmp_path


def told(folder: Path, *options: str) -> tuple[int, str]:
    """Run the file alone, without this environment: isolated, and without installed packages."""
    names = ["certificate.json", "split.json", "cells.tsv", "scores.json", "counts.a.tsv", "counts.b.tsv"]
    command = [sys.executable, "-I", "-S", str(verifier.__file__), *(str(folder / name) for name in names), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.stderr == ""
    return done.returncode, done.stdout


def checked(folder: Path) -> list[str]:
    documents = [json.loads((folder / name).read_bytes()) for name in ("certificate.json", "split.json", "scores.json")]
    certificates = documents[0]["certificates"]
    counts = [folder / f"counts.{name}.tsv" for name in "ab"]
    wrong, _ = verifier.verify(certificates, documents[1], folder / "cells.tsv", counts=counts)
    return wrong + verifier.check_scores(certificates, documents[2])


def edit(folder: Path, change, *, reseal: bool = True) -> None:
    """Change the first certificate; sealed anew, its digest tells nothing, and the scores quote it."""
    path = folder / "certificate.json"
    document = json.loads(path.read_bytes())
    first = document["certificates"][0]
    old = first["digest"]
    change(first)
    if reseal:
        first["digest"] = digest_of({key: value for key, value in first.items() if key != "digest"})
        scores = (folder / "scores.json").read_text().replace(old, first["digest"])
        (folder / "scores.json").write_text(scores)
    path.write_bytes(canonical_json(document))


def test_true_certificates_agree_without_any_dependency(folder):
    status, text = told(folder)
    assert status == 0, text
    assert text.endswith("2 certificate(s): 0 disagreement(s)\n")
    assert "component=a: pretraining" not in text
    assert "not computed again: dataset=a: pretraining" in text


def test_a_score_over_all_folds_quotes_the_certificates_of_all_of_them(folder):
    path = folder / "scores.json"
    document = json.loads(path.read_bytes())
    digests = [one["digest"] for one in json.loads((folder / "certificate.json").read_bytes())["certificates"]]
    pooled = {**document["scores"][0], "split": "all folds", "certificate": joint_digest(digests)}
    path.write_bytes(canonical_json({**document, "scores": [*document["scores"], pooled]}))
    assert checked(folder) == []
    for wrong in (digests[0], joint_digest(digests[::-1])):
        path.write_bytes(
            canonical_json({**document, "scores": [*document["scores"], {**pooled, "certificate": wrong}]})
        )
        (found,) = checked(folder)
        assert "on all folds: its score does not quote the certificates of all folds" in found


def test_the_copies_across_the_fold_are_found_again_from_the_counts(folder):
    copies = verifier.read_counts([folder / "counts.a.tsv", folder / "counts.b.tsv"])
    _, cells = verifier.read_cells(folder / "cells.tsv")
    fold = verifier.Fold(cells, list(range(6)), list(range(6, 12)))
    assert verifier.identical(fold, copies, least=(100, 300)) == {"n_tested": 6, "n_found": 2}


def test_near_identical_cells_are_found_again_by_comparing_all_pairs(folder):
    copies = verifier.read_counts([folder / "counts.a.tsv", folder / "counts.b.tsv"])
    _, cells = verifier.read_cells(folder / "cells.tsv")
    fold = verifier.Fold(cells, list(range(6)), list(range(6, 12)))
    assert verifier.near(fold, copies, least=(100, 300)) == (0, 0)
    # Cell 7, an identical copy of cell 1, loses every other count of its larger ones: the same droplet, thinned.
    copies.counts[7] = {gene: n - (n > 1) for gene, n in copies.counts[7].items()}
    assert verifier.near(fold, copies, least=(100, 300)) == (1, 1)
    assert verifier.near(fold, copies, least=(100, 10_000)) == (0, 0)


def test_a_lie_about_near_identical_cells_is_caught_although_it_is_sealed_anew(folder):
    def lie(one):
        (test,) = [test for test in one["tests"] if test["test"] == "near-identical cells"]
        test["n_direct"] += 1

    edit(folder, lie)
    assert checked(folder) == ["dataset=a: near-identical cells: n_direct is 0 to 0, not 1"]


@pytest.mark.parametrize(
    ("name", "field", "value", "found"),
    [
        ("near-identical cells", "n_tested", 10**6, "n_tested is 6, not 1000000"),
        ("identical cells", "min_shared_nonzero", 10**6, "not the frozen minimum of genes"),
        ("shared barcodes", "n_found", 7, "n_found is 0, not 7"),
    ],
)
def test_a_changed_field_is_caught_although_it_is_sealed_anew(folder, name, *, field, value, found):
    def lie(one):
        (test,) = [test for test in one["tests"] if test["test"] == name]
        test[field] = value

    edit(folder, lie)
    assert any(found in text for text in checked(folder))


def test_a_second_test_of_one_name_is_caught(folder):
    edit(folder, lambda one: one["tests"].insert(0, {"test": "near-identical cells", "n_found": 0, "n_tested": 0}))
    assert any("named twice" in text for text in checked(folder))


@pytest.mark.parametrize(("n_direct", "is_wrong"), [(100, False), (96, False), (60, True), (0, True), (101, True)])
def test_a_search_may_miss_as_many_as_its_planted_copies_say_and_no_more(n_direct, *, is_wrong):
    told = {"n_direct": n_direct, "n_found": n_direct, "n_tested": 200, "planted": {"50": [200, 198]}}
    said = {"near-identical cells": told, "identical cells": {"n_found": 0}}
    assert bool(verifier.check_near(said, (100, 100), n_tested=200)) == is_wrong
    told["planted"]["50"] = [200, 120]
    assert verifier.check_near({**said}, (100, 100), n_tested=200) == [] or n_direct in {0, 101}


def test_near_identical_cells_that_only_n_direct_tells_are_caught(folder):
    said = {"near-identical cells": {"n_direct": 20, "n_found": 3, "n_tested": 60}, "identical cells": {"n_found": 5}}
    assert verifier.check_near(said, (20, 20), n_tested=60) == ["near-identical cells: n_found is less than n_direct"]


def test_near_identical_cells_of_large_folds_are_named_as_not_computed_again(folder, monkeypatch):
    assert "near-identical" not in told(folder)[1]
    monkeypatch.setattr(verifier, "NEAR_PAIRS", 3)
    documents = [json.loads((folder / name).read_bytes()) for name in ("certificate.json", "split.json")]
    counts = [folder / f"counts.{name}.tsv" for name in "ab"]
    _, open_ = verifier.verify(documents[0]["certificates"], documents[1], folder / "cells.tsv", counts=counts)
    assert "dataset=a: near-identical cells" in open_


def test_a_flipped_digest_is_caught(folder):
    edit(folder, lambda one: one.update(digest="sha256:" + "0" * 64), reseal=False)
    status, text = told(folder)
    assert status == 1
    assert "it was edited" in text
    assert "its score quotes no certificate of its fold" in text


def test_a_changed_number_is_caught_by_the_digest_and_sealed_anew_by_the_data(folder):
    def found_nothing(one):
        for test in one["tests"]:
            if test["test"] == "identical cells":
                test["n_found"] = 0

    edit(folder, found_nothing)
    assert checked(folder) == ["dataset=a: identical cells: n_found is 2, not 0"]


@pytest.mark.parametrize(
    "name",
    ["sides", "shared persons", "shared donor names", "shared libraries", "label origin", "estimability, mid",
     "facts of cells", "identical cells"],
)  # fmt: skip
def test_a_lie_about_one_test_is_caught_although_it_is_sealed_anew(folder, name):
    def lie(one):
        (test,) = [test for test in one["tests"] if test["test"] == name]
        test["n_found"] += 1

    edit(folder, lie)
    assert any(text.startswith(f"dataset=a: {name}") for text in checked(folder))


@pytest.mark.parametrize("name", [*verifier.REQUIRED, *verifier.SINCE_4, *verifier.SINCE_5, "fit scope of pca"])
def test_a_removed_test_is_caught(folder, name):
    edit(folder, lambda one: one.update(tests=[test for test in one["tests"] if test["test"] != name]))
    assert [text for text in checked(folder) if "missing" in text or "nobody tested" in text or "not the table" in text]


def test_a_step_that_met_test_cells_cannot_be_called_something_else(folder):
    _, cells = verifier.read_cells(folder / "cells.tsv")

    def leak(one):
        for test in one["tests"]:
            for step in test.get("steps", []):
                step["cells_digest"] = cells_digest(cell["cell_id"] for cell in cells)

    edit(folder, leak)
    assert checked(folder) == [
        "dataset=a: fit scope of pca: step fit met test cells, and the certificate does not say so"
    ]


def test_another_split_and_another_snapshot_are_caught(folder):
    path = folder / "split.json"
    split = json.loads(path.read_bytes())
    one, other = split["splits"]
    one["train_rows_digest"], one["test_rows_digest"] = one["test_rows_digest"], one["train_rows_digest"]
    path.write_bytes(canonical_json(split))
    assert "dataset=a: sides: the test side is not the one of split.json" in checked(folder)
    split["snapshot_id"] = "sha256:" + "1" * 64
    path.write_bytes(canonical_json(split))
    assert checked(folder)[:1] == ["dataset=a: certificate and split are of two snapshots: one of them is stale"]
    path.write_bytes(canonical_json({**split, "splits": [other]}))
    assert any("no such fold" in text or "two snapshots" in text for text in checked(folder))


def test_a_fold_without_a_certificate_is_told(folder):
    path = folder / "certificate.json"
    path.write_bytes(canonical_json({"certificates": json.loads(path.read_bytes())["certificates"][1:]}))
    assert "dataset=a: the split has this fold, and no certificate" in checked(folder)


@pytest.mark.parametrize(("old", "new"), [("p3", "p9"), ("automated", "sorted"), ("b:cell1\t", "b:cell9\t")])
def test_an_edited_table_of_cells_is_caught(folder, old, new):
    path = folder / "cells.tsv"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert any("not the table of cells that was certified" in line for line in checked(folder))


def test_moved_thresholds_are_caught(folder):
    edit(folder, lambda one: one["thresholds"].update(max_stray_permille=500))
    assert checked(folder) == ["dataset=a: thresholds: they are not those that were frozen as version 5"]


def test_an_older_version_without_the_newer_tests_is_refused_unless_it_is_asked_for_and_then_named_as_weaker(folder):
    def older(one):
        newer = {*verifier.SINCE_4, *verifier.SINCE_5}
        one["tests"] = [test for test in one["tests"] if test["test"] not in newer]
        one["thresholds"] = {**one["thresholds"], **verifier.FROZEN[3]}

    edit(folder, older)
    status, text = told(folder)
    assert status == 1
    assert "WRONG: dataset=a: thresholds: it claims audit version 3, and this verifier knows 5" in text
    assert "not for genes that hold a code, columns that hold a code, fits of delivered files" in text
    assert text.endswith("2 certificate(s): 1 disagreement(s)\n")
    status, text = told(folder, verifier.OLDER)
    assert status == 0
    assert "WEAKER: dataset=a: thresholds: it claims audit version 3" in text


@pytest.mark.parametrize(("name", "is_needed"), [("pca", False), ("pca+knn", True), ("pca+other", False)])
def test_scores_of_an_embedding_need_the_test_of_its_dimensions(folder, name, *, is_needed):
    test = {"test": "dimensions of pca that hold a code", "n_tested": 4, "n_found": 0}
    edit(folder, lambda one: one["tests"].append({"test": f"fit scope of {name}", "steps": []}))
    path = folder / "scores.json"
    document = json.loads(path.read_bytes())
    document["scores"][0]["model"] = name
    path.write_bytes(canonical_json(document))
    lacks = "nobody looked for labels in its dimensions"
    assert any(lacks in text for text in checked(folder)) == is_needed
    edit(folder, lambda one: one["tests"].append(test))
    assert not any(lacks in text for text in checked(folder))


def test_wrong_usage_tells_how(capsys):
    assert verifier.main([]) == 2
    assert "python verify_certificate.py" in capsys.readouterr().err


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(value=JSON)
def test_its_canonical_json_is_ours(value):
    try:
        expected = canonical_json(value)
    except UnicodeEncodeError:
        return
    assert verifier.canonical(value).encode() == expected


@pytest.mark.parametrize(
    ("model", "protocol", "is_caught"),
    [
        ("pca", "self_supervised", False),
        ("control: shuffled", "control", False),
        ("ghost", "self_supervised", True),
        ("ghost", "control", True),
        ("control: ghost", "self_supervised", True),
    ],
)
def test_an_embedding_was_looked_at_with_its_probes_and_only_controls_with_nobody(folder, model, protocol, is_caught):
    path = folder / "scores.json"
    document = json.loads(path.read_bytes())
    row = {**document["scores"][0], "model": model, "task": "integration", "protocol": protocol}
    path.write_bytes(canonical_json({"scores": [*document["scores"], row]}))
    wrong = checked(folder)
    assert any("nobody tested" in text for text in wrong) == is_caught, wrong

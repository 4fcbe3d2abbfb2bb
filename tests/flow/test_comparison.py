"""Two runs are compared by what they rest on: the planted difference comes first, what follows from it later."""

import copy
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.flow.comparison import CAUSES, compare_runs, score_differences
from cytolabe.ontology.graph import load_ontology
from cytolabe.provenance import canonical_json, digest_of
from cytolabe.provenance.differences import ABSENT, differences
from cytolabe.reconcile import write_sssom
from cytolabe.records import LabelMapping, Predicate

PARENTS = [(role, f"the {role}") for role in CAUSES if role not in {"input", "parameter", "seed", "environment"}]
BODY = {
    "kind": "benchmark",
    "inputs": [{"role": "source", "name": "kang.h5ad", "sha256": "0" * 64, "n_bytes": 1}],
    "outputs": [],
    "parameters": {"seed": 0, "by": ["component"], "persons": [], "levels_digest": "l"},
    "environment": {"numpy": "2.4.6"},
    "parents": [{"role": role, "name": name, "digest": "sha256:" + "0" * 64} for role, name in PARENTS],
    "snapshot_id": "sha256:0",
}
ROW = {
    "task": "annotation", "split": "component=kang", "gene_policy": "intersection", "resolution": "mid", "model": "pca+knn",
    "metric": "macro_f1", "stratum": "all", "value": 0.7, "raw_value": None, "low": 0.6, "high": 0.8, "floor": 0.1,
    "ceiling": 0.9, "status": "SCORED", "n_cells": 10, "n_donors": 2, "n_genes": 5,
}  # fmt: skip
MAPPING = LabelMapping(
    dataset_id="kang", contributor_label="B cells", predicate=Predicate.EXACT, term="CL:0000236", term_name="B cell",
    justification="semapv:LexicalMatching", confidence=900, decision="auto",
    ontology_release=load_ontology("CL").release,
)  # fmt: skip


def plant(body, kind):
    """Change one thing of a record."""
    if kind == "input":
        body["inputs"][0]["sha256"] = "1" * 64
    elif kind == "seed":
        body["parameters"]["seed"] = 1
    elif kind == "parameter":
        body["parameters"]["by"] = ["dataset"]
    elif kind == "environment":
        body["environment"]["numpy"] = "2.5.0"
    else:
        next(row for row in body["parents"] if row["role"] == kind)["digest"] = "sha256:" + "1" * 64


def write(folder, *, kinds=(), scores=(ROW,), levels="l", mapping=MAPPING):
    body = copy.deepcopy(BODY)
    for kind in kinds:
        plant(body, kind)
    folder.mkdir()
    (folder / "run.json").write_bytes(canonical_json({**body, "record_id": digest_of(body)}))
    document = {"scores": list(scores), "levels_digest": levels, "ontology_release": "r"}
    (folder / "scores.json").write_bytes(canonical_json(document))
    write_sssom([mapping], folder / "mappings.sssom.tsv", ontology=load_ontology("CL"))
    return folder


def test_two_equal_runs_differ_in_nothing(tmp_path):
    found = compare_runs(write(tmp_path / "a"), write(tmp_path / "b"))
    assert (found.first, found.causes, found.scores, found.n_same, found.incomparable) == (None, (), (), 1, "")


@pytest.mark.parametrize("kind", CAUSES)
def test_a_planted_difference_is_the_only_one_and_named(tmp_path, kind):
    found = compare_runs(write(tmp_path / "a"), write(tmp_path / "b", kinds=[kind]))
    assert [cause.kind for cause in found.causes] == [kind]
    assert found.first.first != found.first.second


@pytest.mark.parametrize(("earlier", "later"), list(itertools.pairwise(CAUSES)))
def test_what_is_nearer_to_the_data_comes_first(tmp_path, earlier, later):
    found = compare_runs(write(tmp_path / "a"), write(tmp_path / "b", kinds=[later, earlier]))
    assert [cause.kind for cause in found.causes] == [earlier, later]


def test_a_changed_seed_is_named_with_both_values(tmp_path):
    first = compare_runs(write(tmp_path / "a"), write(tmp_path / "b", kinds=["seed"])).first
    assert (first.kind, first.name, first.first, first.second) == ("seed", "seed", "0", "1")


def test_of_other_mappings_the_row_is_named(tmp_path):
    other = LabelMapping(**{**vars(MAPPING), "term": "CL:0000623", "term_name": "natural killer cell"})
    found = compare_runs(write(tmp_path / "a"), write(tmp_path / "b", kinds=["mapping"], mapping=other))
    assert found.first.name == "'B cells' of kang, term"
    assert (found.first.first, found.first.second) == ("CL:0000236", "CL:0000623")


def test_scores_under_other_levels_are_no_same_metric(tmp_path):
    found = compare_runs(write(tmp_path / "a"), write(tmp_path / "b", levels="other"))
    assert "levels_digest differs" in found.incomparable


def test_the_largest_difference_of_a_value_comes_first():
    rows = [{**ROW, "metric": name, "value": 0.5} for name in ("a", "b", "c")]
    after = [{**rows[0], "value": 0.4}, {**rows[1], "value": 0.9, "status": "QUALIFIED"}, rows[2]]
    n_same, told = score_differences(rows, after)
    assert n_same == 1
    assert [(row.score["metric"], row.field, row.delta) for row in told] == [
        ("b", "value", 0.4), ("a", "value", -0.1), ("b", "status", None),
    ]  # fmt: skip


def test_a_score_that_only_one_run_has_is_told_with_its_value_or_status():
    refused = {**ROW, "model": "scvi", "value": None, "status": "REFUSED"}
    _, told = score_differences([ROW], [refused])
    assert [(row.field, row.first, row.second) for row in told] == [("row", 0.7, ABSENT), ("row", ABSENT, "REFUSED")]


def test_an_edited_record_is_not_compared(tmp_path):
    run = write(tmp_path / "a")
    (run / "run.json").write_text((run / "run.json").read_text().replace('"seed":0', '"seed":1'))
    with pytest.raises(IntegrityError):
        compare_runs(run, write(tmp_path / "b"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="not the folder of a run"):
        compare_runs(tmp_path / "empty", tmp_path / "b")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_two_values_differ_if_and_only_if_a_path_is_told(first, second):
    told = list(differences(first, second))
    assert bool(told) == (json.dumps(first, sort_keys=True) != json.dumps(second, sort_keys=True))


@given(VALUES)
def test_the_order_of_named_items_does_not_matter(value):
    items = [{"role": "x", "name": name, "value": value} for name in ("a", "b", "c")]
    assert list(differences(items, items[::-1])) == []
    assert [found.path for found in differences({"in": items}, {"in": items[1:]})] == ["in[x a]"]

"""Association per donor, never per cell; undefined is never zero."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats.contingency import association, crosstab
from sklearn.metrics import mutual_info_score

from cytolabe.audit.confounding import ALL_TECHNICAL, ConfoundingRow, audit_confounding
from cytolabe.audit.designs import cramers_v, design_of, lost_contrasts, theils_u
from cytolabe.records import ScoreStatus
from cytolabe.snapshot.view import CELL_COLUMNS

TABLES = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 9), min_size=width, max_size=width), min_size=2, max_size=5)
)


def cells_of(rows: list[dict[str, str]], *, repeat: int = 1) -> pd.DataFrame:
    frame = pd.DataFrame([row for row in rows for _ in range(repeat)])
    for column in CELL_COLUMNS:
        if column not in frame:
            frame[column] = "unknown"
    frame["person_state"] = np.where(frame["person_id"] == "unknown", "unknown", "resolved")
    return frame


def row_of(rows: tuple[ConfoundingRow, ...], technical: str, biological: str, *, dataset_id: str | None = None):
    (found,) = [r for r in rows if (r.dataset_id, r.technical, r.biological) == (dataset_id, technical, biological)]
    return found


def donors(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [
        {"dataset_id": "d1", "person_id": f"p{n}", "batch": f"b{n}", "assay": assay, "disease": disease}
        for n, (assay, disease) in enumerate(pairs)
    ]


@settings(max_examples=60, deadline=None)
@given(table=TABLES)
def test_the_corrected_v_follows_from_the_plain_one_as_bergsma_says(table):
    counts = np.array(table)
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0] if counts.sum() else counts[:0]
    found = cramers_v(np.array(table))
    if min(counts.shape, default=0) < 2:
        assert found is None
        return
    n, (r, k) = counts.sum(), counts.shape
    plain = association(counts, method="cramer") ** 2 * min(r - 1, k - 1)
    corrected = max(0.0, plain - (r - 1) * (k - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)) - 1
    if smaller < 1e-9:
        assert found is None
    else:
        assert found == pytest.approx(min(1.0, np.sqrt(corrected / smaller)), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_theils_u_is_mutual_information_over_entropy(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    counts = np.asarray(crosstab(a, b).count)
    entropy = mutual_info_score(b, b)
    if len(set(b.tolist())) < 2:
        assert theils_u(counts) is None
    else:
        assert theils_u(counts) == pytest.approx(mutual_info_score(a, b) / entropy, abs=1e-9)


def test_v_is_undefined_and_not_zero_when_every_unit_is_its_own_level():
    assert cramers_v(np.eye(9, dtype=np.int64)) is None


def test_a_disease_nested_in_a_platform_is_found():
    rows, findings = audit_confounding(cells_of(donors([("v2", "normal")] * 4 + [("v3", "flu")] * 4)))
    row = row_of(rows, "assay", "disease", dataset_id="d1")
    assert (row.unit, row.n_donors, row.estimable, row.status) == ("donor", 8, False, ScoreStatus.REFUSED)
    assert row.cramers_v == pytest.approx(1.0)
    nested = [finding for finding in findings if finding.where == "d1: disease in assay"]
    assert [finding.code for finding in nested] == ["W-CONF-01"]
    assert nested[0].examples == ("v2: normal (donor p0)", "v3: flu (donor p4)")


def test_a_disease_crossed_with_the_platform_gives_no_finding():
    pairs = [(assay, disease) for assay in ("v2", "v3") for disease in ("normal", "flu")] * 4
    rows, findings = audit_confounding(cells_of(donors(pairs)))
    row = row_of(rows, "assay", "disease", dataset_id="d1")
    assert (row.cramers_v, row.estimable, row.status) == (0.0, True, ScoreStatus.SCORED)
    assert findings == ()


def test_one_library_per_donor_is_not_called_confounding():
    rows, findings = audit_confounding(cells_of(donors([("v2", "normal")] * 4 + [("v2", "flu")] * 4)))
    row = row_of(rows, "batch", "disease", dataset_id="d1")
    assert row.cramers_v is None
    assert not row.estimable
    assert findings == ()


def test_cells_do_not_count_as_units():
    pairs = donors([("v2", "normal"), ("v2", "flu"), ("v3", "normal"), ("v3", "flu")] * 3)
    assert audit_confounding(cells_of(pairs))[0] == audit_confounding(cells_of(pairs, repeat=50))[0]


def test_sorted_populations_equal_their_batches_and_v_is_undefined():
    sorted_types = [
        {"dataset_id": "z", "person_id": "unknown", "batch": name, "cell_type": name} for name in "abcdefghi"
    ]
    rows, findings = audit_confounding(cells_of(sorted_types, repeat=20))
    row = row_of(rows, "batch", "cell_type", dataset_id="z")
    assert (row.unit, row.n_donors, row.n_units) == ("library", None, 9)
    assert (row.cramers_v, row.estimable, row.status) == (None, False, ScoreStatus.REFUSED)
    assert "z: cell_type in batch" in {finding.where for finding in findings}


def test_unreconciled_labels_serve_inside_their_data_set_only_and_are_named():
    rows, _ = audit_confounding(
        cells_of([{"dataset_id": "z", "person_id": "unknown", "batch": x, "contributor_label": x} for x in "ab"])
    )
    assert row_of(rows, "batch", "contributor_label", dataset_id="z").status is ScoreStatus.REFUSED
    assert row_of(rows, "batch", "cell_type").status is ScoreStatus.NOT_RUN


def test_an_empty_snapshot_has_nothing_to_confound():
    assert audit_confounding(cells_of(donors([("v2", "normal")])).iloc[:0]) == ((), ())


def test_what_several_platforms_determine_together_is_told_in_one_row():
    """No single column determines the disease, but assay and site together leave it no contrast."""
    rows = donors([("v2", "normal"), ("v2", "flu"), ("v3", "normal")] * 2)
    for row, site in zip(rows, ["x", "y", "x", "x", "y", "x"], strict=True):
        row["site"] = site
    found, findings = audit_confounding(cells_of(rows), biological=("disease",))
    joint = row_of(found, ALL_TECHNICAL, "disease", dataset_id="d1")
    assert (joint.n_lost, joint.estimable, joint.status) == (1, False, ScoreStatus.REFUSED)
    assert joint.reason == "1 of 1 contrast(s) are determined by assay, site"
    assert row_of(found, "assay", "disease", dataset_id="d1").estimable
    assert [finding.where for finding in findings if finding.where.startswith("d1")] == ["d1: disease in site"]


def test_groups_of_types_that_never_meet_are_found_though_no_library_holds_one_type():
    cells = [
        {"dataset_id": "d", "person_id": f"p{name}", "batch": f"b{name}", "cell_type": cell_type}
        for name, types in (("1", "ab"), ("2", "ab"), ("3", "cd"), ("4", "cd"))
        for cell_type in types
    ]
    rows, findings = audit_confounding(cells_of(cells))
    row = row_of(rows, "batch", "cell_type", dataset_id="d")
    assert (row.n_components, row.n_lost, row.nesting) == (2, 1, "partly_crossed")
    (found,) = [one for one in findings if one.where == "d: cell_type in batch"]
    assert found.code == "W-CONF-02"
    assert len(found.examples) >= 2


def test_chemistry_that_is_always_cells_or_always_nuclei_is_a_note():
    rows = [
        {"dataset_id": "liver", "person_id": f"p{n}", "batch": f"b{n}", "assay": assay, "suspension_type": kind}
        for n, (assay, kind) in enumerate([("v2", "cell"), ("v3", "nucleus")] * 3)
    ]
    found, findings = audit_confounding(cells_of(rows))
    row = row_of(found, "assay", "suspension_type", dataset_id="liver")
    assert (row.nesting, row.status) == ("one_to_one", ScoreStatus.REFUSED)
    assert ("N-CONF-03", "liver: suspension_type in assay") in {(one.code, one.where) for one in findings}


@pytest.mark.parametrize(
    ("pairs", "shortcut"),
    [
        ([("v2", "normal")] * 4 + [("v3", "flu")] * 4, 1.0),
        ([("v2", "normal"), ("v2", "flu"), ("v3", "normal"), ("v3", "flu")] * 3, 0.0),
        ([(f"v{n}", x) for n, x in enumerate(["normal", "flu"] * 3)], None),
    ],
    ids=["the technique gives it away", "leaving one out of a crossed design points the other way", "levels unseen"],
)
def test_the_shortcut_names_a_unit_by_the_technique_of_the_others(pairs, shortcut):
    rows, _ = audit_confounding(cells_of(donors(pairs)))
    assert row_of(rows, "assay", "disease", dataset_id="d1").shortcut == shortcut


@settings(max_examples=60, deadline=None)
@given(levels=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=25))
def test_the_shortcut_is_what_a_loop_over_left_out_units_gives(levels):
    triples = sorted(set(levels))
    technical, biological, units = (np.array(side) for side in zip(*triples, strict=True))
    found = design_of(units, technical, biological).shortcut()
    hits: dict[int, list[float]] = {}
    for t, b, u in triples:
        votes = Counter(b2 for t2, b2, u2 in triples if t2 == t and u2 != u)
        if len({u2 for t2, _, u2 in triples if t2 == t}) >= 2:
            best = [name for name, n in votes.items() if n == max(votes.values())]
            hits.setdefault(b, []).append((b in best) / len(best))
    comparable = len({t for t, _, _ in triples}) > 1 and len({b for _, b, _ in triples}) > 1
    if len(hits) < 2 or not comparable:
        assert found is None
    else:
        assert found == pytest.approx(np.mean([np.mean(values) for values in hits.values()]))


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=20))
def test_lost_contrasts_are_the_rank_that_is_missing(pairs):
    technical, biological = (np.array(side) for side in zip(*pairs, strict=True))
    design = design_of(np.arange(len(pairs)), technical, biological)
    columns = [np.ones((len(pairs), 1))]
    columns += [np.equal.outer(side, np.unique(side)).astype(float) for side in (technical, biological)]
    rank = np.linalg.matrix_rank(np.hstack(columns)) - np.linalg.matrix_rank(np.hstack(columns[:2]))
    missing = len(set(biological.tolist())) - 1 - rank
    assert design.n_lost == missing
    assert lost_contrasts([technical], biological) == missing


def test_each_different_row_once_says_as_much_as_all_cells():
    cells = cells_of(donors([("v2", "normal"), ("v2", "flu"), ("v3", "normal")] * 3), repeat=7)
    assert audit_confounding(cells) == audit_confounding(cells.drop_duplicates())

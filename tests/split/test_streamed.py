"""Splits whose cells pass by in blocks: byte for byte those of a whole table of cells, in memory that does not grow with it."""

import dataclasses
import tracemalloc
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.provenance import canonical_json
from cytolabe.records import UNKNOWN, DatasetRecord, LabelMapping, MatrixKind, Predicate
from cytolabe.snapshot import strata
from cytolabe.snapshot.build import OVERLAY_COLUMNS
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.relations import Relations
from cytolabe.snapshot.strata import strata_of
from cytolabe.snapshot.view import CELL_COLUMNS
from cytolabe.split import ColumnOfWord, RuleKind, SplitRule, plan_document, plan_rule, split_document, split_of
from cytolabe.split.groups import rule_text
from cytolabe.store import scans, tables
from cytolabe.store.tables import write_table
from cytolabe.testing.memory import MemorySnapshot

NAMES = ("a", "b", "c")
PERSONS = {("a", "d1"): "p1", ("a", "d2"): "p2", ("b", "d1"): "p1", ("b", "d3"): "p3", ("c", "d1"): "p4"}
OF_A_GENE = tuple(ColumnOfWord(word="perturbation", dataset_id=name, column="guide") for name in NAMES)
RULES = (
    SplitRule(kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=("component",)),
    SplitRule(kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=("library",)),
    SplitRule(kind=RuleKind.GROUPED_FOLDS, by=("batch", "site"), n_folds=2, n_inner=2, n_repeats=2),
    SplitRule(kind=RuleKind.HOLD_OUT_GROUPS, by=("person",), test_fraction=0.4),
    SplitRule(kind=RuleKind.GROUPED_FOLDS, by=("cells",), n_folds=3),
    SplitRule(kind=RuleKind.HOLD_OUT_GROUPS, by=("cells",), test_fraction=0.3),
    SplitRule(
        kind=RuleKind.UNSEEN_PERTURBATION, by=("perturbation",), test_fraction=0.5, controls=("ctrl",), columns=OF_A_GENE
    ),
    SplitRule(
        kind=RuleKind.LEAVE_ONE_GROUP_OUT, by=("contributed.guide",),
        columns=(ColumnOfWord(word="contributed.guide", dataset_id="a", column="guide"),),
    ),
)  # fmt: skip
CELL = st.tuples(
    st.sampled_from(["d1", "d2", "d3", UNKNOWN]), st.sampled_from(["B", "T", ""]), st.sampled_from(["l1", "l2", "l3"]),
    st.sampled_from(["x", "y"]), st.sampled_from(["ctrl", "KLF1", "GATA1", "KLF1+GATA1", None]),
)  # fmt: skip


class TablesOnly(Snapshot):
    """A snapshot of tables of cells and contributors alone, of which some rows may have been withdrawn."""

    def __init__(self, home, frames, *, dropped=()):
        self.layout = Layout(Path(home))
        self.layout.tables.mkdir(parents=True, exist_ok=True)
        self._entries = {name: self._entry_of(name, frame) for name, frame in frames.items()}
        gone = {name: np.array([row for row in rows if row < len(frames[name])], np.int64) for name, rows in dropped}
        self._gone = {name: rows for name, rows in gone.items() if len(rows)}
        self._snapshot_id, self._rows, self._overlays = "sha256:tables", {}, {}
        self._body = {"gene_reference": "", "ontology_release": ""}

    def _entry_of(self, name, frame):
        facts = {
            column: np.arange(len(frame)) if kind.startswith("int64") else frame.get(column, UNKNOWN)
            for column, kind in CELL_COLUMNS.items()
            if column not in OVERLAY_COLUMNS
        }
        facts |= {"dataset_id": name, "study": name, "cell_id": [f"{name}:{row}" for row in range(len(frame))]}
        cells = pd.DataFrame(facts, index=range(len(frame)))
        # A contributor's table is not cut into the same row groups.
        size, tables.ROW_GROUP = tables.ROW_GROUP, tables.ROW_GROUP - 1
        contributed = write_table(frame[["guide"]], self.layout.tables)
        tables.ROW_GROUP = size
        record = DatasetRecord(
            dataset_id=name, title=name, source_digest="sha256:", matrix="X", matrix_kind=MatrixKind.UMI,
            n_cells=len(frame), n_features=0, n_nonzero=0, organism="Homo sapiens", study=name,
        )  # fmt: skip
        written = {"cells": write_table(cells, self.layout.tables), "contributed": contributed}
        return DatasetEntry(
            dataset_id=name, digest="", record=record, partitions=(), tables=written, gene_reference="",
            alignment_digest="",
        )  # fmt: skip

    @cached_property
    def _excluded(self):
        return self._gone

    @cached_property
    def persons(self):
        known = [(*key, person, "resolved", "") for key, person in PERSONS.items()]
        return pd.DataFrame(known, columns=["dataset_id", "donor_id", "person_id", "person_state", "evidence"])

    @cached_property
    def mappings(self):
        return (
            LabelMapping(
                dataset_id="a", contributor_label="B", predicate=Predicate.EXACT, term="CL:0000236", term_name="B cell",
                justification="semapv:LexicalMatching", confidence=900, decision="auto", ontology_release="simulated",
            ),
        )  # fmt: skip

    @cached_property
    def relations(self):
        return Relations(self.layout, self._entries, lambda: self.persons, lambda: self.mappings, self._excluded)


def frame_of(cells):
    return pd.DataFrame(cells, columns=["donor_id", "contributor_label", "batch", "site", "guide"], dtype=object)


def listed(snapshot, rule, *, seed):
    """Return the document of a split that is made of the whole table of cells, with the rows of every side listed."""
    guides = pd.concat([snapshot.contributed(name) for name in snapshot.entries], ignore_index=True)["guide"]
    cells = snapshot.cells.assign(guide=guides.where(guides.notna(), UNKNOWN))
    whole = MemorySnapshot(cells=cells, matrices={}, genes={}, datasets={}, snapshot_id=snapshot.snapshot_id)
    plan = plan_rule(whole, rule, seed=seed)
    (numbers,) = plan.strata.blocks()

    def with_rows(fold, planned):
        sides = {
            "train_rows": np.flatnonzero(planned.train[numbers]),
            "test_rows": np.flatnonzero(planned.test[numbers]),
        }
        inner = tuple(with_rows(one, own) for one, own in zip(fold.inner, planned.inner, strict=True))
        return dataclasses.replace(fold, **sides, inner=inner)

    split = split_of(plan)
    folds = tuple(with_rows(fold, planned) for fold, planned in zip(split.folds, plan.planned, strict=True))
    return split_document(dataclasses.replace(split, folds=folds))


@settings(max_examples=40, deadline=None)
@given(
    design=st.lists(st.lists(CELL, min_size=1, max_size=24), min_size=1, max_size=3), rule=st.sampled_from(RULES),
    dropped=st.sets(st.integers(1, 23)), block=st.sampled_from([1, 4, 1000]), seed=st.integers(0, 3),
)  # fmt: skip
def test_the_file_of_a_split_is_that_of_the_whole_table_of_cells(tmp_path_factory, design, rule, dropped, block, seed):
    rule = dataclasses.replace(
        rule, columns=tuple(one for one in rule.columns if one.dataset_id in NAMES[: len(design)])
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ROW_GROUP", 7)
        patch.setattr(strata, "_BLOCK", block)
        frames = {name: frame_of(cells) for name, cells in zip(NAMES, design, strict=False)}
        snapshot = TablesOnly(tmp_path_factory.mktemp("tables"), frames, dropped=[("a", sorted(dropped))])
        expected, refusal = None, ""
        try:
            expected = listed(snapshot, rule, seed=seed)
        except UsageError as error:  # fewer groups than folds
            refusal = str(error)
        if expected is None:
            with pytest.raises(UsageError) as found:
                plan_rule(snapshot, rule, seed=seed)
            assert str(found.value) == refusal
            return
        plan = plan_rule(snapshot, rule, seed=seed)
        assert canonical_json(plan_document(plan)) == canonical_json(expected)
        assert canonical_json(split_document(split_of(plan))) == canonical_json(expected)
        assert rule_text(plan.rule) == rule_text(rule)


def test_the_rows_of_some_cells_are_those_among_all(tmp_path, monkeypatch):
    monkeypatch.setattr(strata, "_BLOCK", 3)
    cells = [(f"d{row % 4}", "B", "l1", "x", "ctrl") for row in range(20)]
    snapshot = TablesOnly(tmp_path, {"a": frame_of(cells), "b": frame_of(cells)}, dropped=[("a", [0, 7])])
    found = strata_of(snapshot, ["dataset_id", "donor_id"])
    every = found.number_of_row()
    assert found.n_cells == len(every) == 38
    positions = np.array([37, 0, 5, 5, 18, 17, 36])
    assert found.numbers_of(positions).tolist() == every[positions].tolist()


def test_a_table_of_a_contributor_that_ends_before_its_cells_is_refused(tmp_path):
    cells = [("d1", "B", "l1", "x", "ctrl")] * 6
    snapshot = TablesOnly(tmp_path, {"a": frame_of(cells)})
    entry = snapshot.entries["a"]
    entry.tables["contributed"] = write_table(frame_of(cells[:4])[["guide"]], snapshot.layout.tables)
    with pytest.raises(IntegrityError, match="2 rows before"):
        strata_of(snapshot, ["donor_id"], extra={"perturbation": {"a": "guide"}})


def test_a_table_of_a_contributor_that_is_longer_than_its_cells_is_refused(tmp_path):
    cells = [("d1", "B", "l1", "x", "ctrl")] * 6
    snapshot = TablesOnly(tmp_path, {"a": frame_of(cells), "b": frame_of(cells)})
    entry = snapshot.entries["a"]
    entry.tables["contributed"] = write_table(frame_of(cells * 2)[["guide"]], snapshot.layout.tables)
    with pytest.raises(IntegrityError, match="a: the contributor's table has 12 rows for 6 cells"):
        strata_of(snapshot, ["donor_id"], extra={"perturbation": {"a": "guide"}})
    assert strata_of(snapshot, ["donor_id"]).n_cells == 12


def test_the_memory_of_a_split_does_not_grow_with_the_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(strata, "_BLOCK", 1 << 10)
    monkeypatch.setattr(scans, "_HASHED_WHOLE", 0)  # a small file is read whole, up to 1 MiB
    rules = [rule for rule in RULES if not rule.columns and rule.by != ("batch", "site")]
    peaks = []
    for n_cells in (8_000, 64_000):
        cells = frame_of([(f"d{row % 5}", "BT"[row % 2], f"l{row % 3}", "x", "ctrl") for row in range(n_cells)])
        snapshot = TablesOnly(tmp_path / str(n_cells), {"a": cells, "b": cells})
        for rule in rules:
            plan_document(plan_rule(snapshot, rule, seed=0))
        tracemalloc.start()
        for rule in rules:
            plan_document(plan_rule(snapshot, rule, seed=0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # One byte for each cell would be 112,000 more.
    assert peaks[1] < peaks[0] + 100_000, peaks

"""What a careless or hostile study brings: each planned row still appears, with the right status and the right reason."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from cytolabe.errors import LeakageError, UsageError
from cytolabe.evaluate import ModelPlan, evaluate_study, fitting
from cytolabe.models.cards import CARDS
from cytolabe.records import Fold, LabelMapping, Predicate, Protocol, ScoreStatus, Split
from cytolabe.split import leave_one_group_out

T, B, NK, MONO, DC = "CL:0000084", "CL:0000236", "CL:0000623", "CL:0000576", "CL:0000451"
LYMPHOCYTE = "CL:0000542"
TYPES = {T: 40, B: 30, NK: 24, MONO: 30}
FOLD = "component=lab_a"
BELIEVED = {ScoreStatus.SCORED, ScoreStatus.QUALIFIED}


def row(result, model="pca+knn", **wanted):
    wanted = {"metric": "macro_f1", "stratum": "all", "resolution": "fine", "split": FOLD, "model": model, **wanted}
    wanted = {"gene_policy": "intersection", **wanted}
    (found,) = [s for s in result.scores if all(getattr(s, name) == value for name, value in wanted.items())]
    return found


def scored(study, **changes):
    return evaluate_study(study.snapshot, **study.arguments(**changes))


def file_of(tmp_path, snapshot, *, name="given", drop=0, **columns):
    table = pd.DataFrame({"cell_id": snapshot.cells["cell_id"], **columns})
    path = tmp_path / f"{name}.parquet"
    table.iloc[drop:].to_parquet(path)
    return ModelPlan(name=f"precomputed:{name}", options={"path": path})


def one_hot(snapshot):
    codes = pd.factorize(snapshot.cells["cell_type_ontology_term_id"], sort=True)[0]
    return {f"d{k}": (codes == k).astype(float) for k in range(codes.max() + 1)}


# --- genes


def test_a_test_data_set_without_a_gene_in_common_is_refused_by_name_of_the_cause(simulated_study, lab):
    study = simulated_study(
        lab_a=lab(types=TYPES, genes=range(600, 620)), lab_b=lab(types=TYPES, genes=range(300)),
        lab_c=lab(types=TYPES, genes=range(300)), plan={"gene_policies": ("intersection", "pairwise")},
    )  # fmt: skip
    result = scored(study)
    for policy in ("intersection", "pairwise"):
        found = row(result, gene_policy=policy)
        assert found.status is ScoreStatus.REFUSED
        assert found.reason == "no gene is measured by all data sets of both sides"
        assert found.value is found.raw_value is None


def test_a_query_that_only_partly_shares_genes_says_how_many_cells_are_out_of_reach(simulated_study, lab):
    study = simulated_study(
        n_folds=3, plan={"gene_policies": ("pairwise",)},
        lab_a=lab(types=TYPES, study="s", genes=range(300)),
        lab_a2=lab(types={T: 20, B: 20}, study="s", genes=range(600, 620)),
        lab_b=lab(types=TYPES, genes=range(300)), lab_c=lab(types=TYPES, genes=range(300)),
    )  # fmt: skip
    found = row(scored(study), split="component=s", gene_policy="pairwise")
    assert found.status is ScoreStatus.REFUSED
    assert found.reason == "40 of 164 query cells share no gene with a labelled training data set"


def test_a_data_set_on_both_sides_has_the_counts_of_each_side_in_the_gene_table(simulated_study, lab):
    study = simulated_study(by=("person",), lab_a=lab(types=TYPES, n_persons=2))
    (fold,) = [f for f in study.split.folds if "lab_a/p0" in f.split_id]
    result = scored(study, split=dataclasses.replace(study.split, folds=(fold,)))
    sides = {r.side: r.median_counts_left for r in result.gene_spaces[0].rows if r.dataset_id == "lab_a"}
    cells = study.snapshot.cells
    expected = np.median(cells["n_counts"].to_numpy()[fold.test_rows])
    assert sides["test"] == expected
    assert sides["test"] != sides["train"]


# --- labels


def relabeled(study, rows, term):
    cells = study.snapshot.cells.copy()
    cells.loc[rows, "cell_type_ontology_term_id"] = term
    return dataclasses.replace(study.snapshot, cells=cells)


@pytest.mark.parametrize("side", ["test", "train"])
def test_labels_that_are_all_coarser_than_the_level_refuse_it_and_leave_the_coarser_one(simulated_study, *, side):
    study = simulated_study()
    rows = study.split.folds[0].test_rows if side == "test" else study.split.folds[0].train_rows
    result = evaluate_study(relabeled(study, rows, LYMPHOCYTE), **study.arguments())
    fine = row(result)
    assert fine.status is ScoreStatus.REFUSED
    assert fine.value is None
    assert row(result, resolution="broad", metric="accuracy").n_cells > 0


def test_a_label_that_expression_decided_is_no_truth_and_is_counted(simulated_study):
    study = simulated_study()
    by_markers = LabelMapping(
        dataset_id="lab_a", contributor_label="B cell", predicate=Predicate.EXACT, term=B, term_name="B cell",
        justification="semapv:InstanceBasedMatching", confidence=900, decision="reviewed", ontology_release="x",
    )  # fmt: skip
    result = evaluate_study(dataclasses.replace(study.snapshot, mappings=(by_markers,)), **study.arguments())
    assert row(result).n_cells == 124 - 30
    assert result.dropped[["reason", "n_cells"]].values.tolist() == [["label decided by expression", 30]]


def test_tiny_classes_and_classes_of_one_side_change_nothing_but_their_own_rows(simulated_study, lab):
    study = simulated_study(
        lab_a=lab(types={T: 40, B: 30, NK: 1, DC: 5}, n_persons=8),
        lab_c=lab(types={T: 36, B: 24, MONO: 1}, n_persons=4),
    )
    result = scored(study)
    assert row(result).status is ScoreStatus.SCORED
    assert row(result, metric="f1", stratum=f"class:{NK}").n_cells == 1
    assert result.open_set["term"].tolist() == [DC, DC]
    # Monocytes exist in training only: a cell that is called one stays an error.
    confusion = next(c for c in result.confusions if c.model == "pca+knn" and c.resolution == "fine")
    assert MONO in confusion.classes
    assert confusion.scored == tuple(sorted((T, B, NK)))


def test_persons_too_small_for_a_headline_of_their_own_are_scored_together(simulated_study):
    """Left out one by one, no person has ten cells of a class; all of them together do."""
    study = simulated_study(by=("person",), n_folds=99)
    result = scored(study)
    own = [row(result, split=fold.split_id) for fold in study.split.folds if "lab_a" in fold.split_id]
    assert {s.status for s in own} == {ScoreStatus.REFUSED}
    together = row(result, split="all folds")
    assert together.status is ScoreStatus.SCORED
    assert together.value > 0.8
    assert (together.n_cells, together.n_donors) == (124 + 112 + 106, 8 + 3 + 4)


# --- files that were made elsewhere


def test_a_file_has_an_unknown_protocol_and_a_card_of_its_own(simulated_study, tmp_path):
    base = simulated_study()
    plans = tuple(
        file_of(tmp_path, base.snapshot, name=name, d0=np.arange(len(base.snapshot.cells), dtype=float))
        for name in ("pca", "other")
    )
    result = scored(simulated_study(models=("pca+knn", *plans)))
    assert row(result, "precomputed:pca+knn").protocol is Protocol.UNKNOWN
    assert "exposure unknown" in row(result, "precomputed:pca+knn").reason
    # A file that is called `pca` neither inherits the clean record of the model nor taints it.
    assert row(result).protocol is CARDS["pca"].protocol
    assert "exposure unknown" not in row(result).reason
    models = {exposure.model for exposure in result.audits[0].exposures}
    assert {"pca", "precomputed:pca", "precomputed:other"} <= models


def test_an_embedding_of_the_labels_is_named(simulated_study, tmp_path):
    snapshot = simulated_study().snapshot
    result = scored(simulated_study(models=(file_of(tmp_path, snapshot, **one_hot(snapshot)),)))
    found = row(result, "precomputed:given+knn")
    # Its dimensions are the labels: what would be a perfect score is kept outside of all aggregates.
    assert found.value is None
    assert found.raw_value == 1.0
    assert found.status is ScoreStatus.REFUSED
    assert "E-LEAK-10" in found.reason


def test_a_file_with_a_gap_is_refused_in_its_own_rows_only(simulated_study, tmp_path):
    snapshot = simulated_study().snapshot
    values = np.ones(len(snapshot.cells))
    values[3] = np.nan
    result = scored(simulated_study(models=("pca+knn", file_of(tmp_path, snapshot, d0=values))))
    found = row(result, "precomputed:given")
    assert found.status is ScoreStatus.REFUSED
    assert "missing or infinite value" in found.reason
    assert row(result).status is ScoreStatus.SCORED


def test_a_file_that_misses_cells_is_refused_with_their_number(simulated_study, tmp_path):
    snapshot = simulated_study().snapshot
    plan = file_of(tmp_path, snapshot, drop=7, term=snapshot.cells["cell_type_ontology_term_id"])
    found = row(scored(simulated_study(models=(plan,))), "precomputed:given")
    assert found.status is ScoreStatus.REFUSED
    assert "no row for 7 of 124 cells" in found.reason


def test_terms_that_nobody_knows_are_errors_and_abstention_is_low_confidence(simulated_study, tmp_path):
    study = simulated_study(n_folds=3)
    terms = study.snapshot.cells["cell_type_ontology_term_id"].to_numpy(dtype=object)
    odd = np.where(terms == B, "my favorite cell", np.where(terms == DC, "unknown", terms))
    result = scored(simulated_study(models=(file_of(tmp_path, study.snapshot, term=odd),), n_folds=3))
    lab_a = row(result, "precomputed:given", metric="f1", stratum=f"class:{B}")
    assert lab_a.value == 0.0
    # It abstains on exactly the dendritic cells, which no training cell of that fold shows.
    auroc = row(result, "precomputed:given", split="component=lab_c", metric="open_set_auroc")
    assert auroc.value == 1.0


# --- models


@dataclasses.dataclass(frozen=True)
class Raising:
    """A model that raises in `fit` or in `predict`, or quits."""

    error: BaseException
    card: object = dataclasses.replace(CARDS["majority"], name="raising")

    def fit(self, train, *, query, seed):
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), MemoryError(), RecursionError("deep")], ids=repr)
def test_a_model_that_raises_or_quits_fails_in_its_rows_only(simulated_study, monkeypatch, *, error):
    real = fitting.make_model
    monkeypatch.setattr(fitting, "make_model", lambda name, **o: Raising(error) if name == "bad" else real(name, **o))
    result = scored(simulated_study(models=("pca+knn", "bad")))
    found = row(result, "bad")
    assert found.status is ScoreStatus.FAILED
    assert found.reason.startswith(type(error).__name__)
    assert found.value is found.raw_value is None
    assert row(result).status is ScoreStatus.SCORED


@dataclasses.dataclass(frozen=True)
class Starved(Raising):
    """A model that really asks for more than there is, of NumPy or of torch."""

    library: str = "numpy"

    def fit(self, train, *, query, seed):
        if self.library == "numpy":
            return np.empty((2**30, 2**28))
        return pytest.importorskip("torch").empty(2**58)


@pytest.mark.parametrize(("library", "size"), [("numpy", r"2\.00 EiB for an array with shape"), ("torch", "1 EiB")])
def test_a_model_without_memory_fails_in_its_rows_with_what_it_asked_for_and_what_is_less(
    simulated_study, monkeypatch, library, size
):
    real = fitting.make_model
    starved = Starved(MemoryError(), library=library)
    monkeypatch.setattr(fitting, "make_model", lambda name, **o: starved if name == "centroid" else real(name, **o))
    result = scored(simulated_study(models=("pca+knn", "centroid")))
    found = row(result, "centroid")
    assert found.status is ScoreStatus.FAILED
    assert re.search(rf"Error: centroid on [\d,]+ training and [\d,]+ query cells, 560 genes: .*{size}", found.reason)
    assert "a smaller n_top_genes of the model, fewer --workers" in found.reason
    assert row(result).status is ScoreStatus.SCORED


def test_a_user_who_interrupts_is_obeyed(simulated_study, monkeypatch):
    real = fitting.make_model
    stop = Raising(KeyboardInterrupt())
    monkeypatch.setattr(fitting, "make_model", lambda name, **o: stop if name == "bad" else real(name, **o))
    with pytest.raises(KeyboardInterrupt):
        scored(simulated_study(models=("bad",)))


def test_a_model_that_reads_no_expression_is_handed_none(simulated_study, monkeypatch):
    seen = []
    real = fitting.train_view

    def watched(snapshot, rows, *, genes, labels):
        seen.append((len(genes), set(labels.tolist()) == {""}))
        return real(snapshot, rows, genes=genes, labels=labels)

    monkeypatch.setattr(fitting, "train_view", watched)
    scored(simulated_study(models=("pca+knn",)))
    assert {n_genes for n_genes, is_unlabelled in seen if not is_unlabelled} == {0}
    assert {n_genes for n_genes, is_unlabelled in seen if is_unlabelled} == {560}


# --- splits that lie


def by_hand(study, *, rule, test, status="SCORED", reason=""):
    rows = np.arange(len(study.snapshot.cells))
    fold = Fold(
        split_id="by hand", held_out="cells", groups_train=("a",), groups_test=("b",),
        train_rows=rows[~test], test_rows=rows[test], status=status, reason=reason,
    )  # fmt: skip
    return Split(snapshot_id=study.snapshot.snapshot_id, rule=rule, seed=0, folds=(fold,))


@pytest.mark.parametrize("rule", ["by hand", "the rule of the real split"])
def test_a_fold_that_excuses_its_own_leak_is_not_believed(simulated_study, *, rule):
    study = simulated_study()
    test = np.random.default_rng(0).random(len(study.snapshot.cells)) < 0.3
    split = by_hand(
        study, rule=study.split.rule if rule != "by hand" else rule, test=test,
        status="QUALIFIED", reason="some persons are on both sides",
    )  # fmt: skip
    found = row(scored(study, split=split), split="by hand")
    assert found.status is ScoreStatus.REFUSED
    assert "E-LEAK-01" in found.reason
    assert "the rows of this fold follow from no rule that could be run again" in found.notes


def test_a_batch_split_by_rule_keeps_its_excuse_and_says_it(simulated_study, lab):
    study = simulated_study(by=("dataset",), lab_b=lab(types=TYPES, n_persons=3, study="lab_a"))
    cells = study.snapshot.cells.copy()
    cells.loc[cells["dataset_id"].isin(["lab_a", "lab_b"]), "person_id"] = "lab_a/p0"
    snapshot = dataclasses.replace(study.snapshot, cells=cells)
    split = leave_one_group_out(snapshot, by=("dataset",))
    found = row(evaluate_study(snapshot, **study.arguments(split=split)), split="dataset=lab_a")
    assert found.status is ScoreStatus.QUALIFIED
    assert found.reason == "1 person(s) on both sides"


def test_unknown_persons_qualify_even_if_the_fold_keeps_silent(simulated_study, lab):
    study = simulated_study(lab_a=lab(types=TYPES, n_persons=0), lab_b=lab(types=TYPES, n_persons=0))
    test = (study.snapshot.cells["dataset_id"] == "lab_a").to_numpy()
    found = row(scored(study, split=by_hand(study, rule="by hand", test=test)), split="by hand")
    assert found.status is ScoreStatus.QUALIFIED
    assert "persons unknown in 2 data sets" in found.reason
    # By its rule, the fold names the data sets once, and the score only counts them.
    assert study.split.folds[0].reason == "persons unknown in 2 data sets (lab_a, lab_b)"
    assert row(scored(study)).reason == "persons unknown in 2 data sets"


def test_a_cell_on_both_sides_stops_the_study(simulated_study):
    study = simulated_study()
    fold = study.split.folds[0]
    shared = dataclasses.replace(fold, train_rows=np.concatenate([fold.train_rows, fold.test_rows[:2]]))
    with pytest.raises(LeakageError, match="2 cell"):
        scored(study, split=dataclasses.replace(study.split, folds=(shared,)))


def test_a_cell_twice_on_one_side_stops_the_study(simulated_study):
    study = simulated_study()
    fold = study.split.folds[0]
    twice = dataclasses.replace(fold, test_rows=np.concatenate([fold.test_rows, fold.test_rows[:1]]))
    with pytest.raises(UsageError, match="each at most once"):
        scored(study, split=dataclasses.replace(study.split, folds=(twice,)))


def test_unlabelled_training_cells_of_a_shared_library_refuse_the_claim_as_labelled_ones_do(simulated_study, lab):
    """Every batch of lab_a holds one type; its persons are apart, and its training half has no labels."""
    study = simulated_study(lab_a=lab(types={T: 40, B: 40}, n_persons=2, batch_is_label=True), lab_b=lab(types={T: 40}),
                            lab_c=lab(types={B: 40}))  # fmt: skip
    cells = study.snapshot.cells.copy()
    own = cells["dataset_id"] == "lab_a"
    train_half = own & (cells["person_id"] == "lab_a/p0")
    cells.loc[train_half, ["contributor_label", "cell_type_ontology_term_id"]] = ["", "unknown"]
    snapshot = dataclasses.replace(study.snapshot, cells=cells)
    split = by_hand(study, rule="by hand", test=(own & ~train_half).to_numpy())
    found = row(evaluate_study(snapshot, **study.arguments(split=split)), split="by hand")
    assert found.status is ScoreStatus.REFUSED
    assert "naming the library gives the label" in found.reason

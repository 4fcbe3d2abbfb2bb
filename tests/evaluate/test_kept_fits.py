"""A study that was killed goes on with the fits that it had made, to the same bytes, and takes up nothing that is stale."""

import dataclasses
import os
import shutil
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.evaluate import ModelPlan, evaluate_study, fitting, kept_fits, scores_document
from cytolabe.evaluate.answers import Failure
from cytolabe.evaluate.fitting import FitTask, ModelRunner
from cytolabe.evaluate.kept_fits import TaskFits, remove_kept_fits
from cytolabe.evaluate.plan import AnnotatorPlan
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import AnnotatorOutput
from cytolabe.models.scopes import fit_scope
from cytolabe.provenance import canonical_json, ledger, runs
from cytolabe.records import FitOnQuery

T, B, NK = "CL:0000084", "CL:0000236", "CL:0000623"


@dataclasses.dataclass
class Planted:
    """What the planted models share: every training is written down; that with the number `ends_at` ends the run."""

    fits: list = dataclasses.field(default_factory=list)
    n_mapped: int = 0
    ends_at: int = 0
    raises: bool = False

    def fitted(self, name, train, query, seed):
        self.fits.append((name, len(train.cell_ids), 0 if query is None else len(query.cell_ids), seed))
        if len(self.fits) == self.ends_at:
            raise KeyboardInterrupt
        if self.raises:
            msg = "no memory left"
            raise RuntimeError(msg)


@dataclasses.dataclass(frozen=True)
class Mapper:
    """An embedder in two steps, whose embedding depends on the query and lies in memory by columns."""

    planted: Planted
    size: int = 6
    card: object = dataclasses.replace(CARDS["pca"], name="mapper", n_seeds=3, fit_on_query=FitOnQuery.UNLABELLED)
    scopes: tuple = ()
    notes: tuple = ()
    axes: object = None

    def fit(self, train, *, query, seed):
        assert query is None
        self.planted.fitted("mapper", train, query, seed)
        axes = np.random.default_rng(seed).normal(size=(train.counts.shape[1], self.size))
        return dataclasses.replace(self, axes=axes, scopes=(fit_scope("train", train.cell_ids),), notes=("mapped",))

    def map_query(self, fitted, query, *, seed):
        self.planted.n_mapped += 1
        scopes = (*fitted.scopes, fit_scope("query", query.cell_ids))
        return dataclasses.replace(fitted, scopes=scopes, axes=fitted.axes * (1 + len(query.cell_ids) / 100))

    def embed(self, view):
        # With gaps, as a slice of a larger array has them: numbers that are added in another order are other numbers.
        return np.repeat((np.log1p(view.counts.toarray()) @ self.axes).astype(np.float32), 2, axis=1)[:, ::2]


@dataclasses.dataclass(frozen=True)
class Namer:
    """An annotator by the nearest mean of its training cells; `sharpness` is its option."""

    planted: Planted
    sharpness: float = 1.0
    card: object = dataclasses.replace(CARDS["centroid"], name="namer")
    scopes: tuple = ()
    notes: tuple = ()
    means: object = None

    def fit(self, train, *, query, seed):
        self.planted.fitted("namer", train, query, seed)
        kinds = sorted(set(train.labels.tolist()))
        means = {kind: np.asarray(train.counts[train.labels == kind].mean(axis=0)).ravel() for kind in kinds}
        return dataclasses.replace(self, means=means, scopes=(fit_scope("means", train.cell_ids),))

    def predict(self, query):
        counts = query.counts.toarray()
        far = np.stack([((counts - mean) ** 2).mean(axis=1) for mean in self.means.values()], axis=1)
        weight = np.exp(-self.sharpness * (far - far.min(axis=1, keepdims=True)))
        return AnnotatorOutput(classes=tuple(self.means), probability=weight / weight.sum(axis=1, keepdims=True))


def plant(patch):
    """Put the planted models into the registry, and keep fits of any length; return what is written down of them."""
    found, real = Planted(), fitting.make_model
    own = {"mapper": Mapper, "namer": Namer}
    patch.setattr(fitting, "make_model", lambda name, **o: own[name](found, **o) if name in own else real(name, **o))
    patch.setattr(kept_fits, "LEAST_SECONDS", 0.0)
    return found


@pytest.fixture
def planted(monkeypatch):
    """What is written down of the planted models."""
    return plant(monkeypatch)


@pytest.fixture(scope="module")
def study(simulated_study):
    """Two folds; an embedder with ceilings, sensitivity and three seeds, and an annotator that is asked on few labels, too."""
    few = LimitedLabels(cells_per_type=(2, 5), donors=(1,), n_draws=2, annotators=("namer",))
    return simulated_study(models=("mapper+knn", "namer"), n_folds=2, plan={"ceilings": True, "limited_labels": few})


@pytest.fixture(scope="module")
def whole(study):
    """A run of the study that keeps nothing, and the trainings that it took."""
    with pytest.MonkeyPatch.context() as patch:
        planted = plant(patch)
        result = run(study, None)
    assert planted.n_mapped
    return result, planted.fits


def run(study, folder, lines=None):
    plan = dataclasses.replace(study.plan, kept_fits=folder)
    return evaluate_study(
        study.snapshot, **study.arguments(plan=plan, on_progress=(lines if lines is not None else []).append)
    )


def outputs(result):
    return (
        canonical_json(scores_document(result, result.snapshot_id)),
        canonical_json(result.certificates),
        result.predictions.to_csv(),
        [(one.split, one.model, one.resolution, one.matrix.tolist()) for one in result.confusions],
    )


def named(costs):
    return [(c.split, c.gene_policy, c.model, c.step, c.purpose, c.resolution, c.seed, c.n_train) for c in costs.rows]


@pytest.mark.parametrize("ends_at", [1, 7, 13, 28])
def test_a_study_that_was_killed_ends_with_the_bytes_of_one_that_was_not(study, whole, planted, tmp_path, ends_at):
    unkilled, fits = whole
    planted.ends_at = ends_at
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path / "fits")
    n_done = ends_at - 1
    assert planted.fits == fits[:ends_at]
    planted.fits, planted.ends_at, lines = [], 0, []
    result = run(study, tmp_path / "fits", lines)
    assert outputs(result) == outputs(unkilled)
    assert named(result.costs) == named(unkilled.costs)
    # A training whose answer was kept is run again only where another query has to be mapped onto it.
    assert len(fits) - n_done <= len(planted.fits) <= len(fits) - n_done + 1
    if n_done:
        n_kept = int(lines[0].partition(" ")[0])
        assert n_kept >= n_done
        assert lines[0] == f"{n_kept} fit(s) of the run before are kept: those that are asked for again are taken up"
        assert lines[-1] == f"{n_kept} fit(s) of the run before were taken up"


def test_a_run_takes_up_nothing_of_its_own_and_another_everything_with_what_it_cost(study, whole, planted, tmp_path):
    unkilled, fits = whole
    lines = []
    first = run(study, tmp_path / "fits", lines)
    assert planted.fits == fits
    assert outputs(first) == outputs(unkilled)
    assert not [line for line in lines if "taken up" in line]
    files = list((tmp_path / "fits").glob("*/*.fit"))
    assert len(files) == len([row for row in first.costs.rows if row.step != "probe"])
    second = run(study, tmp_path / "fits")
    assert planted.fits == fits
    assert outputs(second) == outputs(unkilled)
    assert named(first.costs) == named(second.costs)
    kept = [(a, b) for a, b in zip(first.costs.rows, second.costs.rows, strict=True) if a.step != "probe"]
    assert len(kept) > 30
    assert all(a == b for a, b in kept)
    assert all(type(row.fit_seconds) is float for row in second.costs.rows)


MAPPER = AnnotatorPlan(name="mapper+knn", component="mapper", probe="knn", options={}, gene_policies=())
NAMER = AnnotatorPlan(name="namer", component="namer", probe="", options={}, gene_policies=())


@pytest.fixture
def asked(simulated_study, planted, tmp_path):
    """Return a function that asks the planted models for one fold, and tells how many fits that took."""
    snapshot = simulated_study().snapshot
    kinds = snapshot.cells["cell_type_ontology_term_id"].to_numpy(dtype=object)
    lab = snapshot.cells["dataset_id"].to_numpy(dtype=object)
    task = FitTask(
        train_rows=np.flatnonzero(lab != "lab_a"), query_rows=np.flatnonzero(lab == "lab_a"),
        genes=snapshot.measured_genes("lab_a")[:300], seed=3,
    )  # fmt: skip

    def ask(**changes):
        own = {
            "annotator": MAPPER,
            "task": task,
            "terms": kinds,
            "snapshot": snapshot,
            "task_name": ("f", "p"),
            **changes,
        }
        lines = []
        fits = TaskFits(kept=kept_fits.kept_fits(tmp_path / "fits"), task=own["task_name"], say=lines.append)
        merged = changes.get("merged_batches", frozenset())
        runner = ModelRunner(own["snapshot"], merged_batches=merged, fits=fits)
        before = len(planted.fits)
        answer = runner.annotate(own["annotator"], own["task"], own["terms"])
        return answer, len(planted.fits) - before, lines

    ask.task, ask.kinds, ask.snapshot = task, kinds, snapshot
    return ask


@pytest.mark.parametrize("annotator", [MAPPER, NAMER], ids=["embedder", "annotator"])
def test_the_same_question_is_answered_from_what_was_kept(asked, annotator):
    first, n_first, _ = asked(annotator=annotator)
    second, n_second, lines = asked(annotator=annotator)
    assert (n_first, n_second, lines) == (1, 0, [])
    assert second.probability.dtype == first.probability.dtype
    assert second.probability.flags.c_contiguous == first.probability.flags.c_contiguous
    np.testing.assert_array_equal(second.probability, first.probability)
    assert (second.classes, second.scopes, second.notes) == (first.classes, first.scopes, first.notes)


def other_option(asked):
    return {"annotator": dataclasses.replace(MAPPER, options={"size": 7})}


def other_seed(asked):
    return {"task": dataclasses.replace(asked.task, seed=4)}


def other_genes(asked):
    return {"task": dataclasses.replace(asked.task, genes=asked.task.genes[:299])}


def other_order_of_genes(asked):
    return {"task": dataclasses.replace(asked.task, genes=asked.task.genes[::-1])}


def other_training(asked):
    return {"task": dataclasses.replace(asked.task, train_rows=asked.task.train_rows[:-1])}


def other_query(asked):
    return {"task": dataclasses.replace(asked.task, query_rows=asked.task.query_rows[1:])}


def other_snapshot(asked):
    return {"snapshot": dataclasses.replace(asked.snapshot, snapshot_id="sha256:other")}


def merged_batch(asked):
    return {"merged_batches": frozenset({"lab_b"})}


def other_fold(asked):
    return {"task_name": ("g", "p")}


CHANGES = [
    other_option, other_seed, other_genes, other_order_of_genes, other_training, other_query, other_snapshot, merged_batch,
    other_fold,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_another_question_is_fitted(asked, change):
    asked()
    assert asked(**change(asked))[1] == 1


def test_another_label_of_training_is_another_question_for_an_annotator_and_none_for_an_embedder(asked):
    other = asked.kinds.copy()
    other[asked.task.train_rows[0]] = NK if other[asked.task.train_rows[0]] != NK else B
    for annotator, n_fits in ((NAMER, 1), (MAPPER, 0)):
        asked(annotator=annotator)
        assert asked(annotator=annotator, terms=other)[1] == n_fits
    unseen = asked.kinds.copy()
    unseen[asked.task.query_rows] = T  # what the query is, no model is told
    assert asked(annotator=NAMER, terms=unseen)[1] == 0


def test_another_card_of_the_same_model_is_another_question(asked, monkeypatch):
    asked()
    monkeypatch.setattr(Mapper, "card", dataclasses.replace(Mapper.card, weights_digest="sha256:other"))
    init = Mapper.__init__
    monkeypatch.setattr(Mapper, "__init__", lambda self, *a, **o: init(self, *a, card=Mapper.card, **o))
    assert asked()[1] == 1


def test_a_file_that_the_model_is_read_from_may_not_have_changed(asked, planted, tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "vocab.json").write_text("{}")
    real = fitting.make_model
    monkeypatch.setattr(fitting, "make_model", lambda name, **_: real(name))
    annotator = dataclasses.replace(MAPPER, options={"checkpoint": str(checkpoint)})
    assert [asked(annotator=annotator)[1] for _ in range(2)] == [1, 0]
    (checkpoint / "vocab.json").write_text('{"a": 1}')
    assert asked(annotator=annotator)[1] == 1
    then = (checkpoint / "vocab.json").stat()
    (checkpoint / "vocab.json").write_text('{"a": 2}')
    os.utime(checkpoint / "vocab.json", ns=(then.st_atime_ns, then.st_mtime_ns))
    assert asked(annotator=annotator)[1] == 1


def test_sources_that_change_while_the_process_runs_end_keeping_and_taking_up(asked, tmp_path, monkeypatch):
    """The name of the folder says the sources on the disk; what this process has read, or will read, may be others then."""
    asked()
    kept = kept_fits.kept_fits(tmp_path / "fits")
    monkeypatch.setattr(runs, "_STARTED_NS", 0)  # as if all files had changed since
    answer, n_fits, lines = asked()
    assert (isinstance(answer, Failure), n_fits) == (False, 1)
    assert lines == ["fits of f p: sources changed while the study ran; none is taken up or kept"]
    asked(task=dataclasses.replace(asked.task, seed=4))
    assert len(list(kept.folder.glob("*.fit"))) == 1


def test_a_worker_with_other_sources_than_the_process_that_asked_keeps_and_takes_up_nothing(
    asked, tmp_path, monkeypatch
):
    asked()
    named = kept_fits.kept_fits(tmp_path / "fits")
    monkeypatch.setattr(ledger, "_code_digest", lambda: "of the worker")
    lines = []
    fits = TaskFits(kept=named, task=("f", "p"), say=lines.append)
    runner = ModelRunner(asked.snapshot, fits=fits)
    assert not isinstance(runner.annotate(MAPPER, asked.task, asked.kinds), Failure)
    assert fits.n_taken_up == 0
    assert len(lines) == 1
    assert len(list(named.folder.glob("*.fit"))) == 1


def test_files_of_others_in_the_folder_stay(asked, tmp_path):
    asked()
    for name in ("mine.fit", "notes/a.txt", f"{'a' * 32}/mine.txt"):
        (tmp_path / "fits" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "fits" / name).write_text("mine")
    remove_kept_fits(tmp_path / "fits")
    left = sorted(
        path.relative_to(tmp_path / "fits").as_posix() for path in (tmp_path / "fits").rglob("*") if path.is_file()
    )
    assert left == [f"{'a' * 32}/mine.txt", "mine.fit", "notes/a.txt"]


def test_embeddings_as_wide_as_genes_are_not_kept(asked, tmp_path):
    wide = dataclasses.replace(MAPPER, options={"size": kept_fits._MOST_COLUMNS + 1})
    assert [asked(annotator=wide)[1] for _ in range(2)] == [1, 1]
    assert not (tmp_path / "fits").exists()


def test_the_disk_is_not_filled_with_fits_where_results_need_the_room(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    _, n_fits, lines = asked()
    assert n_fits == 1
    assert len(lines) == 1
    assert "results need room" in lines[0]
    assert not list((tmp_path / "fits").glob("*/*.fit"))


def test_a_variable_that_is_no_text_stops_nobody(asked, monkeypatch):
    monkeypatch.setenv("OMP_ODD", "\udcff")
    assert [asked()[1] for _ in range(2)] == [1, 0]


def code_changed(monkeypatch):
    monkeypatch.setattr(ledger, "_code_digest", lambda: "other")


def library_changed(monkeypatch):
    real = list(metadata.distributions())
    monkeypatch.setattr(metadata, "distributions", lambda **_: [one for one in real if one.name != "scipy"])


def threads_changed(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "37")


def instructions_changed(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")


def cores_changed(monkeypatch):
    real = kept_fits.machine_facts()
    monkeypatch.setattr(kept_fits, "machine_facts", lambda: {**real, "n_cores": 99})


def accelerators_changed(monkeypatch):
    monkeypatch.setattr(kept_fits, "_accelerators", lambda: ["another"])


def c_library_changed(monkeypatch):
    monkeypatch.setattr(kept_fits.platform, "libc_ver", lambda: ("glibc", "0"))


def kernels_changed(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")


def processor_changed(monkeypatch):
    real = kept_fits.machine_facts()
    monkeypatch.setattr(kept_fits, "machine_facts", lambda: {**real, "processor": "another"})


def data_of_the_package_changed(monkeypatch):
    real = kept_fits.sha256_of_file
    monkeypatch.setattr(kept_fits, "sha256_of_file", lambda path: real(path)[::-1])


CONDITIONS = [
    code_changed, library_changed, threads_changed, kernels_changed, processor_changed, data_of_the_package_changed,
    instructions_changed, cores_changed, accelerators_changed, c_library_changed,
]  # fmt: skip


@pytest.mark.parametrize("change", CONDITIONS, ids=lambda change: change.__name__)
def test_under_other_conditions_every_fit_is_done_and_that_is_told(asked, tmp_path, monkeypatch, change):
    asked()
    change(monkeypatch)
    told = kept_fits.kept_fits(tmp_path / "fits").told()
    assert told == "1 fit(s) of the run before are of other code, libraries or another machine: they are done anew"
    assert asked()[1] == 1


_LOADS = """
import importlib, sys
from pathlib import Path
from cytolabe.evaluate.kept_fits import kept_fits
before = kept_fits(Path("fits"))
for name in sys.argv[1:]:
    importlib.import_module(name)
assert kept_fits(Path("fits")) == before
"""


@pytest.mark.models
@pytest.mark.parametrize("name", ["sklearn.linear_model", "ray", "scvi", "transformers"])
def test_what_a_process_has_loaded_is_no_other_condition(name):
    """Ray puts libraries of its own on the path; scikit-learn, and torch under scvi-tools, set variables."""
    pytest.importorskip(name.partition(".")[0])
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", _LOADS, name], capture_output=True, text=True)  # noqa: S603, PLW1510
    assert found.returncode == 0, found.stderr


def test_on_the_same_machine_the_conditions_are_the_same_wherever_it_is_called(tmp_path, monkeypatch):
    before = kept_fits.kept_fits(tmp_path)
    monkeypatch.setenv("COLUMNS", "77")
    monkeypatch.chdir(tmp_path)
    assert kept_fits.kept_fits(tmp_path) == before


def test_a_model_that_sets_a_variable_stops_no_later_task_from_keeping(asked, tmp_path, monkeypatch):
    kept = kept_fits.kept_fits(tmp_path / "fits")
    monkeypatch.setenv("TORCH_SET_BY_A_MODEL", "1")
    lines = []
    runner = ModelRunner(asked.snapshot, fits=TaskFits(kept=kept, task=("f", "p"), say=lines.append))
    runner.annotate(MAPPER, asked.task, asked.kinds)
    assert lines == []
    assert len(list(kept.folder.glob("*.fit"))) == 1


def cut(content, _):
    return content[:-100]


def emptied(_, __):
    return b""


def flipped_in_the_numbers(content, _):
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def flipped_in_the_digest(content, _):
    return bytes([content[0] ^ 1]) + content[1:]


def that_of_another(_, other):
    return other


@pytest.mark.parametrize(
    "damage",
    [cut, emptied, flipped_in_the_numbers, flipped_in_the_digest, that_of_another],
    ids=lambda one: one.__name__,
)
def test_a_kept_fit_that_was_changed_is_told_and_done_anew(asked, tmp_path, damage):
    asked(annotator=dataclasses.replace(MAPPER, options={"size": 9}))
    (other,) = (tmp_path / "fits").glob("*/*.fit")
    first, _, _ = asked()
    (path,) = set((tmp_path / "fits").glob("*/*.fit")) - {other}
    path.write_bytes(damage(path.read_bytes(), other.read_bytes()))
    second, n_fits, lines = asked()
    assert n_fits == 1
    assert len(lines) == 1
    assert lines[0].startswith("mapper: a kept fit cannot be used (ValueError: it ")
    np.testing.assert_array_equal(second.probability, first.probability)
    assert asked()[1:] == (0, [])


def test_a_fit_that_takes_no_time_is_done_again_and_not_kept(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_fits, "LEAST_SECONDS", 60.0)
    assert [asked()[1] for _ in range(2)] == [1, 1]
    assert not (tmp_path / "fits").exists()


def test_a_failure_is_never_kept(asked, planted, tmp_path):
    planted.raises = True
    for annotator in (MAPPER, NAMER):
        answer, n_fits, _ = asked(annotator=annotator)
        assert isinstance(answer, Failure)
        assert n_fits == 1
    assert not (tmp_path / "fits").exists()
    planted.raises = False
    for annotator in (MAPPER, NAMER):
        answer, n_fits, _ = asked(annotator=annotator)
        assert not isinstance(answer, Failure)
        assert n_fits == 1


def test_a_fit_that_cannot_be_kept_is_told_once_and_fails_nothing(asked, study, whole, tmp_path):
    (tmp_path / "fits").write_text("in the way")
    answer, n_fits, lines = asked()
    assert not isinstance(answer, Failure)
    assert n_fits == 1
    assert [line.partition(" (")[0] for line in lines] == ["fits of f p are not kept from here on"]
    told = []
    assert outputs(run(study, tmp_path / "fits", told)) == outputs(whole[0])
    assert len([line for line in told if "not kept" in line]) == 2  # once in each fold


def test_a_folder_that_another_process_removes_meanwhile_stops_nobody(asked, tmp_path, monkeypatch):
    asked()
    remove_kept_fits(tmp_path / "fits")
    assert asked()[1] == 1
    assert asked()[1] == 0
    real = os.rmdir

    def somebody_writes(path, *given, **options):
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(os, "rmdir", somebody_writes)
    remove_kept_fits(tmp_path / "fits")
    monkeypatch.setattr(os, "rmdir", real)
    remove_kept_fits(tmp_path / "fits")
    assert not (tmp_path / "fits").exists()
    remove_kept_fits(tmp_path / "fits")


def test_workers_take_up_what_a_single_process_kept(simulated_study, tmp_path, monkeypatch):
    monkeypatch.setattr(kept_fits, "LEAST_SECONDS", 0.0)
    study = simulated_study(models=(ModelPlan(name="pca"), ModelPlan(name="one_vs_rest")), n_folds=2)
    lines = []
    first = run(study, tmp_path / "fits")
    parted = dataclasses.replace(study, plan=dataclasses.replace(study.plan, n_workers=2))
    second = run(parted, tmp_path / "fits", lines)
    assert outputs(first) == outputs(second)
    n_kept = len([row for row in first.costs.rows if row.step != "probe"])
    assert lines[-1] == f"{n_kept} fit(s) of the run before were taken up"

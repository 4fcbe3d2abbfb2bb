"""Steps of Geneformer fine-tunings by the shared loop: what a study or a training file says of them is how they are taken."""

import dataclasses

import numpy as np
import pytest

from cytolabe.errors import UsageError
from cytolabe.flow.cell_tasks import read_cell_training
from cytolabe.flow.gene_classes import read_gene_training
from cytolabe.flow.pretrain import read_pretraining
from cytolabe.flow.pretrain_scgpt import read_scgpt_training
from cytolabe.models import learning as shared
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer import fine_tuning, gene_classes
from cytolabe.models.geneformer.checkpoint import CheckpointCard, from_pretrained, save_pretrained
from cytolabe.models.geneformer.fine_tuning import TaskLabels, fit_task_heads
from cytolabe.models.geneformer.gene_classes import fit_gene_classes
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.registry import make_model
from cytolabe.models.training import TrainingPlan, rate_factor

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("needs_torch")]

STEPS = {"schedule": "cosine", "weight_decay": 0.1, "accumulation": 2, "clip_norm": 0.5, "precision": "bfloat16"}
OTHERS = {"n_steps": 9, "learning_rate": 0.02, "warm_up": 3, "check_every": 4, "patience": 2, "save_every": 7}
PLAN = {"n_steps": 6, "learning_rate": 0.01, "warm_up": 2, "check_every": 3, "held_out_fraction": 0.0}
N_CELLS = 24


@pytest.fixture
def folder(make_dictionaries, make_shape, tmp_path):
    """Return a checkpoint that drops nothing, so that no draw depends on how minibatches are cut."""
    shape = make_shape(dropout=0.0, attention_dropout=0.0)
    about = CheckpointCard(weights="", dictionaries={}, pretraining=())
    network = blank_network(shape, seed=1)
    save_pretrained(tmp_path / "model", network, shape=shape, dictionaries=make_dictionaries(), about=about)
    return tmp_path / "model"


def cells():
    rng, lengths = np.random.default_rng(0), np.full(N_CELLS, 22)
    tokens = np.zeros((N_CELLS, 48), dtype=np.int32)
    for cell in range(N_CELLS):
        own = 4 + rng.permutation(40)[:20] + (0 if cell % 2 else 40)
        tokens[cell, :22] = [2, *own, 3]
    return TokenizedCells(tokens=tokens, lengths=lengths)


PERSONS = np.array([f"p{cell % 4}" for cell in range(N_CELLS)])


def of_cells(learning, model):
    words = np.array(["T" if cell % 2 else "B" for cell in range(N_CELLS)], dtype=object)
    asked = {"t": TaskLabels(labels=words), "u": TaskLabels(labels=np.roll(words, 1) * (np.arange(N_CELLS) % 3 > 0))}
    return fit_task_heads(learning, model, cells(), persons=PERSONS, tasks=asked, seed=0)


def of_genes(learning, model):
    labels = {f"ENSG{number:011d}": "first" if number < 40 else "second" for number in range(80)}
    return fit_gene_classes(learning, model, cells(), persons=PERSONS, labels=labels, seed=0)


FITS = pytest.mark.parametrize("fit", [of_cells, of_genes])


@pytest.fixture
def curve(folder, monkeypatch):
    """Return what fine-tunes by the fit that is asked for, and gives every step that the loop took, with the weights."""
    kept = []

    def told(*words, **named):
        kept.append(shared.run_training(*words, **named))
        return kept[-1]

    for module in (fine_tuning, gene_classes):
        monkeypatch.setattr(module, "run_training", told)

    def run(fit, **options):
        fitted = fit(GeneformerLearning(checkpoint=folder, **{**PLAN, **options}), from_pretrained(folder))
        return kept[-1][0].steps, fitted.network

    return run


@FITS
def test_two_accumulated_halves_of_a_minibatch_are_the_whole_to_rounding(curve, fit):
    whole, _ = curve(fit, minibatch=N_CELLS)
    halves, _ = curve(fit, minibatch=N_CELLS // 2, accumulation=2)
    assert [step.n_terms for step in halves] == [step.n_terms for step in whole]
    for name in ("loss", "gradient_norm"):
        first, second = ([getattr(step, name) for step in steps] for steps in (halves, whole))
        assert first[0] == pytest.approx(second[0], rel=1e-5)
        assert first == pytest.approx(second, rel=1e-3)
    # A half alone is another step: the equality above is no accident of the cells.
    assert curve(fit, minibatch=N_CELLS // 2)[0][0].n_terms < whole[0].n_terms


@FITS
def test_bfloat16_changes_the_arithmetic_and_leaves_weights_float32(curve, fit):
    torch = import_extra("torch")
    whole, _ = curve(fit, minibatch=8)
    half, network = curve(fit, minibatch=8, precision="bfloat16")
    assert half[0].loss != whole[0].loss
    assert half[0].loss == pytest.approx(whole[0].loss, rel=0.05)
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


@FITS
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_schedule_decides_at_which_rates_steps_are_taken(curve, fit, schedule):
    steps, _ = curve(fit, minibatch=12, schedule=schedule)
    plan = TrainingPlan(n_steps=6, warm_up=2, schedule=schedule)
    assert [step.learning_rate for step in steps] == [0.01 * rate_factor(plan, number) for number in range(6)]
    assert (steps[-1].learning_rate == 0.01) is (schedule == "constant")


@pytest.mark.parametrize(
    "name", ["geneformer_scratch", "geneformer_scratch_tuned", "geneformer_random_tuned", "geneformer_annotator"]
)
def test_a_study_may_say_how_steps_are_taken_and_what_nobody_can_take_is_refused_first(name, folder):
    more = {"checkpoint": folder} if name == "geneformer_annotator" else {}
    plan = shared.plan_of(make_model(name, **more, **STEPS, **OTHERS).learning)
    assert dataclasses.asdict(plan) == {**STEPS, **OTHERS}
    with pytest.raises(UsageError, match="precision = 'float16'"):
        make_model(name, **more, precision="float16")
    with pytest.raises(UsageError, match="accumulation = 0"):
        make_model(name, **more, accumulation=0)


READERS = {
    "geneformer": (read_pretraining, ""),
    "scgpt": (read_scgpt_training, ""),
    "geneformer_cells": (read_cell_training, "checkpoint = 'model'"),
    "geneformer_genes": (read_gene_training, "checkpoint = 'model'\ngenes = 'genes.tsv'"),
}


@pytest.mark.parametrize("model", list(READERS))
def test_every_key_of_a_plan_may_stand_in_the_training_file_of_a_model_and_is_its_plan(model, tmp_path):
    read, top = READERS[model]
    said = "\n".join(f"{name} = {value!r}" for name, value in {**STEPS, **OTHERS}.items())
    (tmp_path / "config.toml").write_text(f"{top}\n[training]\n{said}\n")
    config = read(tmp_path / "config.toml")
    plan = config.plan if model == "geneformer" else shared.plan_of(config.learning)
    assert dataclasses.asdict(plan) == {**STEPS, **OTHERS}
    (tmp_path / "config.toml").write_text(f"{top}\n[training]\n{said.replace('cosine', 'step')}\n")
    with pytest.raises(UsageError, match="schedule = 'step'"):
        read(tmp_path / "config.toml")

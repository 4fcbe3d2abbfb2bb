"""Steps of scGPT trainings by the shared loop: many minibatches, several processes, half the bits."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.sparse import csr_matrix

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")

from cytolabe.errors import UsageError  # noqa: E402
from cytolabe.models import learning, training_means  # noqa: E402
from cytolabe.models.registry import make_model  # noqa: E402
from cytolabe.models.scgpt import tasks  # noqa: E402
from cytolabe.models.scgpt.checkpoint import fresh_network  # noqa: E402
from cytolabe.models.scgpt.configuration import ScgptConfig  # noqa: E402
from cytolabe.models.scgpt.source import ScgptScratchSource  # noqa: E402
from cytolabe.models.scgpt.tokens import ScgptTokenizer  # noqa: E402
from cytolabe.models.scgpt.vocabulary import read_scgpt_vocabulary  # noqa: E402
from cytolabe.models.training import TrainingPlan, train  # noqa: E402
from cytolabe.models.training_means import TrainingMeans  # noqa: E402

pytestmark = pytest.mark.models

NAMES = [f"GENE{number}" for number in range(30)]
SIZE = {"n_tokens": 33, "pad_token": 30, "d_model": 16, "n_heads": 2, "d_hidden": 16, "n_layers": 1}
FIELDS = {
    "ClassTask": {"n_classes": 3},
    "GenerativeTask": {"generation": "projected", "mvc_style": "inner product"},
    "MaskedTask": {
        "mvc_style": "inner product", "n_batches": 3, "batch_input": True, "adversary": True, "batch_norm": "by_batch",
        "explicit_zero": True,
    },
}  # fmt: skip
PLAN = TrainingPlan(n_steps=4, learning_rate=0.01, warm_up=1, schedule="cosine", check_every=2)
CODES = np.arange(24) % 3


def task_of(kind, *, dropout=0.0, tokens_per_minibatch=128):
    names = json.dumps({name: number for number, name in enumerate(NAMES)}).encode()
    tokenizer = ScgptTokenizer(vocabulary=read_scgpt_vocabulary(names, where="vocab.json"), genes=NAMES)
    counts = 1 + np.random.default_rng(0).poisson(1.0, (24, 30)) * (np.arange(30)[None] < 10 + CODES[:, None] * 8)
    cells = tokenizer.tokenize(csr_matrix(counts - 1 * (counts == 1)), cell_ids=[f"c{n}" for n in range(24)], seed=0)
    network = fresh_network(ScgptConfig(**SIZE, dropout=dropout, **FIELDS[kind]), seed=1)
    own = {"ClassTask": {"classes": CODES}, "GenerativeTask": {}, "MaskedTask": {"groups": CODES}}
    return getattr(tasks, kind)(
        network=network, cells=cells, fit_rows=np.arange(18), held_rows=np.arange(18, 24), seed=2,
        tokens_per_minibatch=tokens_per_minibatch, **own[kind],
    )  # fmt: skip


def weights_of(task):
    return {name: weight.clone() for name, weight in task.network.state_dict().items()}


def gradients_of(task):
    """Return the gradient of an epoch, divided by its terms, as a step has it."""
    told = [task.loss(rows, epoch=1) for rows in task.minibatches(1)]
    sum(loss for loss, _ in told).backward()
    n_terms = sum(n for _, n in told)
    return {name: weight.grad / n_terms for name, weight in task.network.named_parameters() if weight.grad is not None}


def all_close(first, second, *, atol):
    return all(torch.allclose(first[name], second[name], atol=atol) for name in first)


@pytest.mark.parametrize("kind", ["ClassTask", "GenerativeTask"])
def test_accumulated_minibatches_are_one_large_minibatch_to_rounding(kind, monkeypatch):
    # Which share is generated belongs to a minibatch, as published: with one share only is a large one the sum of small ones.
    monkeypatch.setattr(tasks, "_GENERATED_SHARES", (0.5,))
    small, large = task_of(kind), task_of(kind, tokens_per_minibatch=100_000)
    assert len(small.minibatches(0)) > 3
    assert len(large.minibatches(0)) == 1
    many = train(small, dataclasses.replace(PLAN, accumulation=99), seed=0).steps
    one = train(large, PLAN, seed=0).steps
    assert [step.n_terms for step in many] == [step.n_terms for step in one]
    for name in ("loss", "gradient_norm"):
        first, second = ([getattr(step, name) for step in steps] for steps in (many, one))
        assert first == pytest.approx(second, rel=1e-3)
        assert first[0] == pytest.approx(second[0], rel=1e-5)
    first, second = (gradients_of(task_of(kind, tokens_per_minibatch=size)) for size in (128, 100_000))
    assert all_close(first, second, atol=1e-6)


@pytest.mark.parametrize("kind", list(FIELDS))
def test_bfloat16_trains_float32_weights_near_those_of_float32(kind):
    half, whole = task_of(kind), task_of(kind)
    first, second = (
        train(task, dataclasses.replace(PLAN, precision=precision), seed=0).steps
        for task, precision in ((half, "bfloat16"), (whole, "float32"))
    )
    assert {weight.dtype for weight in half.network.parameters()} == {torch.float32}
    assert first[0].loss == pytest.approx(second[0].loss, rel=0.05)
    assert first[0].loss != second[0].loss


def test_two_processes_draw_the_curve_of_one():
    """Dropout is on: what is drawn belongs to the minibatch, whoever takes it."""
    plan = dataclasses.replace(PLAN, accumulation=2)
    alone, shared = (task_of("GenerativeTask", dropout=0.2) for _ in range(2))
    one = train(alone, plan, seed=3)
    told = []
    two = TrainingMeans(processes=2).train(shared, plan, seed=3, folder=None, on_step=told.append)
    assert told == two.steps
    for ours, theirs in zip(two.steps, one.steps, strict=True):
        assert (ours.number, ours.n_terms) == (theirs.number, theirs.n_terms)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.held_out_loss == (None if theirs.held_out_loss is None else pytest.approx(theirs.held_out_loss, rel=1e-5))  # fmt: skip
    assert all_close(weights_of(alone), weights_of(shared), atol=1e-5)


STEPS = {"schedule": "cosine", "weight_decay": 0.1, "accumulation": 2, "clip_norm": 0.5, "precision": "bfloat16"}


def test_what_options_say_of_steps_is_the_plan_and_what_they_do_not_say_is_its_default(monkeypatch):
    told = {}
    monkeypatch.setattr(training_means, "train", lambda task, plan, **more: told.update(plan=plan, **more) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        learning.run_training(ScgptScratchSource(n_steps=7, **STEPS), task_of("ClassTask"), seed=0)
    plan = told["plan"]
    assert {name: getattr(plan, name) for name in STEPS} == STEPS
    assert (plan.n_steps, plan.learning_rate, told["n_processes"]) == (7, 1e-3, 1)
    plain = dataclasses.asdict(learning.plan_of(ScgptScratchSource()))
    assert {name: plain[name] for name in STEPS} == {name: getattr(TrainingPlan(n_steps=1), name) for name in STEPS}


@pytest.mark.parametrize("name", ["scgpt_scratch", "scgpt_annotator", "scgpt_integrator", "geneformer_scratch"])
def test_a_study_may_say_how_steps_are_taken(name):
    made = make_model(name, **STEPS)
    options = made.options if name == "scgpt_integrator" else made.learning
    assert {key: getattr(options, key) for key in STEPS} == STEPS


def test_steps_that_nobody_can_take_are_refused_before_a_cell_is_read():
    with pytest.raises(UsageError, match="precision = 'float16'"):
        make_model("scgpt_annotator", precision="float16")
    with pytest.raises(UsageError, match="by checkpoints"):
        TrainingMeans(engine="ray").train(task_of("ClassTask"), PLAN, seed=0, folder=None, on_step=print)

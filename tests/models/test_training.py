"""The loop against torch and transformers, and against itself after a kill."""

import dataclasses
import importlib.util
import json
import multiprocessing
import os

import numpy as np
import pytest

from cytolabe.errors import ConflictError, IntegrityError, ModelFailedError, UsageError
from cytolabe.models.extras import import_extra
from cytolabe.models.held_out import hold_out_persons
from cytolabe.models.training import TrainingPlan, rate_factor, train
from cytolabe.randomness import rng_for

pytestmark = pytest.mark.models
PLAN = TrainingPlan(n_steps=12, learning_rate=0.02, warm_up=3, check_every=4, save_every=5)


class Killed(BaseException):
    """Stands for a signal: nothing in the loop may catch it."""


class Line:
    """A small network that learns numbers, with dropout, so that every draw of torch counts."""

    def __init__(self, *, dropout=0.3, size=4, held_out=True, die_at=0, seed=0):
        torch = import_extra("torch")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = torch.nn.Sequential(
                torch.nn.Linear(6, 8), torch.nn.Dropout(dropout), torch.nn.LayerNorm(8), torch.nn.Linear(8, 1)
            )
            torch.manual_seed(1)
            self.x = torch.randn(40, 6)
            self.y = self.x[:, :1] - self.x[:, 1:2] + 0.3 * torch.randn(40, 1)
        self.size, self.held_out, self.die_at, self.n_calls = size, held_out, die_at, 0
        self.identity = f"line {size} {held_out}"

    def minibatches(self, epoch):
        order = rng_for(0, "test", str(epoch)).permutation(30)
        return [order[start : start + self.size] for start in range(0, 30, self.size)]

    def loss(self, rows, *, epoch):
        self.n_calls += 1
        if self.n_calls == self.die_at:
            raise Killed
        return ((self.network(self.x[rows]) - self.y[rows]) ** 2).sum(), len(rows)

    def held_out_loss(self):
        return float(((self.network(self.x[30:]) - self.y[30:]) ** 2).mean().detach()) if self.held_out else None

    def weights(self):
        return {name: weight.clone() for name, weight in self.network.state_dict().items()}


@pytest.fixture(autouse=True, scope="module")
def _torch():
    if not all(importlib.util.find_spec(module) for module in ("torch", "transformers", "safetensors")):
        pytest.skip("the extra [models] is not installed")


def same(first, second):
    return all(import_extra("torch").equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("die_at", [1, 6, 9, 17, 24])
def test_a_killed_training_goes_on_to_the_same_curve_and_the_same_weights(tmp_path, die_at):
    plan = dataclasses.replace(PLAN, accumulation=2)
    whole = Line()
    curve = train(whole, plan, seed=3)
    with pytest.raises(Killed):
        train(Line(die_at=die_at), plan, seed=3, folder=tmp_path)
    taken_up = Line()
    resumed = train(taken_up, plan, seed=3, folder=tmp_path)
    assert resumed.steps == curve.steps
    assert (resumed.best_step, resumed.best_loss) == (curve.best_step, curve.best_loss)
    assert same(taken_up.weights(), whole.weights())
    assert len(curve.steps) == 12


def frozen(line):
    line.network[0].weight.requires_grad = False
    return line


@pytest.mark.parametrize(
    "other",
    [lambda: Line(seed=9), lambda: Line(dropout=0.2), lambda: frozen(Line())],
    ids=["weights", "dropout", "frozen"],
)
def test_a_training_that_begins_with_another_network_does_not_go_on_with_the_checkpoint(tmp_path, other):
    """Data and options are the same: the answer would be called fine-tuned from weights that it never saw."""
    plan = dataclasses.replace(PLAN, accumulation=2)
    with pytest.raises(Killed):
        train(Line(die_at=17), plan, seed=3, folder=tmp_path)
    with pytest.raises(ConflictError, match="began with another network"):
        train(other(), plan, seed=3, folder=tmp_path)
    assert train(Line(), plan, seed=3, folder=tmp_path).steps == train(Line(), plan, seed=3).steps
    # What a finished training leaves is taken up by itself alone, too.
    assert len(train(Line(), plan, seed=3, folder=tmp_path).steps) == 12
    with pytest.raises(ConflictError):
        train(other(), plan, seed=3, folder=tmp_path)


def test_the_loop_is_adamw_with_the_schedule_of_transformers(tmp_path):
    torch, transformers = import_extra("torch"), import_extra("transformers")
    plan = TrainingPlan(n_steps=14, learning_rate=0.05, warm_up=4, schedule="cosine", weight_decay=0.1, clip_norm=0.5)
    ours, theirs = Line(dropout=0, held_out=False), Line(dropout=0, held_out=False)
    train(ours, plan, seed=0)
    decayed = [weight for weight in theirs.network.parameters() if weight.ndim > 1]
    plain = [weight for weight in theirs.network.parameters() if weight.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0}], lr=0.05
    )
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 4, 14)
    theirs.network.train()
    for rows in [*theirs.minibatches(0), *theirs.minibatches(1)][:14]:
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(theirs.network(theirs.x[rows]), theirs.y[rows]).backward()
        torch.nn.utils.clip_grad_norm_(theirs.network.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    assert all(torch.allclose(ours.weights()[name], weight, atol=1e-6) for name, weight in theirs.weights().items())


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warm_up", [0, 3, 20])
def test_rates_are_those_of_transformers(schedule, warm_up):
    transformers, torch = import_extra("transformers"), import_extra("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    expected = transformers.get_scheduler(name, optimizer, num_warmup_steps=warm_up, num_training_steps=20)
    plan = TrainingPlan(n_steps=20, warm_up=warm_up, schedule=schedule)
    for step in range(20):
        assert rate_factor(plan, step) == pytest.approx(expected.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        expected.step()


def test_accumulated_minibatches_of_unequal_size_are_one_large_minibatch():
    torch = import_extra("torch")
    small, large = Line(dropout=0, size=3, held_out=False), Line(dropout=0, size=12, held_out=False)
    plan = dataclasses.replace(PLAN, n_steps=6)  # 30 rows: the last step of an epoch has half as many
    steps = train(small, dataclasses.replace(plan, accumulation=4), seed=0).steps
    assert [step.n_terms for step in steps] == [12, 12, 6, 12, 12, 6]
    assert [step.loss for step in steps] == pytest.approx(
        [step.loss for step in train(large, plan, seed=0).steps], abs=1e-6
    )
    assert all(torch.allclose(small.weights()[name], weight, atol=1e-6) for name, weight in large.weights().items())


def test_training_ends_when_held_out_persons_no_longer_gain_and_keeps_the_best_weights():
    line = Line(dropout=0)
    progress = train(
        line, TrainingPlan(n_steps=2000, learning_rate=0.1, schedule="constant", check_every=5, patience=3), seed=0
    )
    looks = {step.number: step.held_out_loss for step in progress.steps if step.held_out_loss is not None}
    assert len(progress.steps) == progress.best_step + 15 < 2000
    assert min(looks, key=looks.get) == progress.best_step
    assert line.held_out_loss() == progress.best_loss == min(looks.values())


def test_a_change_of_seed_of_data_or_of_plan_finds_no_checkpoint_to_go_on_with(tmp_path):
    train(Line(), PLAN, seed=3, folder=tmp_path)
    for line, plan, seed in (
        (Line(), PLAN, 4),
        (Line(size=5), PLAN, 3),
        (Line(), dataclasses.replace(PLAN, warm_up=2), 3),
    ):
        with pytest.raises(ConflictError, match="folder of its own"):
            train(line, plan, seed=seed, folder=tmp_path)


def test_only_the_last_checkpoint_is_kept_and_a_damaged_one_is_an_error(tmp_path):
    train(Line(), PLAN, seed=3, folder=tmp_path)
    (place,) = tmp_path.iterdir()
    assert place.name == "step-00000012"
    assert len(json.loads((place / "state.json").read_bytes())["steps"]) == 12
    (place / "optimizer.safetensors").write_bytes((place / "optimizer.safetensors").read_bytes()[:-8])
    with pytest.raises(IntegrityError, match="cut off"):
        train(Line(), PLAN, seed=3, folder=tmp_path)
    (place / "state.json").unlink()
    with pytest.raises(IntegrityError, match="Remove this checkpoint"):
        train(Line(), PLAN, seed=3, folder=tmp_path)


def test_a_loss_that_is_no_number_stops_the_training_at_its_step():
    line = Line()
    line.y[7] = float("nan")
    with pytest.raises(ModelFailedError, match="stopped at step"):
        train(line, PLAN, seed=0)


def test_training_in_bfloat16_keeps_float32_weights_and_learns():
    torch = import_extra("torch")
    line = Line(dropout=0, held_out=False)
    plan = dataclasses.replace(PLAN, precision="bfloat16", n_steps=60, schedule="constant")
    steps = train(line, plan, seed=0).steps
    exact = train(Line(dropout=0, held_out=False), dataclasses.replace(plan, precision="float32"), seed=0).steps
    assert all(weight.dtype == torch.float32 for weight in line.network.parameters())
    assert 0 < abs(steps[0].loss - exact[0].loss) < 0.05
    assert np.mean([step.loss for step in steps[-8:]]) < 0.7 * np.mean([step.loss for step in steps[:8]])


def test_the_generator_of_torch_is_left_as_it_was():
    torch = import_extra("torch")
    line, before = Line(), torch.random.get_rng_state()
    train(line, PLAN, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_plan_that_cannot_be_followed_is_refused_with_all_that_is_wrong():
    with pytest.raises(UsageError, match=r"n_steps = 0; learning_rate = -1.0; schedule = 'step'"):
        TrainingPlan(n_steps=0, learning_rate=-1.0, schedule="step")
    empty = Line()
    empty.minibatches = lambda epoch: []
    with pytest.raises(UsageError, match="no minibatch"):
        train(empty, PLAN, seed=0)


def test_whole_persons_choose_when_to_stop_and_unknown_is_nobody():
    persons = np.array(["a"] * 30 + ["b"] * 30 + ["c"] * 20 + ["unknown"] * 20)
    for seed in range(20):
        fit, held, note = hold_out_persons(persons, fraction=0.1, seed=seed)
        assert sorted([*fit, *held]) == list(range(100))
        assert set(persons[fit]).isdisjoint(persons[held])
        assert 0.1 <= len(held) / 100 <= 0.34
        assert "1 training person(s)" in note
    nobody = hold_out_persons(np.array(["unknown"] * 50), fraction=0.1, seed=0)
    assert (len(nobody[1]), nobody[2]) == (
        5,
        "training ended by the loss on 5 training cells, not persons: too few are known",
    )
    assert len(hold_out_persons(persons, fraction=0.0, seed=0)[1]) == 0


def test_no_class_loses_all_its_persons_to_those_who_choose_when_to_stop():
    persons = np.repeat([f"P{number}" for number in range(5)], 20)
    everywhere, lonely = np.tile([0, 1], 50), np.where(persons == "P3", 2, np.where(persons == "P4", -1, 1))
    notes = []
    for seed in range(30):
        fit, held, note = hold_out_persons(persons, fraction=0.2, seed=seed, codes=[everywhere, lonely])
        assert set(lonely[fit]) >= {1, 2}
        assert "P3" not in persons[held]
        assert len(held) == 20
        notes.append(note)
        plain = hold_out_persons(persons, fraction=0.2, seed=seed)
        assert "passed over" not in plain[2]
        assert np.array_equal(plain[1], held) == ("passed over" not in note)
    assert any("1 were passed over" in note for note in notes)


@pytest.mark.parametrize("processes", [2])
def test_processes_that_share_the_minibatches_of_a_step_draw_the_curve_of_one(tmp_path, processes):
    """Dropout is on: what is drawn belongs to the minibatch, whoever takes it. Epochs end with half a step."""
    plan = dataclasses.replace(PLAN, accumulation=4, n_steps=8)
    alone, shared = Line(size=3), Line(size=3)
    one = train(alone, plan, seed=3)
    told = []
    several = train(shared, plan, seed=3, folder=tmp_path, n_processes=processes, on_step=told.append)
    assert told == several.steps
    for ours, theirs in zip(several.steps, one.steps, strict=True):
        assert (ours.number, ours.n_terms, ours.epoch) == (theirs.number, theirs.n_terms, theirs.epoch)
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-6)
        assert ours.gradient_norm == pytest.approx(theirs.gradient_norm, abs=1e-5)
        assert ours.held_out_loss == (None if theirs.held_out_loss is None else pytest.approx(theirs.held_out_loss, abs=1e-6))  # fmt: skip
    torch = import_extra("torch")
    assert all(torch.allclose(alone.weights()[name], weight, atol=1e-6) for name, weight in shared.weights().items())
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000008"]


def test_a_step_with_fewer_minibatches_than_processes_is_refused():
    with pytest.raises(UsageError, match="accumulation = 2 or more"):
        train(Line(), PLAN, seed=0, n_processes=2)
    with pytest.raises(UsageError, match="--processes 0"):
        train(Line(), PLAN, seed=0, n_processes=0)


class Dying(Line):
    """Ends without a word in every process but the first."""

    def loss(self, rows, *, epoch):
        if multiprocessing.parent_process() is not None:
            os._exit(3)
        return super().loss(rows, epoch=epoch)


def test_a_process_that_dies_ends_the_training_with_a_word_and_hangs_nothing():
    with pytest.raises(ModelFailedError, match="one that is gone"):
        train(Dying(size=3), dataclasses.replace(PLAN, accumulation=2), seed=3, n_processes=2)
    assert not multiprocessing.active_children()

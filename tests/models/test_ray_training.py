"""The loop on a Ray cluster: the curve of the loop here, also after a worker died."""

import importlib.util
import os
import sys

import numpy as np
import pytest

from cytolabe.engine import RayEngine
from cytolabe.errors import ModelFailedError, UsageError, WorkerDiedError
from cytolabe.models.extras import import_extra
from cytolabe.models.peers import GONE
from cytolabe.models.ray_training import RayWorkers, train_on_ray
from cytolabe.models.training import TrainingPlan, train
from cytolabe.models.training_state import Progress
from cytolabe.randomness import rng_for

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PLAN = TrainingPlan(n_steps=8, learning_rate=0.02, warm_up=2, accumulation=2, check_every=3, save_every=3)
TWO = RayWorkers(n_workers=2)


class Slope:
    """A small network with dropout; in a step of one worker it may end its process, once."""

    def __init__(self, flag=None):
        torch = import_extra("torch")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
            self.x = torch.randn(36, 5)
            self.y = self.x[:, :1] + 0.2 * torch.randn(36, 1)
        self.flag, self.n_calls, self.identity = flag, 0, "slope"

    def minibatches(self, epoch):
        return np.array_split(rng_for(0, "test", str(epoch)).permutation(30), 6)

    def loss(self, rows, *, epoch):
        self.n_calls += 1
        torch = import_extra("torch")
        total = ((self.network(self.x[rows]) - self.y[rows]) ** 2).sum()
        # In the fifth step of the second worker: a checkpoint is kept after the third.
        if self.flag and self.n_calls == 5 and torch.distributed.get_rank() == 1 and not self.flag.exists():
            self.flag.touch()
            os._exit(9)
        return total, len(rows)

    def held_out_loss(self):
        return float(((self.network(self.x[30:]) - self.y[30:]) ** 2).mean().detach())


@pytest.fixture(scope="module")
def _cluster():
    """Start a Ray cluster of two processors, which knows the classes of this file."""
    for module in ("torch", "safetensors", "ray"):
        if not importlib.util.find_spec(module):
            pytest.skip(f"{module} is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setenv("RAY_ADDRESS", "127.0.0.1:1")
        import_extra("ray.cloudpickle").register_pickle_by_value(sys.modules[__name__])
        with RayEngine(2):
            yield


@pytest.mark.usefixtures("_cluster")
def test_a_worker_that_dies_is_told_and_the_same_call_goes_on_to_the_curve_of_one_process(tmp_path):
    alone = Slope()
    curve = train(alone, PLAN, seed=3)
    kept, flag, told = tmp_path / "kept", tmp_path / "flag", []
    with pytest.raises(WorkerDiedError, match="goes on from step-00000003"):
        train_on_ray(Slope(flag), PLAN, seed=3, folder=kept, workers=TWO, on_step=told.append)
    assert told == []
    on_ray = Slope(flag)
    resumed = train_on_ray(on_ray, PLAN, seed=3, folder=kept, workers=TWO, on_step=told.append)
    assert told == resumed.steps[3:]
    assert len(resumed.steps) == len(curve.steps)
    for ours, theirs in zip(resumed.steps, curve.steps, strict=True):
        assert (ours.number, ours.n_terms, ours.epoch) == (theirs.number, theirs.n_terms, theirs.epoch)
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-6)
        assert ours.held_out_loss == (None if theirs.held_out_loss is None else pytest.approx(theirs.held_out_loss, abs=1e-6))  # fmt: skip
    torch, weights = import_extra("torch"), alone.network.state_dict()
    assert all(torch.allclose(weights[name], value, atol=1e-6) for name, value in on_ray.network.state_dict().items())
    assert [path.name for path in kept.iterdir()] == ["step-00000008"]


@pytest.mark.usefixtures("_cluster")
def test_what_a_worker_raises_itself_is_raised_and_not_that_others_waited_for_it(tmp_path, monkeypatch):
    ray_train = import_extra("ray.train")
    own, waited = ModelFailedError("the loss is nan"), ModelFailedError(f"Process 1 of 2 {GONE}")

    class Failing:
        def __init__(self, *words, **options):
            pass

        def fit(self):
            msg = "two workers failed"
            raise ray_train.WorkerGroupError(msg, {0: waited, 1: own})

    monkeypatch.setattr(import_extra("ray.train.torch"), "TorchTrainer", Failing)
    with pytest.raises(ModelFailedError, match="the loss is nan"):
        train_on_ray(Slope(), PLAN, seed=3, folder=tmp_path, workers=TWO)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_cluster")
def test_more_workers_than_processors_or_minibatches_are_refused_and_do_not_wait(tmp_path):
    wide = TrainingPlan(n_steps=2, accumulation=3)
    with pytest.raises(UsageError, match=r"the Ray cluster has 2\s+processor"):
        train_on_ray(Slope(), wide, seed=0, folder=tmp_path, workers=RayWorkers(n_workers=3))
    with pytest.raises(UsageError, match="accumulation = 3 or more"):
        train_on_ray(Slope(), PLAN, seed=0, folder=tmp_path, workers=RayWorkers(n_workers=3))


@pytest.mark.usefixtures("_cluster")
def test_a_folder_that_machines_do_not_share_is_an_error_and_no_half_trained_network(tmp_path, monkeypatch):
    on_ray = importlib.import_module("cytolabe.models.ray_training")
    monkeypatch.setattr(on_ray, "_fit", lambda job, workers: 8)
    monkeypatch.setattr(on_ray, "_kept", lambda job: Progress())
    with pytest.raises(UsageError, match="do not see one folder"):
        train_on_ray(Slope(), PLAN, seed=0, folder=tmp_path, workers=TWO)

"""The same training by workers of a Ray cluster (Ray Train): the loop, the draws and the checkpoints are those of `models.training`.

Ray places the workers and joins them by gloo, on processors; each takes its part of the minibatches of a step, and the first
keeps the checkpoints. What was learned comes back through their folder, which every machine has to see, as it does for an
ingest on Ray. So a run whose worker dies goes on from its last checkpoint, under either engine, and gives the curve and the
weights of as many processes on one machine. Ray is never asked to try again behind anybody's back.

Ray is the extra `[ray]`; it is imported when a training begins. Steps are told when all are taken.
"""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytolabe.engine import RayEngine
from cytolabe.errors import CytolabeError, MissingExtraError, UsageError, WorkerDiedError
from cytolabe.models.extras import import_extra
from cytolabe.models.peers import GONE, Peers
from cytolabe.models.training import Objective, TrainingJob, TrainingPlan, refuse_unshareable, train_part
from cytolabe.models.training_state import Progress, Step, load_progress

__all__ = ["RayWorkers", "train_on_ray"]

_PATIENCE_SECONDS = 1800
"""How long one worker waits for the others in a step, as `models.peers` does."""


@dataclass(frozen=True, kw_only=True)
class RayWorkers:
    """How many workers train together, of one processor each, on the cluster at `address` or one that is started here."""

    n_workers: int
    address: str = ""


def train_on_ray(
    objective: Objective,
    plan: TrainingPlan,
    *,
    seed: int,
    folder: Path,
    workers: RayWorkers,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Progress:
    """Train a network by workers of a Ray cluster, and leave in it what `models.training.train` leaves.

    Parameters
    ----------
    folder
        Where checkpoints are kept; every machine of the cluster has to see it under this name.
    on_step
        Is told of every step that was taken now, when all are.

    Raises
    ------
    MissingExtraError
        If Ray or torch is not installed.
    UsageError
        If there is no cluster, it has too few processors, a step has too few minibatches, or the folder is not shared.
    WorkerDiedError
        If a worker or its machine was ended; the same call goes on from the last checkpoint.
    CytolabeError
        What a worker raised itself, as `train` does.
    """
    refuse_unshareable(objective, plan, n_processes=workers.n_workers)
    folder.mkdir(parents=True, exist_ok=True)
    job = TrainingJob(objective=objective, plan=plan, seed=seed, folder=folder.resolve())
    n_before = len(_kept(job).steps)
    with RayEngine(workers.n_workers, address=workers.address) as engine, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if engine.n_workers < workers.n_workers:
            msg = (
                f"{workers.n_workers} workers of one processor each were asked for, and the Ray cluster has {engine.n_workers} "
                "processor(s): they would wait for ever. Ask for fewer with --processes, or add machines."
            )
            raise UsageError(msg)
        n_steps = _fit(job, workers)
    progress = _kept(job)
    if len(progress.steps) != n_steps:
        msg = (
            f"The workers took {n_steps} steps, and {folder} holds {len(progress.steps)} of them here: its machines do not see one "
            "folder. Give a folder that all of them share."
        )
        raise UsageError(msg)
    for step in progress.steps[n_before:]:
        on_step(step)
    if progress.best_weights:
        objective.network.load_state_dict(progress.best_weights)
    objective.network.eval()
    return progress


class _NoMoments:
    """Stands for an optimizer where nothing will be trained on."""

    def __init__(self) -> None:
        self.state: dict[Any, Any] = {}


def _kept(job: TrainingJob) -> Progress:
    """Put the last checkpoint into the network, and return how far it is."""
    progress = Progress()
    if job.folder is not None:
        load_progress(job.folder, progress, network=job.network, optimizer=_NoMoments(), identity=job.identity)
    return progress


def _fit(job: TrainingJob, workers: RayWorkers) -> int:
    """Run the training on the cluster, and return the steps that it has then."""
    train, of_torch, torch = import_extra("ray.train"), import_extra("ray.train.torch"), import_extra("torch")
    if not hasattr(train, "TrainingFailedError"):
        msg = "This Ray is too old to train with (2.60 was tried). Install a newer one: pip install -U 'cytolabe[ray]'."
        raise MissingExtraError(msg)
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    # Ray writes what it knows of a run where all machines see it; the last of a run that was killed is of no use.
    notes = Path(tempfile.mkdtemp(prefix="ray-", dir=job.folder))
    trainer = of_torch.TorchTrainer(
        _work,
        train_loop_config={"job": job, "n_threads": torch.get_num_threads()},
        torch_config=of_torch.TorchConfig(backend="gloo", timeout_s=_PATIENCE_SECONDS),
        scaling_config=train.ScalingConfig(num_workers=workers.n_workers, use_gpu=False, resources_per_worker={"CPU": 1}),
        run_config=train.RunConfig(name="training", storage_path=str(notes), failure_config=train.FailureConfig(max_failures=0)),
    )  # fmt: skip
    try:
        result = trainer.fit()
    except train.TrainingFailedError as error:
        raise _reason(error, job) from None
    finally:
        shutil.rmtree(notes, ignore_errors=True)
    return int(result.return_value)


def _work(config: Mapping[str, Any]) -> int:
    """Do the part of one worker, whom Ray has joined to the others, and return the steps that are taken then."""
    train, torch = import_extra("ray.train"), import_extra("torch")
    context = train.get_context()
    peers = Peers(rank=context.get_world_rank(), size=context.get_world_size())
    # As processes on one machine have it: so the first adds up in the same order, and the weights are the same bits.
    torch.set_num_threads(config["n_threads"] if peers.rank == 0 else 1)
    progress = train_part(config["job"], peers, on_step=lambda _: None)
    return len(progress.steps)


def _reason(error: Exception, job: TrainingJob) -> CytolabeError:
    """Return what a worker raised itself, or that one is gone."""
    failures = getattr(error, "worker_failures", {})
    causes = [_cause(failure) for _, failure in sorted(failures.items())]
    own = [cause for cause in causes if isinstance(cause, CytolabeError) and GONE not in str(cause)]
    if own:
        return own[0]
    steps = sorted(path.name for path in (job.folder or Path()).glob("step-*"))
    went_on = f"from {steps[-1]}" if steps else "from its beginning, since no checkpoint was due yet"
    last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
    return WorkerDiedError(
        f"A worker of the Ray cluster is gone, with the training under way ({last[0][:200]}). Most often its machine had too little "
        f"memory. What was kept is whole: the same command goes on {went_on}."
    )


def _cause(failure: BaseException) -> BaseException:
    """Return what lies in the envelopes of Ray."""
    for name in ("_base_exc", "cause"):
        inner = getattr(failure, name, None)
        if isinstance(inner, BaseException):
            return _cause(inner)
    return failure

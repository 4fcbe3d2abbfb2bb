"""What a fit costs on the machine that runs it: seconds, memory, and the size of a network.

A cost is of one run. It never enters scores, digests, certificates or the report, which are the same bytes for the same
study; it has a file and a page of its own. Clocks start when the cells are in memory, so that reading an atlas is in no
cost, and whoever reads it first pays for nobody.

Memory is that of the whole process, sampled while the step runs: libraries, the cells of the fold and what earlier
models keep are in it. Where a system does not tell it (`/proc`), it is the largest that the process ever held.
"""

import dataclasses
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cytolabe.models.network_size import NetworkSize, Sized

__all__ = ["Cost", "StudyCosts", "Watch", "machine_facts"]

_STATM = Path("/proc/self/statm")
_CPUINFO = Path("/proc/cpuinfo")
_EVERY_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One fit and what it answered.

    `step` is `embedding` (fit and embed both sides), `probe` (a classifier on an embedding), `annotator`, or `start` (the network
    without labels that an annotator is fine-tuned from, where no frozen one of the fold had made it). `fit` is the
    pair of sides, `resolution` the level whose labels were read (empty where none were), `purpose` what it was run for:
    `score`, `ceiling`, `sensitivity` or `limited_labels`. Seconds are of the wall clock, for the fit and for the answer;
    processor seconds are of both and of all threads and children. Memory is what the process held at the start, and at most. Numbers of parameters are None where there is no
    network, and so is `weights`: the digest of the weights that answered, as of the file that they have or would have. `is_finished` is
    false where the model raised.
    """

    model: str
    step: str
    purpose: str
    seed: int
    n_train: int
    n_query: int
    n_genes: int
    split: str = ""
    gene_policy: str = ""
    resolution: str = ""
    fit_seconds: float = 0.0
    answer_seconds: float = 0.0
    processor_seconds: float = 0.0
    start_resident_bytes: int = 0
    peak_resident_bytes: int = 0
    n_parameters: int | None = None
    n_trained: int | None = None
    weights: str | None = None
    is_finished: bool = True


@dataclass(frozen=True, kw_only=True)
class StudyCosts:
    """All costs of a study, the machine, and how many processes shared it."""

    rows: tuple[Cost, ...]
    machine: Mapping[str, object]
    n_workers: int


class Watch:
    """Measures the block that it is entered for, and puts what it cost into a list, also when the block raised.

    Call `answering` between the fit and the answer.
    """

    def __init__(self, cost: Cost, *, into: list[Cost]) -> None:
        self._cost, self._into = cost, into
        self._size: NetworkSize | None = None
        self._fitted: object = None
        self._start = self._peak = 0
        self._began = self._turned = self._processor = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":  # noqa: PYI034 - checks of types at run time do not know Self here
        """Start the clocks."""
        self._start = self._peak = _resident_bytes()
        self._thread.start()
        self._processor = _processor_seconds()
        self._began = time.perf_counter()
        return self

    def answering(self, fitted: object) -> None:
        """Take in that the fit has ended with `fitted`, and that its answer is next."""
        self._turned = time.perf_counter()
        self._size = fitted.network_size if isinstance(fitted, Sized) else None
        self._fitted = fitted

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the clocks and keep the cost."""
        ended, processor = time.perf_counter(), _processor_seconds()
        self._ended.set()
        self._thread.join()
        turned = self._turned or ended
        # After the clocks, because all weights are read for it; by name, because `isinstance` of a protocol would read them as well.
        weights = getattr(self._fitted, "weights_digest", None) if kind is None else None
        self._into.append(
            dataclasses.replace(
                self._cost,
                fit_seconds=turned - self._began,
                answer_seconds=ended - turned,
                processor_seconds=processor - self._processor,
                start_resident_bytes=self._start,
                peak_resident_bytes=max(self._peak, _resident_bytes()),
                n_parameters=self._size.n_parameters if self._size is not None else None,
                n_trained=self._size.n_trained if self._size is not None else None,
                weights=weights or None,
                is_finished=kind is None,
            )
        )

    def _look(self) -> None:
        while not self._ended.wait(_EVERY_SECONDS):
            self._peak = max(self._peak, _resident_bytes())


def machine_facts() -> dict[str, object]:
    """Return what times depend on: processor, cores, memory, system, threads. No name of a host, no path."""
    return {
        "processor": _processor_name(),
        "n_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", "") or "1 for each fit",
        "memory_is": "sampled during the step" if _STATM.exists() else "the largest of the process so far",
    }


def _processor_name() -> str:
    if not _CPUINFO.exists():
        return platform.processor() or platform.machine()
    lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next((name for name in names if name), platform.machine())


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _resident_bytes() -> int:
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024

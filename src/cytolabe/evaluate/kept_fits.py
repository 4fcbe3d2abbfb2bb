"""Fits that are done, kept on disk until their study has ended: one that was killed goes on with them.

Kept is what a model answered (the embeddings of both sides, or the probabilities), on which cells it was fitted, its notes,
and what the fit cost; never a fitted model, and never a failure. The name of a file is a digest of all that the answer
follows from: snapshot, cells, genes, seed, labels, the model with its options and weights (`ModelRunner` says these), and
in the name of its folder the code, every installed library, the machine, and the variables that libraries for numbers
read. With another of any of them it is another name, so nothing that is found can be stale. A file states the
digest of its own bytes: one that was cut or changed is told, and the fit is done anew.

Every question has a file of its own, also where two ask for the same: what is taken up was fitted by a run before, and
costs are those of the fits that were made. Fits that took less than `LEAST_SECONDS` are done again and not kept.
Several processes may keep fits in one folder: files are written whole or not at all, and either one's will do. Where a
fit cannot be kept, or is no longer there, the work goes on without.
"""

import contextlib
import dataclasses
import errno
import hashlib
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cytolabe.evaluate.costs import Cost, machine_facts
from cytolabe.files import STAGED_PREFIX, remove, replace_file, sha256_of_file
from cytolabe.provenance import digest_of
from cytolabe.provenance.ledger import ledger_key, packed, unpacked
from cytolabe.provenance.runs import code_changed_since_start
from cytolabe.records import FitScope

__all__ = ["KEPT_FITS", "Fit", "KeptFits", "TaskFits", "kept_fits", "remove_kept_fits"]

KEPT_FITS = "fits"
"""Folder of a run that goes on, inside its output folder."""

LEAST_SECONDS = 1.0

_SUFFIX = ".fit"
_DIGITS = 64
_MEASURED = (
    "fit_seconds", "answer_seconds", "processor_seconds", "start_resident_bytes", "peak_resident_bytes", "n_parameters", "n_trained", "weights",
)  # fmt: skip
_OF_THE_MACHINE = ("processor", "n_cores", "system", "python", "threads")
_VARIABLES = (
    "ATEN_", "BLIS_", "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "GLIBC_TUNABLES", "GOTO_", "HIP_", "KMP_", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "MKL_", "NPY_", "NUMBA_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHONHASHSEED", "PYTORCH_", "ROCR_", "TORCH", "VECLIB_",
)  # fmt: skip
"""How variables begin that libraries for numbers read."""
_SET_BY_LIBRARIES = {
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_CACHE_DIR",
}  # fmt: skip
"""Variables that scikit-learn and torch set when they are loaded: they tell what this process has loaded, not how it computes."""
_MOST_COLUMNS = 1_024
"""Wider embeddings are expression of genes: quickly made again, large, and more than a folder of the moment should hold of cells."""
_FREE_TIMES = 4
"""So many times a fit has to fit on the disk: the results of the study need room as well."""


def _say_nothing(line: str) -> None:
    del line


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a fitted model answered; `classes` names the columns of probabilities."""

    arrays: Mapping[str, np.ndarray]
    scopes: tuple[FitScope, ...]
    notes: tuple[str, ...]
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class KeptFits:
    """Where the fits of a study are kept: a folder for this code, these libraries and this machine.

    `sources` is the digest of the code and the data of the package, as the process that asked found them.
    """

    folder: Path
    least_seconds: float
    sources: str

    def told(self) -> str:
        """Say what a run before left here; nothing where there is nothing."""
        n_own = len(list(self.folder.glob(f"*{_SUFFIX}")))
        if n_own:
            return f"{n_own} fit(s) of the run before are kept: those that are asked for again are taken up"
        n_others = len(list(self.folder.parent.glob(f"*/*{_SUFFIX}")))
        if n_others:
            return f"{n_others} fit(s) of the run before are of other code, libraries or another machine: they are done anew"
        return ""


def kept_fits(place: Path) -> KeptFits:
    """Return where fits are kept below `place`, for what runs here now."""
    sources = _sources()
    return KeptFits(
        folder=place / ledger_key(**_conditions(), sources=sources), least_seconds=LEAST_SECONDS, sources=sources
    )


def remove_kept_fits(place: Path) -> None:
    """Remove all fits that are kept below `place`, those of another process too; files of others stay."""
    with contextlib.suppress(OSError):
        for folder in place.iterdir():
            if re.fullmatch(r"[0-9a-f]{32}", folder.name):
                _remove_fits(folder)
        place.rmdir()


def _remove_fits(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith(STAGED_PREFIX) or re.fullmatch(r"[0-9a-f]{64}\.fit", path.name):
                remove(path)
        folder.rmdir()


@dataclass
class TaskFits:
    """The fits of one task; without `kept` every fit is done and none is kept.

    `task` names it, so that no other task asks for the same files. `n_taken_up` counts fits that a run before had made.
    """

    kept: KeptFits | None = None
    task: Sequence[str] = ()
    say: Callable[[str], None] = _say_nothing
    n_taken_up: int = 0
    _asked: Counter[str] = field(default_factory=Counter)
    _can_keep: bool = True
    _is_checked: bool = False

    def fit(
        self,
        follows_from: Callable[[], Mapping[str, object]],
        cost: Cost,
        *,
        costs: list[Cost],
        work: Callable[[], Fit],
    ) -> Fit:
        """Return what a fit answered: as it was kept, or after it is done.

        Parameters
        ----------
        follows_from
            Returns all that the answer follows from, beside code, libraries and machine.
        cost
            The names of what the fit costs.
        costs
            Get what it cost, whoever did it.
        work
            Does the fit, and puts what it cost into `costs`.
        """
        kept = self.kept
        if kept is None or not self._is_current(kept):
            return work()
        path = kept.folder / f"{self._key(follows_from())}{_SUFFIX}"
        found = self._taken(path, cost)
        if found is not None:
            fit, measured = found
            self.n_taken_up += 1
            costs.append(measured)
            return fit
        fit = work()
        is_quick = costs[-1].fit_seconds + costs[-1].answer_seconds < kept.least_seconds
        if self._can_keep and not is_quick and not _is_wide(fit) and self._is_current(kept):
            self._keep(path, fit, costs[-1])
        return fit

    def _is_current(self, kept: KeptFits) -> bool:
        """Tell whether the code that runs here is the one that the folder is named by, and else keep and take up nothing.

        The folder was named by the process that asked; this one may have read other sources, and may read more of them
        later. Variables and libraries it has from that process, and models that it has loaded may have added to both.
        """
        is_current = not code_changed_since_start()
        if is_current and not self._is_checked:
            is_current = self._is_checked = _sources() == kept.sources
        if not is_current:
            self.kept = None
            self.say(f"fits of {' '.join(self.task)}: sources changed while the study ran; none is taken up or kept")
        return is_current

    def _key(self, follows_from: Mapping[str, object]) -> str:
        """Return the name of a question; one that is asked again has another number."""
        asked = digest_of(follows_from)
        self._asked[asked] += 1
        return digest_of([asked, list(self.task), self._asked[asked]]).removeprefix("sha256:")

    def _taken(self, path: Path, cost: Cost) -> tuple[Fit, Cost] | None:
        """Return a kept fit and what it cost, or None where it has to be done."""
        if not path.is_file():
            return None
        try:
            document, arrays = _opened(path.read_bytes(), path.stem)
            return _read(document, arrays, cost)
        except Exception as error:  # noqa: BLE001  whatever is wrong with a file, the fit can be done
            self.say(f"{cost.model}: a kept fit cannot be used ({type(error).__name__}: {error}); it is done anew")
            return None

    def _keep(self, path: Path, fit: Fit, cost: Cost) -> None:
        try:
            document = {
                "key": path.stem,
                "classes": fit.classes,
                "scopes": fit.scopes,
                "notes": fit.notes,
                "cost": {name: getattr(cost, name) for name in _MEASURED},
            }
            content = packed(document, fit.arrays)
            _refuse_full_disk(path.parent, len(content))
            replace_file(path, b"".join([_digest(content), b"\n", content]))
        except Exception as error:  # noqa: BLE001  what cannot be kept is no failure of the model
            self._can_keep = False
            self.say(f"fits of {' '.join(self.task)} are not kept from here on ({type(error).__name__}: {error})")


def _is_wide(fit: Fit) -> bool:
    return any(array.ndim > 1 and array.shape[1] > _MOST_COLUMNS for array in fit.arrays.values())


def _refuse_full_disk(folder: Path, n_bytes: int) -> None:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < _FREE_TIMES * n_bytes:
        raise OSError(errno.ENOSPC, f"{free / 1e6:,.0f} MB are free, and results need room as well")


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _opened(content: bytes, key: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what a file holds, after its bytes had the digest that it states."""
    rest = memoryview(content)[_DIGITS + 1 :]
    if content[:_DIGITS] != _digest(rest):
        msg = "it was cut or changed"
        raise ValueError(msg)
    document, arrays = unpacked(rest)
    if document["key"] != key:
        msg = "it is another one"
        raise ValueError(msg)
    return document, arrays


def _read(document: Mapping[str, Any], arrays: Mapping[str, np.ndarray], cost: Cost) -> tuple[Fit, Cost]:
    fit = Fit(
        arrays=arrays,
        scopes=tuple(FitScope(**scope) for scope in document["scopes"]),
        notes=tuple(document["notes"]),
        classes=tuple(document["classes"]),
    )
    measured: dict[str, Any] = {
        name: float(value) if name.endswith("_seconds") else value for name, value in document["cost"].items()
    }
    return fit, dataclasses.replace(cost, **measured)


def _conditions() -> dict[str, object]:
    """Return what every fit here follows from, whatever is asked and beside the sources: libraries, machine, variables."""
    machine = machine_facts()
    return {
        "libraries": _libraries(),
        "c_library": list(platform.libc_ver()),
        "machine": {name: machine[name] for name in _OF_THE_MACHINE},
        "accelerators": _accelerators(),
        "variables": {
            name: ascii(value)
            for name, value in os.environ.items()
            if name.startswith(_VARIABLES) and name not in _SET_BY_LIBRARIES
        },
    }


def _libraries() -> list[str]:
    """Name every installed library with its version, but those that lie inside of another, which loads them for itself."""
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    places = [place for place in sys.path if installed.isdisjoint(Path(place).resolve().parents)]
    return sorted({f"{one.name} {one.version}" for one in metadata.distributions(path=places)})


def _sources() -> str:
    """Return one digest over the code and the data of the package."""
    root = Path(__file__).resolve().parent.parent
    data = [path for path in sorted(root.rglob("*")) if path.is_file() and _is_data(path)]
    return ledger_key(data=[[path.relative_to(root).as_posix(), sha256_of_file(path)] for path in data])


def _is_data(path: Path) -> bool:
    is_of_an_editor = path.name.startswith(".") or path.name.endswith("~")
    return path.suffix != ".py" and "__pycache__" not in path.parts and not is_of_an_editor


def _accelerators(driver: Path = Path("/proc/driver/nvidia")) -> list[str]:
    """Name the accelerators and their driver; loading a library to ask would take longer than most fits."""
    found = []
    for path in sorted(driver.glob("gpus/*/information")):
        found += [line for line in path.read_text(errors="replace").splitlines() if line.startswith("Model")]
    version = driver / "version"
    return [*found, *([version.read_text(errors="replace")] if version.is_file() else [])]

"""Look through an untrusted file in a process of its own, which may die.

HDF5 and the decoders of chunks are C code that trusts what it parses, and a file can be made to crash them. So before
any reader here opens a file, a child process scans its structure and reads everything in it once, with bounds on its
memory and its time and without the right to write a byte. A child that crashes, hangs or runs out of memory is a
finding about the file; the next file goes on. What comes back is JSON.

The readers then go over the same bytes with the same libraries. That a file crashes them and not the child is not
impossible, only no longer a matter of what one writes into the file.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytolabe.records import Finding, Severity

__all__ = ["HDF5_CHILD", "TAR_CHILD", "ZARR_CHILD", "child_environment", "findings_in", "inspect"]

HDF5_CHILD = "cytolabe.ingest.inspect_hdf5"
TAR_CHILD = "cytolabe.ingest.inspect_tar"
ZARR_CHILD = "cytolabe.ingest.inspect_zarr"
_LEAST_MEMORY = 2 << 30
"""Room for the libraries and one chunk of the largest size that is allowed."""
_CPU_SECONDS = 120
_BYTES_PER_CPU_SECOND = 500_000
"""A file gets this slow a reading, and `_CPU_SECONDS` beside it; a hundredth of what decoding takes."""
_OUT_OF_TIME = frozenset({signal.SIGXCPU, signal.SIGKILL})


def inspect(
    path: Path, child: str, *, memory: int = 0, options: Sequence[Sequence[str]] = (), spill: tuple[int, ...] = ()
) -> tuple[Finding, ...]:
    """Scan a file and read all of it in a child process.

    Parameters
    ----------
    path
        The file or folder.
    child
        Module that does it.
    memory
        Bytes of address space of the child; half of this machine's memory where it is 0.
    options
        What else the function of the child takes.
    spill
        What `spill_received` yields, where the child has much to keep.

    Returns
    -------
    findings
        Empty where the file may be read; else what the child found, or how it ended.
    """
    n_bytes = sum(entry.lstat().st_size for entry in path.rglob("*")) if path.is_dir() else path.stat().st_size
    limits = {
        "memory": max(_LEAST_MEMORY, memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2),
        "seconds": _CPU_SECONDS + n_bytes // _BYTES_PER_CPU_SECOND,
    }
    task = {"path": str(path.resolve()), "options": [list(option) for option in options], **limits}
    command = [sys.executable, "-m", child, json.dumps({**task, "spill": spill} if spill else task)]
    try:
        ended = subprocess.run(  # noqa: S603  this interpreter, a module of this package, one JSON argument
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=child_environment(),
            pass_fds=spill,
            timeout=4 * limits["seconds"],
            check=False,
        )
    except subprocess.TimeoutExpired:
        return (_over(path, f"Reading it took over {4 * limits['seconds']:,} seconds."),)
    if ended.returncode == 0:
        return findings_in(json.loads(ended.stdout))
    last = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or [""]
    if -ended.returncode in _OUT_OF_TIME:
        return (_over(path, f"Reading it took over {limits['seconds']:,} seconds of this machine, or all its memory."),)
    if "MemoryError" in last[0]:
        return (_over(path, f"Reading it took over {limits['memory']:,} bytes of memory."),)
    how = signal.Signals(-ended.returncode).name if ended.returncode < 0 else last[0][:200]
    return (_crashed(path, how),)


def child_environment() -> dict[str, str]:
    """Let the child find this package, load no plug-in, and start no threads that take memory."""
    found = {key: value for key, value in os.environ.items() if key != "HDF5_PLUGIN_PATH"}
    here = str(Path(__file__).resolve().parents[2])
    paths = [path for path in (os.environ.get("PYTHONPATH", ""), here) if path]
    return {
        **found,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONFAULTHANDLER": "",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def findings_in(documents: Sequence[Mapping[str, Any]]) -> tuple[Finding, ...]:
    """Return the findings that another process told as documents."""
    return tuple(
        Finding(
            **{
                **document,
                "severity": Severity(document["severity"]),
                "examples": tuple(document["examples"]),
                "autofix": tuple(document["autofix"]),
            }
        )
        for document in documents
    )


def _crashed(path: Path, how: str) -> Finding:
    return Finding(
        code="E-PARSE-01",
        severity=Severity.ERROR,
        where=path.name,
        n_affected=1,
        n_total=1,
        examples=(how,),
        message=f"The process that looked through the file ended with {how}: its bytes crash the library that reads them.",
        remedy="Copy it again from its source and compare the checksums. If it stays so, do not trust the file.",
        rule="cytolabe/safety",
    )


def _over(path: Path, message: str) -> Finding:
    return Finding(
        code="E-PARSE-02",
        severity=Severity.ERROR,
        where=path.name,
        n_affected=1,
        n_total=1,
        message=message,
        remedy="Write it anew in smaller chunks, or give the machine more memory if the file really is that large.",
        rule="cytolabe/safety",
    )

"""What ran: the code and the environment of a run, and the files that it read and wrote.

Host, time and path are left out of everything here: two runs of the same thing on two machines have equal records.
"""

import hashlib
import os
import platform
import sys
import time
from functools import cache
from importlib import metadata
from pathlib import Path

from cytolabe.files import sha256_of_file
from cytolabe.records import Artifact

__all__ = ["artifact_of", "code_changed_since_start", "code_identity", "environment_identity"]

_STARTED_NS = time.time_ns()
"""About when this process began to read the package: most of it is imported after this module."""
_LIBRARIES = (
    "anndata", "cellxgene-ontology-guide", "h5py", "harmonypy", "numcodecs", "numpy", "pandas",
    "pyarrow", "scikit-learn", "scipy", "scvi-tools", "torch", "zarr",
)  # fmt: skip


def artifact_of(path: Path, role: str) -> Artifact:
    """Name a file by its bytes; the record holds the file's name, not its directory."""
    return Artifact(role=role, name=path.name, sha256=sha256_of_file(path), n_bytes=path.stat().st_size)


def code_identity() -> dict[str, str]:
    """Return the version of Cytolabe and one digest over its source files."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\x00")
        digest.update(path.read_bytes())
    return {"name": "cytolabe", "version": metadata.version("cytolabe"), "source_sha256": digest.hexdigest()}


def code_changed_since_start() -> bool:
    """Tell whether a source file changed after this process began to read them: what runs may be another code then."""
    try:
        return any(os.stat(path).st_ctime_ns >= _STARTED_NS for path in _source_paths())  # noqa: PTH116 - asked before every fit
    except OSError:
        return True  # one is gone


@cache
def _source_paths() -> tuple[str, ...]:
    return tuple(str(path) for path in Path(__file__).resolve().parent.parent.rglob("*.py"))


def environment_identity() -> dict[str, str]:
    """Return the versions that numbers can depend on; a library that is absent is named `absent`."""
    found = {"python": platform.python_version(), "platform": f"{sys.platform}-{platform.machine()}"}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found

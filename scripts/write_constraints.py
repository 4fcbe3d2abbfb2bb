"""Write constraints/py<version>.txt: one set of exact pins that pip resolved together for the running Python.

Asks pip's resolver (`install --dry-run --report`) for the package with [models] and every dependency group. Written:
`name==version` only - no `@` references, no `+local` versions. torch stands bare, and CUDA packages are left out: a
machine with a GPU gets them from torch's own requirements, a machine without never needs them.

Run it with the Python that the file is for, in any environment: `make constraints PYTHON=python3.12`.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

TORCH = "torch==2.13.0"
ROOT = Path(__file__).parent.parent
LEFT_OUT = ("nvidia-", "cuda-", "triton", "cytolabe")
# Resolved apart from the newest: releases after these broke a consumer although pip check is content.
PINNED = {
    "pynndescent": "pynndescent==0.5.13",  # 0.7 fails inside scanpy 1.11 neighbors on csr_array
    "python-dateutil": "python-dateutil<3",  # botocore refuses 3; without this pip tries hundreds of its releases
}


def requirements() -> list[str]:
    """Return what has to resolve together."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [item for group in document["dependency-groups"].values() for item in group]
    project = document["project"]
    extras = [item for name, items in project["optional-dependencies"].items() if name != "all" for item in items]
    return [TORCH, *PINNED.values(), *project["dependencies"], *extras, *groups]


def resolve() -> dict[str, str]:
    """Return name -> version of the whole resolution."""
    command = [
        sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-",
        *requirements(),
    ]  # fmt: skip
    finished = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(finished.stdout[finished.stdout.index("{") :])
    found = {
        entry["metadata"]["name"].lower().replace("_", "-"): entry["metadata"]["version"] for entry in report["install"]
    }
    return {name: version.split("+")[0] for name, version in found.items() if not name.startswith(LEFT_OUT)}


def main() -> None:
    """Write the file and say where."""
    pins = resolve()
    tag = f"py{sys.version_info.major}{sys.version_info.minor}"
    target = ROOT / "constraints" / f"{tag}.txt"
    target.parent.mkdir(exist_ok=True)
    lines = [
        f"# Written by scripts/write_constraints.py with Python {sys.version_info.major}.{sys.version_info.minor}."
    ]
    lines += [f"{name}=={version}" for name, version in sorted(pins.items())]
    target.write_text("\n".join(lines) + "\n")
    print(f"{target.relative_to(ROOT)}: {len(pins)} pins")


if __name__ == "__main__":
    main()

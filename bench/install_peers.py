"""Install the peers of `peers.txt` into environments of their own, one by one, each within its time.

One that cannot be installed does not stop the others: `.venv-bench/peers.json` says what became of each, and its row
in the bench says so, too. What was installed is kept; remove `.venv-bench*` to start anew.

    python bench/install_peers.py [SECONDS PER PEER]
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent
ROOT = HOME.parent
RESULT = ROOT / ".venv-bench" / "peers.json"
_SAID = 300


def environment(version: str = "") -> Path:
    """Return where the peers of a Python version live; the version that runs this without one."""
    return ROOT / (f".venv-bench{version.replace('.', '')}" if version else ".venv-bench")


def python_of(version: str = "") -> Path:
    """Return the interpreter of the peers."""
    return environment(version) / "bin" / "python"


def main(limit: int) -> None:
    """Install what is not there yet and write what became of it."""
    found = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
    for line in (HOME / "peers.txt").read_text(encoding="utf-8").splitlines():
        name, _, wanted = line.partition(":")
        if not wanted or line.startswith("#") or found.get(name) == "":
            continue
        peer, _, version = name.partition("@")
        found[name] = _create(version) or _install(version, wanted.split(), limit=limit)
        print(f"{peer}: {found[name] or 'installed'}", flush=True)
        RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _create(version: str) -> str:
    """Make the environment; return why that failed, or nothing."""
    if python_of(version).exists():
        return ""
    base = _interpreter(version)
    if not base:
        return f"needs Python {version}, which is not on this machine"
    done = subprocess.run([base, "-m", "venv", str(environment(version))], capture_output=True, text=True, check=False)
    return done.stderr.strip()[-_SAID:] if done.returncode else ""


def _interpreter(version: str) -> str:
    """Return an interpreter of a version that starts, or nothing: a name on the path may be a stand-in."""
    if not version:
        return sys.executable
    kept = Path.home() / ".pyenv" / "versions"
    candidates = [shutil.which(f"python{version}"), *(str(path) for path in kept.glob(f"{version}*/bin/python"))]
    for candidate in candidates:
        if candidate and not subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode:
            return candidate
    return ""


def _install(version: str, wanted: list[str], *, limit: int) -> str:
    """Install one line; return why that failed, or nothing."""
    words = [str(python_of(version)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=limit, env=dict(os.environ))
    except subprocess.TimeoutExpired:
        return f"not installed within {limit} s"
    said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
    return said[-1][-_SAID:] if done.returncode else ""


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 150)

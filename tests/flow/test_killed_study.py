"""A study whose process is killed goes on in the next run of the same command, and ends with the bytes of one that was not."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cytolabe.evaluate import kept_fits
from cytolabe.flow import publish

_PROGRAM = """
import sys
from pathlib import Path
from cytolabe.config.study import ModelSpec, Study
from cytolabe.evaluate import kept_fits
from cytolabe.flow.publish import publish_run
from cytolabe.flow.study import run_study
from cytolabe.ingest.sources import find_sources


def run(files, out, *, n_workers, tell=lambda _: None):
    study = Study(
        name="small", n_seeds=1, gene_policies=("intersection",), ceilings=False,
        models=(ModelSpec(name="one_vs_rest"), ModelSpec(name="pca+knn")),
    )
    evidence = run_study(study, out, sources=find_sources([files])[0], n_workers=n_workers, on_progress=tell)
    publish_run(evidence, out)


if __name__ == "__main__":
    kept_fits.LEAST_SECONDS = 0.0
    run(Path(sys.argv[1]), Path(sys.argv[2]), n_workers=2)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory, two_lab_files):
    """A program that runs a small study, and the folder of its files."""
    path = tmp_path_factory.mktemp("killed") / "program.py"
    path.write_text(_PROGRAM)
    return path, two_lab_files


def kept(out):
    return sorted(path.name for path in (out / "fits").glob("*/*.fit"))


def files_of(out):
    """Every file of a run but what it cost, which is of one run alone."""
    found = [path for path in out.iterdir() if path.is_file() and not path.name.startswith("costs.")]
    return {path.name: path.read_bytes() for path in found}


def test_a_killed_study_goes_on_to_the_same_bytes_and_leaves_nothing_of_its_fits(program, tmp_path, monkeypatch):
    path, files = program
    out = tmp_path / "out"
    monkeypatch.setenv("PYTHONPATH", str(Path(kept_fits.__file__).resolve().parents[2]))
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, path, files, out], stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while len(kept(out)) < 4 and process.poll() is None:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = kept(out)
    assert len(before) >= 4
    assert not (out / "run.json").exists()

    run, lines = runpy.run_path(str(path))["run"], []
    monkeypatch.setattr(kept_fits, "LEAST_SECONDS", 0.0)
    run(files, out, n_workers=1, tell=lines.append)
    assert f"{len(before)} fit(s) of the run before were taken up" in lines
    assert not (out / "fits").exists()
    run(files, tmp_path / "whole", n_workers=1)
    resumed, unkilled = files_of(out), files_of(tmp_path / "whole")
    assert {"scores.json", "scores.parquet", "predictions.parquet", "certificate.json", "split.json"} <= set(unkilled)
    # The sources were taken in by the run that was killed: the report says so, and the record names the report.
    assert resumed["evidence.json"].replace(b"unchanged", b"accepted") == unkilled["evidence.json"]
    apart = {name for name, content in resumed.items() if content != unkilled[name]}
    assert apart == {"evidence.json", "report.html", "run.json"}
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


def test_a_study_whose_results_could_not_be_written_keeps_its_fits(program, tmp_path, monkeypatch):
    path, files = program
    run, lines = runpy.run_path(str(path))["run"], []
    monkeypatch.setattr(kept_fits, "LEAST_SECONDS", 0.0)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(publish, "write_report", full)
        with pytest.raises(OSError, match="No space left"):
            run(files, tmp_path, n_workers=1)
    before = kept(tmp_path)
    assert before
    run(files, tmp_path, n_workers=1, tell=lines.append)
    assert f"{len(before)} fit(s) of the run before were taken up" in lines
    assert not (tmp_path / "fits").exists()

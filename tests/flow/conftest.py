"""One small demonstration that several tests look at, and the real files where they are present."""

import dataclasses
from pathlib import Path

import pytest

from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.config.study import ModelSpec, Study
from cytolabe.flow.demo import DEMO_STUDY, run_demo
from cytolabe.flow.runs import FinishedRun

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"


@pytest.fixture(scope="session")
def quick_study() -> Study:
    """Return the demonstration with its cheap models, without ceilings, and with few labels."""
    models = tuple(ModelSpec(name=name) for name in ("majority", "metadata_only", "pca"))
    few = LimitedLabels(cells_per_type=(1, 5), donors=(2,), n_draws=2)
    return dataclasses.replace(DEMO_STUDY, models=models, ceilings=False, limited_labels=few)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, quick_study: Study) -> tuple[Path, FinishedRun]:
    """Return a finished demonstration and its folder."""
    out = tmp_path_factory.mktemp("demo")
    return out, run_demo(out, study=quick_study, scale=0.5, n_workers=1)


@pytest.fixture(scope="session")
def real_files() -> Path:
    """Return the folder of real contributions."""
    if not DATA.is_dir():
        pytest.skip("the real files (../shared/data/h5ad) are not here")
    return DATA

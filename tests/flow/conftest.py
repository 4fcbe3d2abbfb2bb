"""One small demonstration and two small labs that several tests look at, and the real files where they are present."""

import dataclasses
import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.config.limited_labels import LimitedLabels
from cytolabe.config.study import ModelSpec, Study
from cytolabe.flow import demo as demo_module
from cytolabe.flow.demo import DEMO_STUDY, run_demo
from cytolabe.flow.interpret import reconcile_atlas
from cytolabe.flow.runs import FinishedRun
from cytolabe.flow.sources import ingest_sources
from cytolabe.flow.splitting import AskedSplit, make_split, rule_asked
from cytolabe.flow.study import StudyEvidence, run_study
from cytolabe.genes.reference import load_reference
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.split import write_split
from cytolabe.testing.simulate import simulate_contributions

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"


@pytest.fixture(scope="session")
def quick_study() -> Study:
    """Return the demonstration with its cheap models, without ceilings, and with few labels."""
    models = tuple(ModelSpec(name=name) for name in ("majority", "metadata_only", "pca"))
    few = LimitedLabels(cells_per_type=(1, 5), donors=(2,), n_draws=2)
    return dataclasses.replace(DEMO_STUDY, models=models, ceilings=False, limited_labels=few)


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory, quick_study: Study) -> tuple[Path, FinishedRun, StudyEvidence]:
    """Return a finished demonstration with its folder, and what its study found."""
    out = tmp_path_factory.mktemp("demo")
    found: list[StudyEvidence] = []

    def watched(*given: object, **options: object) -> StudyEvidence:
        found.append(run_study(*given, **options))
        return found[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "run_study", watched)
        finished = run_demo(out, study=quick_study, scale=0.5, n_workers=1)
    return out, finished, found[0]


@pytest.fixture(scope="session")
def demo(demo_run: tuple[Path, FinishedRun, StudyEvidence]) -> tuple[Path, FinishedRun]:
    """Return a finished demonstration and its folder."""
    return demo_run[:2]


@pytest.fixture(scope="session")
def demo_evidence(demo_run: tuple[Path, FinishedRun, StudyEvidence]) -> StudyEvidence:
    """Return what the study of the demonstration found, before anything was written of it."""
    return demo_run[2]


@pytest.fixture(scope="session")
def real_files() -> Path:
    """Return the folder of real contributions."""
    if not DATA.is_dir():
        pytest.skip("the real files (../shared/data/h5ad) are not here")
    return DATA


@pytest.fixture(scope="session")
def make_labs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Snapshot]:
    """Return a function that freezes two labs of three donors and 60 cells each, which measure genes of their own as well."""

    def make(n_genes: int, n_own: int, kinds: Sequence[str] = ("NK",)) -> Snapshot:
        folder, rng = tmp_path_factory.mktemp("labs"), np.random.default_rng(4)
        genes = sorted(load_reference().protein_coding)[:n_genes]
        for name, columns in {"amber": slice(0, n_genes - n_own), "birch": slice(n_own, n_genes)}.items():
            depth = rng.uniform(0.03, 0.2, size=(60, 1))
            counts = rng.negative_binomial(0.5, depth, size=(60, n_genes - n_own)).astype(np.float32)
            table = pd.DataFrame({"cell_type": [kinds[cell % len(kinds)] for cell in range(60)]})
            table["donor_id"] = [f"d{cell // 20}" for cell in range(60)]
            table.index = [f"{name}{cell}" for cell in range(60)]
            anndata.AnnData(X=csr_matrix(counts), obs=table, var=pd.DataFrame(index=genes[columns])).write_h5ad(
                folder / f"{name}.h5ad"
            )
        ingest_sources(folder / "atlas", [folder])
        reconcile_atlas(folder / "atlas")
        return open_atlas(folder / "atlas").freeze()

    return make


@pytest.fixture(scope="session")
def two_labs(make_labs: Callable[..., Snapshot]) -> Snapshot:
    """Return a snapshot of two labs that share 200 of their 250 genes."""
    return make_labs(300, 50)


@pytest.fixture(scope="session")
def two_lab_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of two simulated contributions that share no person. Do not change them."""
    root = tmp_path_factory.mktemp("two_lab_files")
    simulate_contributions(root / "simulated", scale=0.5)
    (root / "files").mkdir()
    for name in ("birch", "fir"):
        shutil.copy(root / "simulated" / f"{name}.h5ad", root / "files")
    return root / "files"


@pytest.fixture(scope="session")
def two_labs_split(two_labs: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a split that leaves each lab out; fold 1 tests amber."""
    path = tmp_path_factory.mktemp("split") / "split.json"
    write_split(make_split(two_labs, rule_asked(two_labs, AskedSplit(by=("dataset",)))), path)
    return path


@pytest.fixture(scope="session")
def needs() -> Callable[..., None]:
    """Return a function that skips where a module of the extra [models] is not installed."""

    def skip(*modules: str) -> None:
        if not all(importlib.util.find_spec(module) for module in modules):
            pytest.skip("the extra [models] is not installed")

    return skip


_PROTEINS = ["CD3", "CD19", "isotype"]


@pytest.fixture
def make_cite_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of a file of two libraries, whose second one stained more weakly."""

    def make(
        *, named: str = "columns", change: Callable[[anndata.AnnData], None] = lambda _: None, name: str = "cite"
    ) -> Path:
        rng = np.random.default_rng(3)
        kind = np.arange(160) % 2
        library = np.arange(160) // 80
        genes = sorted(load_reference().protein_coding)[:300]
        marks = np.where(kind[:, None] == 0, np.arange(300) < 60, np.arange(300) >= 240)
        rna = rng.poisson(rng.lognormal(0, 0.3, (160, 1)) * (0.3 + 1.5 * marks))
        protein = rng.poisson(
            np.stack([np.where(kind == 0, 80, 4), np.where(kind == 1, 60, 3), np.full(160, 3)], axis=1)
        )
        protein = np.where(library[:, None] == 1, protein // 2, protein).astype(np.float32)
        obs = pd.DataFrame({"batch": np.array(["one", "two"])[library], "donor": [f"d{n % 4}" for n in range(160)]})
        obs.index = [f"cell{n}" for n in range(160)]
        table = anndata.AnnData(X=csr_matrix(rna, dtype=np.float32), obs=obs, var=pd.DataFrame(index=genes))
        table.obsm["adt"] = pd.DataFrame(protein, index=obs.index, columns=_PROTEINS) if named == "columns" else protein
        if named == "uns":
            table.uns["protein_names"] = np.array(_PROTEINS)
        change(table)
        path = tmp_path / f"{name}.h5ad"
        table.write_h5ad(path)
        return path

    return make

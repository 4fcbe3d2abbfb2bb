"""Simulated contributions with known truth: what `cytolabe demo` runs on, and what the flow is tested against.

Eleven files as eleven labs would send them (`laboratories.py`), counts from one model (`expression.py`), six kinds of
planted faults (`faults.py`). `truth.json` and `truth_cells.csv` lie beside the files; no stage may read them. The same
seed and scale give the same content.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, vstack

from cytolabe.config.manifest import MANIFEST_NAME
from cytolabe.files import replace_file
from cytolabe.genes.reference import load_reference
from cytolabe.provenance.canonical import jsonable
from cytolabe.randomness import rng_for
from cytolabe.testing.cell_types import CELL_TYPES, DIALECTS, all_markers
from cytolabe.testing.delivery import N_COMPOSITES, Contribution, manifest_text, write_h5ad
from cytolabe.testing.expression import CellPlan, ExpressionModel, make_model
from cytolabe.testing.faults import N_DUPLICATES, PlantedFault, duplicable_rows
from cytolabe.testing.laboratories import LABORATORIES, SHARED_DONOR, Laboratory

__all__ = ["SimulatedDataset", "SimulatedTruth", "simulate_contributions"]

_MIN_CELLS_PER_TYPE = 3
_CORE_GENES = 1_000
_UNASSIGNED_FRACTION = 0.03
_COPIED_FROM, _COPIED_TO = "amber", "elm"


@dataclass(frozen=True, kw_only=True)
class SimulatedDataset:
    """The truth about one file.

    `labels` maps a contributor label to its term, `persons` a donor to who it truly is (empty where the donor is no
    person), `columns` a role to the column that carries it.
    """

    dataset_id: str
    file: str
    study: str
    n_cells: int
    n_features: int
    features: str
    matrix: str
    refused: bool
    labels: Mapping[str, str]
    persons: Mapping[str, str]
    columns: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedTruth:
    """The truth about all files.

    `duplicates` are pairs of cell ids; `cells` has one row per cell of every file: cell_id, dataset_id, person_id
    (empty where unknown), simulated_type, cell_type_ontology_term_id.
    """

    seed: int
    scale: float
    datasets: tuple[SimulatedDataset, ...]
    faults: tuple[PlantedFault, ...]
    duplicates: tuple[tuple[str, str], ...]
    must_refuse: tuple[str, ...]
    cells: pd.DataFrame


def simulate_contributions(directory: Path, *, seed: int = 0, scale: float = 1.0) -> SimulatedTruth:
    """Write the files of all simulated labs into `directory` and return what is true of them.

    Parameters
    ----------
    directory
        Made where it does not exist; files of the same names are replaced.
    seed
        Changes everything random, and neither the labs nor the faults.
    scale
        Multiplies the cells per file; at 1, about 3,200 cells in all. At least 0.5, so that every type is present.

    Raises
    ------
    ValueError
        If `scale` is under 0.5.
    """
    if scale < 0.5:
        msg = f"scale = {scale} leaves too few cells for every type and person; use 0.5 or more."
        raise ValueError(msg)
    model = make_model(load_reference(), seed=seed)
    made = {lab.dataset_id: _contribution(lab, model, scale=scale) for lab in LABORATORIES}
    made[_COPIED_TO], duplicates = _with_copies(made[_COPIED_TO], made[_COPIED_FROM], seed=seed)
    directory.mkdir(parents=True, exist_ok=True)
    for contribution in made.values():
        write_h5ad(directory / f"{contribution.laboratory.dataset_id}.h5ad", contribution, model)
    replace_file(directory / MANIFEST_NAME, manifest_text().encode("utf-8"))
    truth = SimulatedTruth(
        seed=seed,
        scale=scale,
        datasets=tuple(_dataset_truth(contribution) for contribution in made.values()),
        faults=_faults(duplicates),
        duplicates=duplicates,
        must_refuse=tuple(lab.dataset_id for lab in LABORATORIES if _is_refused(lab)),
        cells=pd.concat([_cell_truth(contribution) for contribution in made.values()], ignore_index=True),
    )
    _write_truth(directory, truth)
    return truth


# --- cells --------------------------------------------------------------------------------------------------------


def _contribution(laboratory: Laboratory, model: ExpressionModel, *, scale: float) -> Contribution:
    """Draw the cells of one lab."""
    rng = rng_for(model.seed, "simulate", "cells", laboratory.dataset_id)
    n_cells = round(laboratory.n_cells * scale)
    chosen = rng.integers(0, len(laboratory.donors), n_cells)
    donors = [laboratory.donors[i] for i in chosen]
    types = _draw_types(rng, n_cells)
    plan = CellPlan(
        laboratory=laboratory.dataset_id,
        types=types,
        persons=np.array([donor.person or f"{laboratory.dataset_id}:{donor.name}" for donor in donors]),
        sexes=np.array([donor.sex for donor in donors]),
        diseases=np.array([donor.disease for donor in donors]),
        kits=np.array([donor.assay for donor in donors]),
        median_depth=laboratory.median_depth,
    )
    genes = _measured_genes(laboratory, model)
    return Contribution(
        laboratory=laboratory,
        names=_barcodes(rng, n_cells),
        types=types,
        labels=_labels(laboratory, types, rng),
        donors=chosen,
        genes=genes,
        counts=csr_matrix(model.counts(plan)[:, genes]),
    )


def _draw_types(rng: np.random.Generator, n_cells: int) -> np.ndarray:
    """Draw types around their shares in blood, each at least a few times."""
    names = list(CELL_TYPES)
    shares = rng.dirichlet([200 * CELL_TYPES[name].share for name in names])
    types = rng.choice(names, size=n_cells, p=shares)
    types[: _MIN_CELLS_PER_TYPE * len(names)] = np.repeat(names, _MIN_CELLS_PER_TYPE)
    return rng.permutation(types)


def _labels(laboratory: Laboratory, types: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the lab's own words; `dahlia` left some cells unassigned, as labs do."""
    if not laboratory.dialect:
        return np.full(len(types), "", dtype=object)
    word_for = {name: word for word, (_, names) in DIALECTS[laboratory.dialect].items() for name in names}
    labels = np.array([word_for[name] for name in types], dtype=object)
    if laboratory.study == "dahlia":
        labels[rng.random(len(types)) < _UNASSIGNED_FRACTION] = "Unassigned"
    return labels


def _barcodes(rng: np.random.Generator, n_cells: int) -> np.ndarray:
    letters = rng.choice(list("ACGT"), size=(2 * n_cells, 16))
    distinct = list(dict.fromkeys("".join(row) + "-1" for row in letters))
    return np.array(distinct[:n_cells], dtype=object)


def _measured_genes(laboratory: Laboratory, model: ExpressionModel) -> np.ndarray:
    """Return the columns that the lab's file has: the markers, a core that all files share, and some of the rest."""
    core = rng_for(model.seed, "simulate", "core").permutation(len(model.genes))[:_CORE_GENES]
    keep = np.isin(model.symbols, all_markers())
    keep[core] = True
    rng = rng_for(model.seed, "simulate", "measured", laboratory.dataset_id)
    keep |= rng.random(len(model.genes)) < laboratory.gene_fraction
    return rng.permutation(np.flatnonzero(keep))


def _with_copies(
    target: Contribution, source: Contribution, *, seed: int
) -> tuple[Contribution, tuple[tuple[str, str], ...]]:
    """Put copies of some cells of `source` into `target`, on the target's own genes and under other barcodes."""
    column_of = {int(gene): column for column, gene in enumerate(source.genes)}
    shared = np.array([column_of[int(gene)] for gene in target.genes])  # the source measures every gene
    rng = rng_for(seed, "simulate", "copies")
    rows = np.sort(rng.choice(duplicable_rows(source.counts, shared), size=N_DUPLICATES, replace=False))
    names = np.array([f"reused_{name}" for name in source.names[rows]], dtype=object)
    copied = Contribution(
        laboratory=target.laboratory,
        names=np.concatenate([target.names, names]),
        types=np.concatenate([target.types, source.types[rows]]),
        labels=np.concatenate([target.labels, _labels(target.laboratory, source.types[rows], rng)]),
        donors=np.concatenate([target.donors, np.full(len(rows), -1)]),
        genes=target.genes,
        counts=csr_matrix(vstack([target.counts, source.counts[rows][:, shared]], format="csr")),
    )
    pairs = zip(source.names[rows], names, strict=True)
    return copied, tuple((f"{_COPIED_FROM}:{a}", f"{_COPIED_TO}:{b}") for a, b in pairs)


# --- truth --------------------------------------------------------------------------------------------------------


def _is_refused(laboratory: Laboratory) -> bool:
    return laboratory.matrix in {"log_normalized", "ceil_cp10k"}


def _dataset_truth(contribution: Contribution) -> SimulatedDataset:
    laboratory = contribution.laboratory
    words = DIALECTS.get(laboratory.dialect, {})
    return SimulatedDataset(
        dataset_id=laboratory.dataset_id,
        file=f"{laboratory.dataset_id}.h5ad",
        study=laboratory.study or laboratory.dataset_id,
        n_cells=len(contribution.names),
        n_features=len(contribution.genes),
        features=laboratory.features,
        matrix=laboratory.matrix,
        refused=_is_refused(laboratory),
        labels={word: term for word, (term, _) in words.items()},
        persons={donor.name: donor.person for donor in laboratory.donors},
        columns=dict(laboratory.columns),
    )


def _cell_truth(contribution: Contribution) -> pd.DataFrame:
    laboratory = contribution.laboratory
    return pd.DataFrame(
        {
            "cell_id": [f"{laboratory.dataset_id}:{name}" for name in contribution.names],
            "dataset_id": laboratory.dataset_id,
            "person_id": [laboratory.donors[i].person if i >= 0 else "" for i in contribution.donors],
            "simulated_type": contribution.types,
            "cell_type_ontology_term_id": [CELL_TYPES[name].term for name in contribution.types],
        }
    )


def _faults(duplicates: tuple[tuple[str, str], ...]) -> tuple[PlantedFault, ...]:
    return (
        PlantedFault(
            name="normalized_as_raw",
            title="Log-normalized values where raw counts belong",
            dataset_ids=("iris_log",),
            expected_codes=("E-COUNTS-01",),
            detail="X holds log(1 + CP10K); the file has no other matrix.",
        ),
        PlantedFault(
            name="rounded_as_raw",
            title="Normalized values rounded up to whole numbers",
            dataset_ids=("iris_ceiling",),
            expected_codes=("E-COUNTS-02",),
            detail="X holds ceil(CP10K): whole numbers that pass every test for integers.",
        ),
        PlantedFault(
            name="donor_on_both_sides",
            title="One person in two data sets of a study",
            dataset_ids=("dahlia_north", "dahlia_south"),
            expected_codes=("E-LEAK-01",),
            detail=f"{SHARED_DONOR} was sampled at both sites: a split by data set puts the person on both sides.",
        ),
        PlantedFault(
            name="duplicated_cells",
            title="Cells of one data set delivered again in another one",
            dataset_ids=(_COPIED_FROM, _COPIED_TO),
            expected_codes=("W-DUP-01",),
            detail=f"{len(duplicates)} cells of {_COPIED_FROM} are also in {_COPIED_TO}, on fewer genes, in another "
            "order, under other barcodes and another donor.",
        ),
        PlantedFault(
            name="disease_nested_in_platform",
            title="Patients on one kit, controls on another",
            dataset_ids=("fir",),
            expected_codes=("W-CONF-01",),
            detail="All lupus donors were run on 10x 5' v1 and all controls on 10x 3' v3: disease is not estimable.",
        ),
        PlantedFault(
            name="symbols_not_ids",
            title="Old gene symbols instead of Ensembl ids",
            dataset_ids=("cedar",),
            expected_codes=("N-GENES-01",),
            detail=f"GENCODE v38 symbols, some renamed since, and {N_COMPOSITES} composites SYMBOL_ENSG...",
        ),
        PlantedFault(
            name="donor_is_technology",
            title="A donor column that holds the technology",
            dataset_ids=("gale",),
            expected_codes=("W-COLUMN-04",),
            detail="donor is one-to-one with assay: persons are unknown.",
        ),
    )


def _write_truth(directory: Path, truth: SimulatedTruth) -> None:
    document = {
        "datasets": jsonable(truth.datasets),
        "duplicates": jsonable(truth.duplicates),
        "faults": jsonable(truth.faults),
        "must_refuse": jsonable(truth.must_refuse),
        "scale": truth.scale,
        "seed": truth.seed,
    }
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    replace_file(directory / "truth.json", text.encode("utf-8"))
    replace_file(directory / "truth_cells.csv", truth.cells.to_csv(index=False, lineterminator="\n").encode("utf-8"))

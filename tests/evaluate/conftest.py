"""A small simulated study with known truth: three labs, four or five types, persons, and hand-made levels."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.audit.duplicates import DuplicateReport
from cytolabe.evaluate.plan import EvaluationPlan, ModelPlan
from cytolabe.ontology.resolutions import Resolution, Resolutions
from cytolabe.provenance import digest_of
from cytolabe.records import Split
from cytolabe.split import leave_one_group_out
from cytolabe.testing.memory import MemorySnapshot, memory_snapshot

T, B, NK, MONO, DC = "CL:0000084", "CL:0000236", "CL:0000623", "CL:0000576", "CL:0000451"
LYMPHOCYTE = "CL:0000542"
NAMES = {T: "T cell", B: "B cell", NK: "natural killer cell", MONO: "monocyte", DC: "dendritic cell"}
_LYMPHOID = (T, B, NK)


@dataclass(frozen=True, kw_only=True)
class Lab:
    """One contribution: cells per type, persons (0 = unknown), and the genes it measures."""

    types: Mapping[str, int]
    n_persons: int = 4
    n_unlabelled: int = 0
    genes: range = range(560)
    batch_is_label: bool = False
    assay: str = "10x 3' v2"
    label_origin: str = "manual"
    study: str = ""


@dataclass(frozen=True, kw_only=True)
class SimulatedStudy:
    """Everything that `evaluate_study` takes."""

    snapshot: MemorySnapshot
    split: Split
    resolutions: Resolutions
    duplicates: DuplicateReport
    plan: EvaluationPlan

    def arguments(self, **changes: object) -> dict[str, object]:
        given = {"split": self.split, "plan": self.plan, "resolutions": self.resolutions, "duplicates": self.duplicates}
        return {**given, **changes}


def labs(**changes: Lab) -> dict[str, Lab]:
    """Three labs; lab_c alone has dendritic cells."""
    default = {
        "lab_a": Lab(types={T: 40, B: 30, NK: 24, MONO: 30}, n_persons=8),
        "lab_b": Lab(types={T: 40, B: 24, NK: 24, MONO: 24}, n_persons=3),
        "lab_c": Lab(types={T: 36, B: 24, NK: 4, MONO: 30, DC: 12}, n_persons=4),
    }
    return {**default, **changes}


def make_levels() -> Resolutions:
    """Two levels made by hand: lymphocyte / monocyte / dendritic cell, and the five types."""
    broad = dict.fromkeys((*_LYMPHOID, LYMPHOCYTE), LYMPHOCYTE) | {MONO: MONO, DC: DC}
    fine = {one: one for one in (T, B, NK, MONO, DC)}

    def level(name: str, assignment: dict[str, str], excluded: dict[str, str]) -> Resolution:
        return Resolution(
            name=name, terms=tuple(sorted(set(assignment.values()))), assignment=assignment, excluded=excluded,
            below={}, ties={}, digest=digest_of([name, assignment]),
        )  # fmt: skip

    levels = (level("broad", broad, {}), level("fine", fine, {LYMPHOCYTE: "coarser than the level"}))
    return Resolutions(levels=levels, ontology_release="test", digest=digest_of([one.digest for one in levels]))


def no_duplicates() -> DuplicateReport:
    columns = [
        "a_row", "b_row", "cell_a", "cell_b", "dataset_a", "dataset_b", "kind", "n_shared_genes", "n_shared_nonzero",
    ]  # fmt: skip
    return DuplicateReport(
        pairs=pd.DataFrame(columns=columns), n_tested=0, not_testable={}, findings=(), comparisons=pd.DataFrame()
    )


def _lab_cells(dataset_id: str, lab: Lab, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    kinds = [kind for kind, n_cells in lab.types.items() for _ in range(n_cells)]
    kinds += [str(kind) for kind in rng.choice(sorted(NAMES), size=lab.n_unlabelled)]
    n_cells = len(kinds)
    labelled = np.arange(n_cells) < n_cells - lab.n_unlabelled
    persons = [f"{dataset_id}/p{cell % lab.n_persons}" if lab.n_persons else "unknown" for cell in range(n_cells)]
    terms = np.where(labelled, kinds, "unknown")
    names = [NAMES.get(term, "unknown") for term in terms]
    cells = pd.DataFrame({
        "dataset_id": dataset_id,
        "study": lab.study or dataset_id,
        "donor_id": persons,
        "person_id": persons,
        "batch": [f"{dataset_id}-{k}" if lab.batch_is_label else p for k, p in zip(kinds, persons, strict=True)],
        "assay": lab.assay,
        "organism": "Homo sapiens",
        "contributor_label": [name if flag else "" for name, flag in zip(names, labelled, strict=True)],
        "label_origin": lab.label_origin,
        "cell_type_ontology_term_id": terms,
        "cell_type": names,
    })  # fmt: skip
    return cells, np.array(kinds)


@pytest.fixture(scope="session")
def simulated_study() -> Callable[..., SimulatedStudy]:
    """Return a function that makes a study; keyword arguments replace labs; only `n_folds` run."""

    def make(
        *,
        models: Sequence[str | ModelPlan] = ("pca+knn",),
        by: Sequence[str] = ("component",),
        n_folds: int = 1,
        seed: int = 0,
        plan: Mapping[str, object] | None = None,
        **changes: Lab,
    ) -> SimulatedStudy:
        rng = np.random.default_rng(seed)
        profiles = {kind: np.random.default_rng(7 + k).gamma(0.4, 2.0, 620) for k, kind in enumerate(sorted(NAMES))}
        tables, matrices, genes = [], {}, {}
        for dataset_id, lab in sorted(labs(**changes).items()):
            cells, kinds = _lab_cells(dataset_id, lab, rng)
            shift = rng.gamma(20.0, 1 / 20.0, 620)
            rates = np.stack([profiles[str(kind)] for kind in kinds]) * shift
            counts = rng.poisson(rates[:, list(lab.genes)])
            tables.append(cells)
            matrices[dataset_id] = csr_matrix(counts, dtype=np.int64)
            genes[dataset_id] = tuple(f"ENSG{gene:011d}" for gene in lab.genes)
        snapshot = memory_snapshot(pd.concat(tables, ignore_index=True), matrices, genes=genes)
        split = leave_one_group_out(snapshot, by=by)
        named = tuple(one if isinstance(one, ModelPlan) else ModelPlan(name=one) for one in models)
        options = {"study": "simulated", "decision_level": "fine", "ceilings": False, **(plan or {})}
        return SimulatedStudy(
            snapshot=snapshot,
            split=dataclasses.replace(split, folds=split.folds[:n_folds]),
            resolutions=make_levels(),
            duplicates=no_duplicates(),
            plan=EvaluationPlan(models=named, **options),
        )

    return make


@pytest.fixture(scope="session")
def lab() -> type[Lab]:
    """Return the class that describes one contribution."""
    return Lab

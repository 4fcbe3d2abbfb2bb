"""Everything a report may say, as plain records: the flow fills it, the writers only lay it out.

A report computes no number. What is absent here is absent from the page, and the page says so; what is present is
shown whether it flatters or not. Records of the stages are taken as they are (`Score`, `Fold`, `Certificate`, ...);
tables that other rooms own come as data frames and are printed with the columns that they have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from cytolabe.evaluate.rare_types import RareType
from cytolabe.records import Certificate, DatasetRecord, Exposure, Finding, Fold, LabelMapping, Score

__all__ = ["Confusion", "PlantedFault", "ReportContent", "RunFacts", "SourceRow"]


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One file that was offered. `status` is `accepted`, `refused` or `unchanged`.

    `genes_mapped_fraction_of_counts` is None where the file was refused before its genes were read.
    """

    source: str
    dataset_id: str
    status: str
    n_cells: int = 0
    n_genes: int = 0
    genes_mapped_fraction_of_counts: float | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a second run needs to get the same numbers. `split_rule` is the sentence that reproduces the folds."""

    cytolabe_version: str
    ontology_release: str
    gene_reference: str
    seed: int
    split_rule: str


@dataclass(frozen=True, kw_only=True)
class PlantedFault:
    """One defect that was planted on purpose: whether it was caught, and how (or why not)."""

    title: str
    caught: bool
    how: str


@runtime_checkable
class Confusion(Protocol):
    """A table of counts: one row per true class, one column per predicted class, in the order of `classes`.

    Columns beyond `classes` hold answers outside of them. `names` has the readable name of each class.
    """

    @property
    def split(self) -> str:
        """Split id of the fold."""
        ...

    @property
    def model(self) -> str:
        """Name of the model."""
        ...

    @property
    def resolution(self) -> str:
        """Level of the hierarchy."""
        ...

    @property
    def gene_policy(self) -> str:
        """Gene policy under which the model ran."""
        ...

    @property
    def classes(self) -> Sequence[str]:
        """Terms, sorted as the rows are."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Names of the terms."""
        ...

    @property
    def matrix(self) -> np.ndarray:
        """Counts of cells, truth x prediction."""
        ...


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """What one report is made of.

    `claims` are the sentences that bound what may be concluded ("ranks no model"). `levels` maps a resolution, coarse
    to fine, to its (term, name) pairs. `gene_policy` is the policy of the headline. `duplicates` has one row per
    identical pair and is None where nobody looked; `duplicates_not_testable` counts the cells that were too shallow to test, per pair of data sets.
    `scores` are those of annotation; `integration` has batches and types in the embeddings behind them,
    `limited` has macro-F1 with few training labels. `rare_types` are those of the decision level.
    `exposure_published` is what published weights have seen of the data sets, whether or not they were scored.
    `ladder` and `rungs` are those of `benchmark --ladder`, and empty else.
    `planted_faults` is filled by the demonstration only. `artifacts` are (name, sha256) of the files beside the report.
    """

    title: str
    claims: Sequence[str]
    snapshot_id: str
    facts: RunFacts
    decision_level: str
    gene_policy: str = "intersection"
    datasets: Sequence[DatasetRecord] = ()
    sources: Sequence[SourceRow] = ()
    findings: Sequence[Finding] = ()
    mappings: Sequence[LabelMapping] = ()
    levels: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    support: pd.DataFrame = field(default_factory=pd.DataFrame)
    gene_spaces: pd.DataFrame = field(default_factory=pd.DataFrame)
    folds: Sequence[Fold] = ()
    persons: pd.DataFrame = field(default_factory=pd.DataFrame)
    duplicates: pd.DataFrame | None = None
    duplicates_not_testable: Mapping[str, int] = field(default_factory=dict)
    confounding: pd.DataFrame = field(default_factory=pd.DataFrame)
    claims_refused: pd.DataFrame = field(default_factory=pd.DataFrame)
    exposure: Sequence[Exposure] = ()
    exposure_published: Sequence[Exposure] = ()
    scores: Sequence[Score] = ()
    integration: Sequence[Score] = ()
    limited: Sequence[Score] = ()
    confusions: Sequence[Confusion] = ()
    rare_types: Sequence[RareType] = ()
    certificates: Sequence[Certificate] = ()
    planted_faults: Sequence[PlantedFault] = ()
    ladder: pd.DataFrame = field(default_factory=pd.DataFrame)
    rungs: pd.DataFrame = field(default_factory=pd.DataFrame)
    artifacts: Sequence[tuple[str, str]] = ()

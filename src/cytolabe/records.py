"""The frozen records that the stages hand to each other.

Facts (what a lab delivered) and interpretations (what we make of it) never share a record: `DatasetRecord` holds
facts, `LabelMapping` an interpretation. Every check yields `Finding`s; only the caller decides to stop. Every number
leaves as a `Score`, which says between which floor and ceiling it stands and whether it may be believed. Fractions lie
in [0, 1]; `confidence` is an integer in thousandths, so that canonical JSON prints no float for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from scipy.sparse import csr_matrix

__all__ = [
    "Artifact",
    "Block",
    "Certificate",
    "DatasetRecord",
    "Embedding",
    "Exposure",
    "FeatureAlignment",
    "Finding",
    "FitOnQuery",
    "FitScope",
    "Fold",
    "HopState",
    "LabelMapping",
    "MatrixKind",
    "ModelCard",
    "Predicate",
    "Prediction",
    "Protocol",
    "RunRecord",
    "Score",
    "ScoreStatus",
    "Severity",
    "Split",
]

UNKNOWN = "unknown"
"""The one word for a value that was not given. Never a class, never a person."""


class Severity(StrEnum):
    """How much a finding weighs: an error refuses, a warning qualifies, a note informs."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a check found, at the place `where`, under `rule`; `autofix` are operations of a patch that repair it."""

    code: str
    severity: Severity
    where: str
    message: str
    remedy: str
    rule: str
    n_affected: int = 0
    n_total: int = 0
    examples: tuple[str, ...] = ()
    autofix: tuple[Mapping[str, object], ...] = ()


class MatrixKind(StrEnum):
    """What the values of a matrix were proven to be."""

    UMI = "umi"
    READS = "reads"
    CORRECTED = "corrected"
    NORMALIZED = "normalized"
    UNKNOWN = "unknown"


class HopState(StrEnum):
    """How well one hop of the provenance is known."""

    VERIFIED = "verified"
    DECLARED = "declared"
    RECOVERED = "recovered"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A run of whole cells of one data set: the unit that is streamed.

    `counts` is cells x features in the data set's own features and order; `cell_names` has one name per row;
    `start` is the row of the first cell in the source.
    """

    dataset_id: str
    start: int
    cell_names: tuple[str, ...]
    counts: csr_matrix


@dataclass(frozen=True, kw_only=True)
class DatasetRecord:
    """What a lab delivered, and what was proven of it. Nothing here is an interpretation.

    `columns` says which contributor column carries which role (`label`, `donor`, `batch`, `label_parent`, ...);
    `inferred` names the roles that nobody declared. `provenance` maps a hop (`matrix`, `alignment`, `reference`,
    `kit`, `reads`) to its state, `declared` to what was said of it; `label_origin_suspected` is what the file gives away.
    """

    dataset_id: str
    title: str
    source_digest: str
    matrix: str
    matrix_kind: MatrixKind
    n_cells: int
    n_features: int
    n_nonzero: int
    organism: str
    study: str
    columns: Mapping[str, str] = field(default_factory=dict)
    inferred: tuple[str, ...] = ()
    label_origin: str = UNKNOWN
    label_origin_suspected: str = UNKNOWN
    label_origin_evidence: str = ""
    gene_reference: str = UNKNOWN
    annotation: str = UNKNOWN
    annotation_evidence: str = "none"
    genes_mapped_fraction_of_counts: float = 0.0
    upstream_fraction_of_counts: float | None = None
    provenance: Mapping[str, HopState] = field(default_factory=dict)
    declared: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FeatureAlignment:
    """What became of each feature of a data set under one gene reference; arrays have one entry per feature.

    `status` is one of exact, version_stripped, symbol, renamed, composite, case_folded, alias, summed, ambiguous, retired,
    spike_in, unknown. `gene_ids` is empty where there is no gene; `count_fraction` is a feature's share of the counts.
    `annotation` is the GENCODE release that explains most (`a|b` on a tie), `annotation_evidence` by ids, symbols or none.
    """

    gene_reference: str
    features: tuple[str, ...]
    gene_ids: tuple[str, ...]
    status: tuple[str, ...]
    count_fraction: tuple[float, ...]
    genes_mapped_fraction_of_counts: float
    annotation: str = UNKNOWN
    annotation_evidence: str = "none"

    @property
    def measured_genes(self) -> tuple[str, ...]:
        """Reference genes that the data set measures, sorted. A gene outside is unmeasured, never zero."""
        return tuple(sorted({gene for gene in self.gene_ids if gene}))


class Predicate(StrEnum):
    """SKOS predicates; the object (the ontology term) is broader in `skos:broadMatch`."""

    EXACT = "skos:exactMatch"
    BROAD = "skos:broadMatch"
    NARROW = "skos:narrowMatch"
    RELATED = "skos:relatedMatch"
    NONE = "sssom:NoTermFound"


@dataclass(frozen=True, kw_only=True)
class LabelMapping:
    """One SSSOM row: what a contributor label means.

    `confidence` is the mapper's probability of being right, in thousandths. `justification` is a semapv term.
    `term` is empty where the mapper abstained. `decision` is `auto`, `review`, `abstained`, `reviewed` or `reserved`.
    `review_date` is the ISO day on which `reviewer` decided, or empty.
    """

    dataset_id: str
    contributor_label: str
    predicate: Predicate
    term: str
    term_name: str
    justification: str
    confidence: int
    decision: str
    ontology_release: str
    n_cells: int = 0
    evidence: str = ""
    reviewer: str = ""
    comment: str = ""
    review_date: str = ""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One train / test division of whole groups; rows are positions in the snapshot's canonical cell table."""

    split_id: str
    held_out: str
    groups_train: tuple[str, ...]
    groups_test: tuple[str, ...]
    train_rows: np.ndarray
    test_rows: np.ndarray
    status: str = "SCORED"
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Split:
    """How cells were divided: the rule reproduces the rows, nobody has to trust a list."""

    snapshot_id: str
    rule: str
    seed: int
    folds: tuple[Fold, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What was tested of a split and its scores, with power, what was not testable, and what was assumed."""

    snapshot_id: str
    split_id: str
    tests: tuple[Mapping[str, object], ...]
    not_testable: Mapping[str, int]
    assumptions: tuple[str, ...]
    thresholds: Mapping[str, object]
    digest: str


class Protocol(StrEnum):
    """How a model met the query. `zero_shot` = frozen published weights, nothing fitted on the query.

    `unknown` = a file that was made elsewhere: nobody here can say how.
    """

    ZERO_SHOT = "zero_shot"
    FINE_TUNED = "fine_tuned"
    SUPERVISED = "supervised"
    SELF_SUPERVISED = "self_supervised"
    CONTROL = "control"
    UNKNOWN = "unknown"


class FitOnQuery(StrEnum):
    """What a model fits on the query cells."""

    NONE = "none"
    UNLABELLED = "unlabelled_query"
    JOINT = "joint"


@dataclass(frozen=True, kw_only=True)
class FitScope:
    """Which cells one step was fitted on, by digest. No FitScope, no score."""

    step: str
    cells_digest: str
    n_cells: int


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Whether a model saw the test cells in pretraining: `in`, `out` or `unknown`; unknown is never called clean."""

    model: str
    dataset_id: str
    status: str
    evidence: str


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model needs, what it can do, and what it has seen.

    `unit_of_inference` is cell, cell_set or dataset. `determinism` is bit_exact, numerically_close or statistical.
    `inputs` names the technical columns that it reads.
    """

    name: str
    title: str
    gene_ids: str
    value_semantics: str
    capabilities: tuple[str, ...]
    protocol: Protocol
    fit_on_query: FitOnQuery
    unit_of_inference: str
    determinism: str
    licence: str
    source: str
    inputs: tuple[str, ...] = ()
    pretraining: tuple[str, ...] = ()
    n_seeds: int = 1
    weights_digest: str = ""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Cells x dims, keyed by cell id."""

    cell_ids: np.ndarray
    values: np.ndarray
    snapshot_id: str
    split_id: str
    model: str
    layer: str = "output"
    pooling: str = "none"
    precision: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One term per cell, keyed by cell id; `probability` is cells x classes in the order of `classes`, or None."""

    cell_ids: np.ndarray
    terms: np.ndarray
    classes: tuple[str, ...]
    probability: np.ndarray | None
    snapshot_id: str
    split_id: str
    model: str


class ScoreStatus(StrEnum):
    """May the number be believed? A failed run is never a zero, a refused number never enters an aggregate."""

    SCORED = "SCORED"
    QUALIFIED = "QUALIFIED"
    REFUSED = "REFUSED"
    FAILED = "FAILED"
    NOT_RUN = "NOT_RUN"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number with what is needed to believe it.

    `value` is None unless the status is SCORED or QUALIFIED; a refused number is kept as `raw_value`, outside every
    aggregate. `low` and `high` bound a 95 % interval over the population that `interval` names, or are None.
    `points` holds per-donor values where there are too few donors for an interval. `stratum` is `all`,
    `class:<term>`, `dataset:<id>`, `rare` or `unflagged`.
    """

    task: str
    study: str
    split: str
    model: str
    protocol: Protocol
    metric: str
    resolution: str
    stratum: str
    value: float | None
    status: ScoreStatus
    reason: str = ""
    low: float | None = None
    high: float | None = None
    interval: str = ""
    n_cells: int = 0
    n_donors: int = 0
    floor: float | None = None
    ceiling: float | None = None
    certificate: str = ""
    gene_policy: str = "intersection"
    n_genes: int = 0
    fit_on_query: FitOnQuery = FitOnQuery.NONE
    raw_value: float | None = None
    points: Mapping[str, float] = field(default_factory=dict)
    seeds: Mapping[str, float] = field(default_factory=dict)
    sensitivity: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that a run made or read, named by digest."""

    role: str
    name: str
    sha256: str
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What went into a run and what came out; host, time and path stay outside of what is hashed."""

    kind: str
    inputs: tuple[Artifact, ...]
    outputs: tuple[Artifact, ...]
    parameters: Mapping[str, object]
    code: Mapping[str, str]
    environment: Mapping[str, str]
    ontology_release: str
    ontology_digest: str
    gene_reference: str
    gene_reference_digest: str
    snapshot_id: str
    parents: tuple[str, ...] = ()

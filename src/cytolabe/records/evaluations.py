"""From a split to a score: what was held out, which model, what it gave, and how far it may be believed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from cytolabe.records.contributions import Finding

__all__ = [
    "Artifact",
    "Certificate",
    "Embedding",
    "Exposure",
    "FitOnQuery",
    "FitScope",
    "Fold",
    "ModelCard",
    "NamedDigest",
    "Prediction",
    "Protocol",
    "RunRecord",
    "Score",
    "ScoreStatus",
    "Split",
]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One train / test division of whole groups; rows are positions in the snapshot's canonical cell table.

    `inner` divides the training side again (nested cross-validation): its folds choose, and are never scored.
    """

    split_id: str
    held_out: str
    groups_train: tuple[str, ...]
    groups_test: tuple[str, ...]
    train_rows: np.ndarray
    test_rows: np.ndarray
    status: str = "SCORED"
    reason: str = ""
    inner: tuple["Fold", ...] = ()


@dataclass(frozen=True, kw_only=True)
class Split:
    """How cells were divided: the rule reproduces the rows, nobody has to trust a list.

    `classes` says of each class how many cells and persons carry it, and the least that a side of any fold holds.
    """

    snapshot_id: str
    rule: str
    seed: int
    folds: tuple[Fold, ...]
    findings: tuple[Finding, ...] = ()
    classes: tuple[Mapping[str, object], ...] = ()
    n_cells: int = 0


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
    """Whether a model saw the test cells in pretraining: `in`, `out` or `unknown`; unknown is never called clean.

    `n_cells` test cells of the data set are meant; 0 where nobody counted them.
    """

    model: str
    dataset_id: str
    status: str
    evidence: str
    n_cells: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model needs, what it can do, and what it has seen.

    `unit_of_inference` is cell, cell_set or dataset. `determinism` is bit_exact, numerically_close or statistical.
    `inputs` names the technical columns that it reads. `scopes` names the cells that stored weights were trained on here;
    published weights have a `pretraining` instead.
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
    scopes: tuple[FitScope, ...] = ()


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
class NamedDigest:
    """Something that a run rests on, or made, by what it means: `digest` is over content, never over a place.

    `role` is one word (snapshot, dataset, mapping, persons, split, config, code, ontology, gene_reference, model,
    weights, ...), `name` what people call it.
    """

    role: str
    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What went into a run and what came out; host, time and path stay outside of what is hashed.

    `inputs` and `outputs` are files. `parents` is everything that the run rests on, files or not, and `made` what it
    made that is no file: overlays, certificates, the content of an embedding.
    """

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
    parents: tuple[NamedDigest, ...] = ()
    made: tuple[NamedDigest, ...] = ()

"""What an evaluation hands to reports: scores, tables, certificates and predictions, all keyed by names."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cytolabe.audit.leakage import FoldAudit
from cytolabe.evaluate.costs import StudyCosts
from cytolabe.evaluate.gene_space import GeneSpace
from cytolabe.records import Certificate, Score

__all__ = ["ALL_FOLDS", "Confusion", "StudyResult"]

ALL_FOLDS = "all folds"
"""`Score.split` of a row that pools folds."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Cells by true (row) and predicted (column) class; `classes` orders both, `names` are for readers.

    `matrix` is that of the first seed, `by_seed` holds every seed's; `scored` are the classes that macro-F1 over all
    classes averages, `rare` the rare ones where their macro-F1 may be believed, `persons` the resolved persons behind the cells, `status` is that of the headline of these
    predictions.
    """

    split: str
    model: str
    resolution: str
    gene_policy: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    matrix: np.ndarray
    by_seed: Mapping[str, np.ndarray] = field(default_factory=dict)
    scored: tuple[str, ...] = ()
    rare: tuple[str, ...] = ()
    persons: tuple[str, ...] = ()
    status: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """Everything that one evaluation found.

    `scores` are those of annotation, `integration` those of the embeddings behind them (`evaluate.integration`),
    `limited` those on few labels (`evaluate.limited`).
    `support` counts cells by level, data set, class and reason; `open_set` lists the classes that only test sides
    have; `dropped` counts the test cells that were left out because of a copy; `predictions` has one row per cell,
    fold, model, policy and resolution (first seed). `ontology_release` and `levels_digest` say what a resolution means
    here: numbers under other ones are other metrics. `costs` are of this run and no part of what two runs share.
    """

    snapshot_id: str
    ontology_release: str
    levels_digest: str
    study: str
    decision_level: str
    scores: tuple[Score, ...]
    integration: tuple[Score, ...]
    confusions: tuple[Confusion, ...]
    gene_spaces: tuple[GeneSpace, ...]
    support: pd.DataFrame
    open_set: pd.DataFrame
    dropped: pd.DataFrame
    certificates: tuple[Certificate, ...]
    audits: tuple[FoldAudit, ...]
    predictions: pd.DataFrame
    limited: tuple[Score, ...] = ()
    costs: StudyCosts | None = field(default=None, compare=False)

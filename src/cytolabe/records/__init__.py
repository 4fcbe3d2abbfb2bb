"""The frozen records that the stages hand to each other.

Facts (what a lab delivered) and interpretations (what we make of it) never share a record: `DatasetRecord` holds
facts, `LabelMapping` an interpretation. Every check yields `Finding`s; only the caller decides to stop. Every number
leaves as a `Score`, which says between which floor and ceiling it stands and whether it may be believed. Fractions lie
in [0, 1]; `confidence` is an integer in thousandths, so that canonical JSON prints no float for it.
"""

from typing import TYPE_CHECKING

from cytolabe.records.contributions import (
    HOPS,
    LAYER_COUNTS,
    MISSING_WORDS,
    UNKNOWN,
    DatasetRecord,
    Finding,
    HopEvidence,
    HopState,
    MatrixKind,
    Severity,
)
from cytolabe.records.evaluations import (
    Artifact,
    Certificate,
    Embedding,
    Exposure,
    FitOnQuery,
    FitScope,
    Fold,
    ModelCard,
    NamedDigest,
    Prediction,
    Protocol,
    RunRecord,
    Score,
    ScoreStatus,
    Split,
)
from cytolabe.records.meanings import FeatureAlignment, LabelMapping, MemoryRow, OrthologRow, Predicate

if TYPE_CHECKING:
    from cytolabe.records.blocks import Block

__all__ = [
    "HOPS",
    "LAYER_COUNTS",
    "MISSING_WORDS",
    "UNKNOWN",
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
    "HopEvidence",
    "HopState",
    "LabelMapping",
    "MatrixKind",
    "MemoryRow",
    "ModelCard",
    "NamedDigest",
    "OrthologRow",
    "Predicate",
    "Prediction",
    "Protocol",
    "RunRecord",
    "Score",
    "ScoreStatus",
    "Severity",
    "Split",
]


def __getattr__(name: str) -> object:
    """Load `Block` on first use: with it come sparse matrices, which a command that only tells findings does not need."""
    if name != "Block":
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from cytolabe.records.blocks import Block  # noqa: PLC0415

    return Block

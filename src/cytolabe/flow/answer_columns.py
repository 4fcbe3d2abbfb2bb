"""The query's cells answered for a block at a time, and the columns that say so: one row per cell, none left out.

A cell without a count in the genes of the model has no composition: it is `not_scored`, with the reason, and its numbers are missing
(NaN) and not zero.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cytolabe.apply.scoring_model import ScoringModel
from cytolabe.evaluate.decisions import AnswerSpace, Decided, Decisions, Wish, decide
from cytolabe.flow.query_file import QueryFile
from cytolabe.models.protocols import TECHNICAL_COLUMNS, QueryView
from cytolabe.ontology.resolutions import FINE
from cytolabe.records import UNKNOWN

__all__ = ["COLUMNS", "STATUSES", "AnsweredBlock", "answer_columns", "answered_blocks"]

COLUMNS = (
    "term_id", "label", "level", "confidence", "status", "reason", "top_term_id", "top_label", "top_confidence", "novelty",
)  # fmt: skip
"""What is said of each cell; a prefix goes before each name."""

STATUSES = ("labelled", "coarser", UNKNOWN, "not_scored")
"""`labelled`: a term for one class. `coarser`: a term above several. `unknown`: no term. `not_scored`: no counts to go by."""

_NO_COUNTS = "no count in the genes of the model"
_NO_TERM = "no term is probable enough"


@dataclass(frozen=True, kw_only=True, eq=False)
class AnsweredBlock:
    """Answers for the scored cells of a block; `is_scored` has one entry per cell of the block."""

    is_scored: np.ndarray
    decided: Decided


def answered_blocks(
    query: QueryFile,
    model: ScoringModel,
    decisions: Decisions,
    *,
    space: AnswerSpace,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Iterator[AnsweredBlock]:
    """Yield answers in the order of the file; one block of counts is in memory at a time."""
    n_done = 0
    for counts in query.blocks(model.genes):
        is_scored = np.asarray(counts.sum(axis=1)).ravel() > 0
        n_scored = int(is_scored.sum())
        view = QueryView(
            cell_ids=np.array([f"query:{n_done + place}" for place in np.flatnonzero(is_scored)], dtype=object),
            counts=counts[is_scored],
            genes=model.genes,
            technical=pd.DataFrame({name: np.full(n_scored, UNKNOWN, dtype=object) for name in TECHNICAL_COLUMNS}),
        )
        scores, distance = model.annotate(view)
        yield AnsweredBlock(is_scored=is_scored, decided=decide(scores, distance, decisions=decisions, space=space))
        n_done += len(is_scored)
        on_progress(f"{n_done:,} of {query.n_cells:,} cells answered for")


def answer_columns(blocks: Iterator[AnsweredBlock], space: AnswerSpace, wish: Wish, *, prefix: str) -> pd.DataFrame:
    """Return one row per cell with `COLUMNS`."""
    pieces = [_columns(block, space, wish) for block in blocks]
    return pd.concat(pieces, ignore_index=True).rename(columns={name: f"{prefix}_{name}" for name in COLUMNS})


def _columns(block: AnsweredBlock, space: AnswerSpace, wish: Wish) -> pd.DataFrame:
    decided, answers = block.decided, space.answers
    is_fine = np.array([level == FINE for level in (*answers.levels, "")])[decided.answer]
    status = np.where(decided.answer < 0, UNKNOWN, np.where(is_fine, "labelled", "coarser"))
    far = f"farther from the atlas than {1 - wish.novel_fraction:.0%} of held-out cells of its most probable type"
    reason = np.where(decided.answer >= 0, "", np.where(decided.is_novel, far, _NO_TERM))
    top = answers.of_class[decided.top]
    texts = {
        "term_id": _named(answers.terms, decided.answer, UNKNOWN),
        "label": _named(answers.names, decided.answer, UNKNOWN),
        "level": _named(answers.levels, decided.answer, ""),
        "status": status,
        "reason": reason,
        "top_term_id": _named(answers.terms, top, ""),
        "top_label": _named(answers.names, top, ""),
    }
    numbers = {"confidence": decided.confidence, "top_confidence": decided.top_confidence, "novelty": decided.novelty}
    missing = {"term_id": UNKNOWN, "label": UNKNOWN, "status": "not_scored", "reason": _NO_COUNTS}
    n_cells = len(block.is_scored)
    table = {}
    for name in COLUMNS:
        if name in numbers:
            table[name] = np.full(n_cells, np.nan, dtype=np.float32)
            table[name][block.is_scored] = numbers[name]
        else:
            table[name] = np.full(n_cells, missing.get(name, ""), dtype=object)
            table[name][block.is_scored] = texts[name]
    return pd.DataFrame(table)


def _named(words: Sequence[str], places: np.ndarray, nothing: str) -> np.ndarray:
    return np.asarray(np.array([*words, nothing], dtype=object)[places])

"""In-silico perturbation of cells of a snapshot: every gene or combination beside others of its frequency and rank.

What comes out says how a vector of a model moves. It is not the effect of a gene on a cell, and no p-value here is about one:
it says how rare such a move is among matched perturbations of the same network on the same cells.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import false_discovery_control

from cytolabe.apply.tokens import tokens_of_cells
from cytolabe.errors import RefusedError, UsageError
from cytolabe.models.geneformer.embedder import FittedGeneformer, GeneformerEmbedder
from cytolabe.models.geneformer.in_silico import cosine, goal_shift, perturbed, tokens_of
from cytolabe.models.geneformer.matched_null import (
    GeneOccurrence,
    empirical_p_value,
    matched_perturbations,
    occurrence_of,
)
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.protocols import EmbeddingFacts
from cytolabe.models.scopes import NO_CELLS
from cytolabe.randomness import rng_for
from cytolabe.records import UNKNOWN
from cytolabe.snapshot.view import SnapshotView

__all__ = [
    "Perturbation",
    "PerturbationPlan",
    "PerturbationResult",
    "combinations_of",
    "perturb_cells",
    "refuse_bad_rows",
]

_MOST_COMBINATIONS = 10_000


@dataclass(frozen=True, kw_only=True)
class PerturbationPlan:
    """What is perturbed and how much is computed.

    Raises
    ------
    UsageError
        If a number is out of its range.
    """

    genes: tuple[str, ...]
    """Ensembl ids."""
    kind: Literal["delete", "overexpress"]
    size: int = 1
    """Genes of the largest combination."""
    n_matched: int = 100
    """Matched perturbations beside each."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        wrong = [f"--combinations {self.size}, of {len(self.genes)} gene(s)"] if not 1 <= self.size <= len(self.genes) else []  # fmt: skip
        wrong += [f"--matched {self.n_matched}"] if self.n_matched < 0 else []
        if wrong:
            msg = f"No perturbation can be made of this: {'; '.join(wrong)}."
            raise UsageError(msg)


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What perturbing one gene or combination did.

    `effect` is the median over cells of the cosine before and after (1 = nothing moved) or, with a goal, of the shift
    towards it (higher is nearer). `p_value` is empirical over `n_matched` matched perturbations, one-sided for a cosine (as
    far or farther), two-sided for a shift; `q_value` is corrected over all rows of the run (Benjamini and Hochberg).
    Null where no cell has the genes, or too few perturbations could be matched.
    """

    genes: tuple[str, ...]
    kind: str
    measure: str
    n_cells: int
    """Cells in which the perturbation changes something, and over which effects are taken."""
    n_cells_detected: int
    """Cells that have all of the genes."""
    n_persons: int
    """Known persons among the former; 0 where nobody is known."""
    effect: float | None
    low: float | None
    """Quarter of the cells below it."""
    high: float | None
    effect_of_matched: float | None
    n_matched: int
    p_value: float | None
    q_value: float | None


@dataclass(frozen=True, kw_only=True)
class PerturbationResult:
    """One row per gene and combination, what a reader must know, and where in the network the vectors come from."""

    rows: tuple[Perturbation, ...]
    notes: tuple[str, ...]
    facts: EmbeddingFacts


def combinations_of(genes: Sequence[str], size: int) -> tuple[tuple[str, ...], ...]:
    """Return each gene, then each pair and so on up to `size`, in the order given.

    Raises
    ------
    UsageError
        If there are more than 10,000.
    """
    found = list(
        itertools.islice(
            itertools.chain.from_iterable(itertools.combinations(genes, n) for n in range(1, size + 1)),
            _MOST_COMBINATIONS + 1,
        )
    )
    if len(found) > _MOST_COMBINATIONS:
        msg = (
            f"{len(genes)} genes have more than {_MOST_COMBINATIONS:,} combinations of up to {size}. Name fewer genes."
        )
        raise UsageError(msg)
    return tuple(found)


def perturb_cells(
    snapshot: SnapshotView,
    embedder: GeneformerEmbedder,
    plan: PerturbationPlan,
    *,
    rows: np.ndarray,
    goal_rows: np.ndarray | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> PerturbationResult:
    """Perturb genes in some cells.

    Parameters
    ----------
    rows
        Positions of the cells.
    goal_rows
        Cells whose mean vector is the goal; none = how far a vector moves.

    Raises
    ------
    RefusedError
        If a data set is a panel (rule R3), or no cell has the genes that are to be deleted.
    UsageError
        If a gene has no token, there is no cell, or a cell is both here and in the goal.
    """
    known = embedder.checkpoint.dictionaries
    every_token = tokens_of(plan.genes, dictionaries=known)
    refuse_bad_rows(rows, goal_rows)
    cells, notes = _tokens(snapshot, embedder, rows)
    # The guard of panels has looked at each data set; here the genes are those of the dictionary, whatever measures them.
    model = dataclasses.replace(embedder, panels="flag").over(known.genes, handed=NO_CELLS, seed=plan.seed)
    goal = None
    if goal_rows is not None:
        others, more = _tokens(snapshot, embedder, goal_rows)
        notes += tuple(note for note in more if note not in notes)
        goal = model.embed_tokens(others).mean(axis=0)
    run = _Run(
        model=model, cells=cells, plan=plan, goal=goal, excluded=every_token,
        persons=snapshot.cells["person_id"].to_numpy(dtype=object)[rows].astype(str),
        occurrence=occurrence_of(cells, dictionaries=known),
        before=model.embed_tokens(cells) if model.pooling == "cls" else None,
    )  # fmt: skip
    found = []
    asked = combinations_of(plan.genes, plan.size)
    for number, genes in enumerate(asked, start=1):
        found.append(run.row(genes))
        on_progress(f"{number:,} of {len(asked):,} perturbations")
    if not any(row.n_cells for row in found):
        msg = (
            f"None of {len(rows):,} cells has {' or '.join(plan.genes[:5])}: nothing can be deleted. Choose other cells "
            "(--where), more of them (--cells), or --overexpress."
        )
        raise RefusedError(msg)
    return PerturbationResult(rows=_corrected(found), notes=(*model.checkpoint.notes, *notes), facts=model.facts)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Cells, a network, and what is asked of them."""

    model: FittedGeneformer
    cells: TokenizedCells
    plan: PerturbationPlan
    goal: np.ndarray | None
    excluded: np.ndarray
    persons: np.ndarray
    occurrence: GeneOccurrence
    before: np.ndarray | None

    def row(self, genes: tuple[str, ...]) -> Perturbation:
        """Perturb some genes, and others that match them."""
        tokens = tokens_of(genes, dictionaries=self.model.checkpoint.dictionaries)
        has_all = np.all([(self.cells.tokens == token).any(axis=1) for token in tokens], axis=0)
        rows, effects = self._effects(genes)
        null = self._matched(tokens, n_cells=len(rows)) if len(rows) else np.zeros(0)
        low, middle, high = np.quantile(effects, [0.25, 0.5, 0.75]).tolist() if len(rows) else (None, None, None)
        is_shift = self.goal is not None
        p_value = None if middle is None else empirical_p_value(middle, null, both_ends=is_shift)
        return Perturbation(
            genes=genes, kind=self.plan.kind, measure="goal_shift" if is_shift else "cosine", n_cells=len(rows),
            n_cells_detected=int(has_all.sum()), n_persons=len(set(self.persons[rows].tolist()) - {UNKNOWN, ""}), effect=middle, low=low, high=high,
            effect_of_matched=float(np.median(null)) if len(null) else None, n_matched=len(null), p_value=p_value, q_value=None,
        )  # fmt: skip

    def _effects(self, genes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        found = perturbed(self.model, self.cells, genes, kind=self.plan.kind, before=self.before)
        if self.goal is None:
            return found.rows, cosine(found.before, found.after)
        return found.rows, goal_shift(found.before, found.after, self.goal)

    def _matched(self, tokens: np.ndarray, *, n_cells: int) -> np.ndarray:
        """Return the median effect of each matched perturbation that stands in at least half as many cells."""
        names = {token: name for name, token in self.model.checkpoint.dictionaries.tokens.items()}
        rng = rng_for(self.plan.seed, "apply", "perturb", *(str(token) for token in tokens))
        drawn = matched_perturbations(
            tokens.tolist(), self.occurrence, n=self.plan.n_matched, excluded=self.excluded.tolist(), rng=rng
        )
        medians: list[float] = []
        for others in drawn if self.plan.n_matched else ():
            if not self._stand_in_half(others, n_cells):
                continue
            medians.append(float(np.median(self._effects(tuple(names[token] for token in others))[1])))
            if len(medians) == self.plan.n_matched:
                break
        return np.array(medians)

    def _stand_in_half(self, tokens: Sequence[int], n_cells: int) -> bool:
        if self.plan.kind == "overexpress":
            return True
        has_all = np.all([(self.cells.tokens == token).any(axis=1) for token in tokens], axis=0)
        return 2 * int(has_all.sum()) >= max(n_cells, 2)


def _tokens(
    snapshot: SnapshotView, embedder: GeneformerEmbedder, rows: np.ndarray
) -> tuple[TokenizedCells, tuple[str, ...]]:
    shape, known = embedder.checkpoint.shape, embedder.checkpoint.dictionaries
    return tokens_of_cells(
        snapshot, rows, dictionaries=known, max_length=embedder.max_length or shape.n_positions, panels=embedder.panels
    )


def refuse_bad_rows(rows: np.ndarray, goal_rows: np.ndarray | None) -> None:
    """Refuse cells that cannot be perturbed towards a goal.

    Raises
    ------
    UsageError
        If there is no cell, or none of the goal, or a cell is both.
    """
    if not len(rows) or (goal_rows is not None and not len(goal_rows)):
        which = "to perturb" if not len(rows) else "of the goal"
        msg = f"No cell matches the filter of the cells {which}. 'cytolabe snapshot query ATLAS --where FILTER' counts them."
        raise UsageError(msg)
    n_both = 0 if goal_rows is None else len(np.intersect1d(rows, goal_rows))
    if n_both:
        msg = f"{n_both:,} cells are perturbed and part of the goal: they would move towards themselves. Make the filters exclusive."
        raise UsageError(msg)


def _corrected(rows: Sequence[Perturbation]) -> tuple[Perturbation, ...]:
    """Return rows with p-values corrected over all that have one."""
    tested = [place for place, row in enumerate(rows) if row.p_value is not None]
    if not tested:
        return tuple(rows)
    q_values = false_discovery_control([rows[place].p_value or 0.0 for place in tested], method="bh")
    corrected = dict(zip(tested, q_values.tolist(), strict=True))
    return tuple(dataclasses.replace(row, q_value=corrected.get(place)) for place, row in enumerate(rows))

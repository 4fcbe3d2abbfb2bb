"""What a network says of genes over cells: features for a gene network, read part by part and block by block.

A part is a data set of a snapshot, or a file, read over the genes that it measures itself: a gene that is not measured is
no gene of rank zero. Genes are named, or they are the most frequent: those that are a token in most of the cells, as the
model reads them (a first pass without the network).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from cytolabe.apply.views import query_view
from cytolabe.errors import RefusedError, UsageError
from cytolabe.genes.panels import why_not_ranked
from cytolabe.models.gene_features import MOST_GENES, AttentionRule, GeneFeatures, GeneSums
from cytolabe.models.protocols import DescribedEmbedder, EmbeddingFacts, FrozenEmbedder, GeneAttender, QueryView
from cytolabe.models.scopes import NO_CELLS
from cytolabe.snapshot.view import SnapshotView

__all__ = ["CellPart", "NetworkFeatures", "NetworkPlan", "network_features", "snapshot_parts"]

_BLOCK_CELLS = 512


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """Which genes, which layer, which attention.

    Raises
    ------
    UsageError
        If both or neither of genes and their number are given, or there are too many.
    """

    genes: tuple[str, ...] = ()
    n_most_frequent: int = 0
    layer: int = 0
    """1 is the first; 0 stands for the last."""
    attention: AttentionRule = field(default_factory=AttentionRule)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse genes that cannot be chosen, before a cell is read."""
        if bool(self.genes) == bool(self.n_most_frequent) or self.n_most_frequent < 0:
            msg = "Name genes, or say how many of the most frequent are meant."
            raise UsageError(msg)
        n_genes = len(self.genes) or self.n_most_frequent
        if n_genes > MOST_GENES:
            msg = f"{n_genes:,} genes are more than {MOST_GENES:,}: memory grows with their square. Name fewer."
            raise UsageError(msg)


@dataclass(frozen=True, kw_only=True)
class CellPart:
    """Cells that measure the same genes. `blocks` reads them from the start each time it is called."""

    name: str
    genes: tuple[str, ...]
    upstream_fraction_of_counts: float | None
    blocks: Callable[[], Iterator[QueryView]]


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkFeatures:
    """Features of `genes`, in this order, and what they are of."""

    genes: tuple[str, ...]
    input_rows: Float[np.ndarray, "genes dims"]
    """From the table of the network, whatever the cells."""
    gene_rows: str
    means: GeneFeatures
    layer: int
    n_layers: int
    n_cells: int
    facts: EmbeddingFacts | None
    notes: tuple[str, ...]


def snapshot_parts(snapshot: SnapshotView, rows: np.ndarray) -> tuple[CellPart, ...]:
    """Return some cells of a snapshot as one part for each data set."""
    names = snapshot.cells["dataset_id"].to_numpy(dtype=object)[rows]

    def part(name: str) -> CellPart:
        members, measured = np.sort(rows[names == name]), snapshot.measured_genes(name)

        def blocks() -> Iterator[QueryView]:
            for start in range(0, len(members), _BLOCK_CELLS):
                yield query_view(snapshot, members[start : start + _BLOCK_CELLS], genes=measured)

        known = snapshot.datasets[name].upstream_fraction_of_counts
        return CellPart(name=name, genes=tuple(measured), upstream_fraction_of_counts=known, blocks=blocks)

    return tuple(part(str(name)) for name in sorted(set(names.tolist())))


def network_features(
    parts: Sequence[CellPart],
    embedder: FrozenEmbedder,
    plan: NetworkPlan,
    *,
    panels: str = "refuse",
    on_progress: Callable[[str], None] = lambda _: None,
) -> NetworkFeatures:
    """Read cells with a frozen network.

    Parameters
    ----------
    panels
        `flag` lets cells of a panel through.

    Raises
    ------
    RefusedError
        If a part is a panel, or was subset before it was shared (rule R3), and `panels` is `refuse`; or no cell has a gene
        that the model knows.
    UsageError
        If there is no part, the network has no such layer or head, or no part has a gene that was named.
    """
    if not parts:
        msg = "There is no cell to read."
        raise UsageError(msg)
    read = _Reader(parts=tuple(parts), embedder=embedder, seed=plan.seed)
    read.refuse_panels(panels)
    layer = read.layer(plan.layer)
    genes = plan.genes or _most_frequent(read, plan.n_most_frequent, on_progress)
    input_rows = _input_rows(read, genes)
    place, sums, n_cells = (
        {gene: number for number, gene in enumerate(genes)},
        GeneSums(len(genes), rule=plan.attention),
        0,
    )
    notes: dict[str, None] = {}
    for part, fitted in read.fits():
        # Before a cell is read: what a view adds to the notes counts cells of one block.
        notes |= dict.fromkeys(f"{part.name}: {note}" for note in fitted.notes)
        chosen = np.array([place.get(gene, -1) for gene in fitted.known_genes], dtype=np.int64)
        for view in part.blocks():
            for cell in fitted.attended(view, layer=layer):
                sums.add(cell, chosen)
            n_cells += len(view.cell_ids)
            on_progress(f"{n_cells:,} cells read")
    return NetworkFeatures(
        genes=genes, input_rows=input_rows, gene_rows=fitted.gene_rows, means=sums.features(), layer=layer,
        n_layers=fitted.n_layers, n_cells=n_cells,
        facts=fitted.facts if isinstance(fitted, DescribedEmbedder) else None, notes=tuple(notes),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Parts, and the model over each. One fit at a time: a random control makes a network of its own for each."""

    parts: tuple[CellPart, ...]
    embedder: FrozenEmbedder
    seed: int

    def refuse_panels(self, panels: str) -> None:
        """Refuse parts that cannot be ranked, before a cell is read."""
        for part in self.parts if panels == "refuse" else ():
            why_not = why_not_ranked(len(part.genes), part.upstream_fraction_of_counts)
            if why_not:
                msg = f"{part.name}: {why_not} (rule R3). Say panels = 'flag' to look at it all the same."
                raise RefusedError(msg)

    def layer(self, asked: int) -> int:
        """Return the number of the layer that is meant, 0 standing for the last, or refuse it."""
        _, fitted = next(self.fits())
        if not 0 <= asked <= fitted.n_layers:
            msg = f"Layer {asked}: the network has layers 1 to {fitted.n_layers}."
            raise UsageError(msg)
        return asked or fitted.n_layers

    def fits(self) -> Iterator[tuple[CellPart, GeneAttender]]:
        """Yield each part with the model over its genes."""
        for part in self.parts:
            fitted = self.embedder.over(part.genes, handed=NO_CELLS, seed=self.seed)
            if not isinstance(fitted, GeneAttender):
                msg = "This model reads no cell as genes that attend to one another. Take geneformer or scgpt."
                raise UsageError(msg)
            yield part, fitted


def _most_frequent(read: _Reader, n: int, on_progress: Callable[[str], None]) -> tuple[str, ...]:
    """Return the genes that are a token in most cells, most frequent first; ties go by name."""
    found: dict[str, int] = {}
    on_progress("counting the cells of each gene")
    for part, fitted in read.fits():
        known = fitted.known_genes
        n_cells = np.zeros(len(known), dtype=np.int64)
        for view in part.blocks():
            n_cells += fitted.n_cells_reading(view)
        for gene, number in zip(known, n_cells.tolist(), strict=True):
            found[gene] = found.get(gene, 0) + number
    ordered = sorted((gene for gene, number in found.items() if number), key=lambda gene: (-found[gene], gene))
    if not ordered:
        msg = "No cell has a count of a gene that the model knows: there is nothing to read."
        raise RefusedError(msg)
    return tuple(ordered[:n])


def _input_rows(read: _Reader, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
    """Return the row of each gene; the table is one, whichever part names the gene."""
    rows: dict[str, np.ndarray] = {}
    for _, fitted in read.fits():
        known = set(fitted.known_genes)
        wanted = [gene for gene in genes if gene not in rows and gene in known]
        rows |= dict(zip(wanted, fitted.embed_genes(wanted), strict=True)) if wanted else {}
    lost = [gene for gene in genes if gene not in rows]
    if lost:
        msg = (
            f"{len(lost)} of {len(genes)} genes are read nowhere here, for example {lost[0]}: the model does not know them, or no data "
            "set measures them. Leave them out."
        )
        raise UsageError(msg)
    return np.array([rows[gene] for gene in genes], dtype=np.float32)

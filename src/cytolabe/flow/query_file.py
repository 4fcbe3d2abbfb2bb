"""One h5ad file whose cells are to be annotated: read as a contribution is, and held against the genes of a model.

Its counts are proven and its features aligned by the first pass of ingest (`flow.examine`), so a file that no atlas would take for its counts or
genes is no query either. What only concerns who a cell is from or what it was called (columns of labels and donors, names that
occur twice) stops no annotation: rows are answered for, by their place.

The gate on genes (R1) asks four things, and refuses below the bounds that stand here:

* how many of the model's genes the file measures, in number and in share: the model is fitted on these alone, a gene that
  is not measured is never zero;
* which share of the atlas' counts lies on them: the genes may be many and the ones that matter missing;
* whether the mean expression over them is like the atlas' at all (Spearman's rank correlation). Names that were shifted or shuffled pass every count of
  names. Measured: same tissue by other labs .51 to .95, cell lines against blood .41 to .57, shuffled names at most .17 in 20 draws.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_matrix
from scipy.stats import spearmanr

from cytolabe.errors import RefusedError, UnknownGenesError, UnreadableInputError, UsageError
from cytolabe.flow.examine import Accepted, examine
from cytolabe.ingest.refusals import refusal
from cytolabe.ingest.source import format_of, open_source
from cytolabe.ingest.sources import find_sources
from cytolabe.records import Finding, Severity
from cytolabe.snapshot.rows import summed

__all__ = [
    "MIN_AGREEMENT",
    "MIN_COUNTS_FRACTION",
    "MIN_GENES",
    "MIN_GENES_FRACTION",
    "PANEL_GENES",
    "GeneGate",
    "QueryFile",
    "gene_gate",
    "read_query",
]

MIN_GENES = 200
MIN_GENES_FRACTION = 0.2
MIN_COUNTS_FRACTION = 0.2
MIN_AGREEMENT = 0.25
PANEL_GENES = 500
"""Below this number of shared genes the answers are qualified as those of a panel (R1)."""

_BESIDE = frozenset({"COLUMN", "CLASS", "LABEL", "CELL"})
"""Areas of findings that say nothing against counts or genes."""

_BLOCK_CELLS = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryFile:
    """A file whose counts are proven; `genes` are those that it measures, with their counts over all cells."""

    path: Path
    sha256: str
    content: Accepted
    findings: tuple[Finding, ...]
    part: str
    genes: tuple[str, ...]
    gene_totals: Float[np.ndarray, " genes"]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.content.record.n_cells

    def blocks(self, genes: Sequence[str]) -> Iterator[csr_matrix]:
        """Yield counts (cells x genes, int64) in the order of the file, a block at a time."""
        place = {gene: number for number, gene in enumerate(genes)}
        columns = np.array([place.get(gene, -1) for gene in self.content.alignment.gene_ids], dtype=np.int64)
        matrix = self.content.matrix
        with open_source(self.path, part=self.part) as opened:
            for block in opened.iter_blocks(matrix, dataset_id="query", max_cells=_BLOCK_CELLS):
                # Proven to be whole numbers by the first pass.
                yield summed(csr_matrix(block.counts, dtype=np.int64), columns, n_genes=len(genes))


@dataclass(frozen=True, kw_only=True)
class GeneGate:
    """The genes that a model is fitted on, and what that leaves.

    `counts_fraction` is the share of the atlas' counts (over the model's genes) on them, `query_counts_fraction` that of the query's counts over all
    of its genes; `agreement` is the rank correlation of mean expression.
    """

    genes: tuple[str, ...]
    n_model_genes: int
    n_query_genes: int
    counts_fraction: float
    query_counts_fraction: float
    agreement: float

    @property
    def genes_fraction(self) -> float:
        """Share of the model's genes that the query measures."""
        return len(self.genes) / self.n_model_genes

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the genes."""
        n_lost = self.n_model_genes - len(self.genes)
        notes = []
        if n_lost:
            notes.append(
                f"the query does not measure {n_lost} of the {self.n_model_genes} genes that the atlas shares: the model was fitted and "
                f"calibrated on the other {len(self.genes)}"
            )
        if len(self.genes) < PANEL_GENES:
            notes.append(f"QUALIFIED(panel): {len(self.genes)} genes, under {PANEL_GENES}")
        return tuple(notes)


def read_query(path: Path, *, on_progress: Callable[[str], None] = lambda _: None) -> QueryFile:
    """Prove the counts of a file and align its genes.

    Raises
    ------
    UsageError
        If it is not there, or no h5ad file of today: what is annotated is written as h5ad.
    UnreadableInputError
        If nothing in it can be read safely.
    RefusedError
        If its counts are not proven, its genes are not known, or it has no cell.
    """
    if not path.is_file():
        msg = f"{path} is no file; QUERY is one .h5ad file with raw counts."
        raise UsageError(msg)
    sources, findings = find_sources([path])
    if not sources:
        raise refusal(UsageError, findings)
    on_progress(f"reading {path.name}")
    found = examine(sources[0])
    errors = [one for one in found.findings if one.severity is Severity.ERROR and one.code.split("-")[1] not in _BESIDE]
    if found.unreadable:
        raise refusal(UnreadableInputError, errors)
    if errors or found.content is None:
        raise refusal(RefusedError, errors)
    _refuse_other_formats(path)
    content = found.content
    if not content.record.n_cells or not content.proof.feature_totals.sum():
        msg = (
            f"{path.name} has {content.record.n_cells} cells and no count in any of them: there is nothing to annotate."
        )
        raise RefusedError(msg)
    totals: dict[str, float] = {}
    for gene, count in zip(content.alignment.gene_ids, content.proof.feature_totals, strict=True):
        if gene:
            totals[gene] = totals.get(gene, 0.0) + float(count)
    genes = tuple(sorted(totals))
    return QueryFile(
        path=path,
        sha256=found.source_sha256,
        content=content,
        findings=found.findings,
        part=sources[0].manifest.part,
        genes=genes,
        gene_totals=np.array([totals[gene] for gene in genes]),
    )


def _refuse_other_formats(path: Path) -> None:
    is_table = False
    if format_of(path) == "h5ad" and h5py.is_hdf5(path):
        with h5py.File(path, "r", locking=False) as file:
            is_table = isinstance(file.get("obs"), h5py.Group)
    if not is_table:
        msg = (
            f"{path.name} is no h5ad file of today (it is {format_of(path)}, or of anndata before 0.7), and its own contents are kept beside the "
            "answers as they are. Write it with a current anndata (write_h5ad), then annotate that."
        )
        raise UsageError(msg)


def gene_gate(
    query: QueryFile, genes: Sequence[str], totals: Float[np.ndarray, " genes"], *, organism: str
) -> GeneGate:
    """Hold a query against the genes of a model.

    Parameters
    ----------
    query
        The file.
    genes
        Genes that every data set of the atlas' labelled cells measures.
    totals
        Their counts over these cells.
    organism
        Of the atlas.

    Raises
    ------
    RefusedError
        If the query is of another organism, or its expression is unlike the atlas' over the shared genes.
    UnknownGenesError
        If too few of the genes, or too few of the atlas' counts, are measured.
    """
    own = query.content.record.organism
    if own != organism:
        msg = f"{query.path.name} is {own}, the atlas is {organism}; their genes are not the same genes. Choose an atlas of {own}."
        raise RefusedError(msg)
    place = {gene: number for number, gene in enumerate(query.genes)}
    shared = [number for number, gene in enumerate(genes) if gene in place]
    kept = tuple(genes[number] for number in shared)
    of_query = query.gene_totals[[place[gene] for gene in kept]]
    of_atlas = np.asarray(totals)[shared]
    counts_fraction = float(of_atlas.sum() / totals.sum()) if len(genes) and totals.sum() else 0.0
    if len(kept) < MIN_GENES or len(kept) < MIN_GENES_FRACTION * len(genes) or counts_fraction < MIN_COUNTS_FRACTION:
        msg = (
            f"{query.path.name} measures {len(kept)} of the {len(genes)} genes that the atlas' labelled data sets share, with {counts_fraction:.0%} of their "
            f"counts; at least {MIN_GENES} genes, {MIN_GENES_FRACTION:.0%} of them and {MIN_COUNTS_FRACTION:.0%} of the counts are needed. Genes that are not "
            "measured are not zero, and what is left cannot tell these types apart. Give the whole matrix (not variable genes alone), or choose with --where "
            "data sets of the atlas that share more genes with it."
        )
        raise UnknownGenesError(msg)
    agreement = _agreement(of_query, of_atlas)
    if agreement < MIN_AGREEMENT:
        msg = (
            f"{query.path.name}: over {len(kept)} shared genes its mean expression has a rank correlation of {agreement:.2f} with the atlas' (at least "
            f"{MIN_AGREEMENT} is needed; shuffled names give about 0, another tissue .4 and more). Its values seem to stand under wrong gene names, or it is another "
            "kind of measurement. Compare a few genes that every cell has (ACTB, B2M, MALAT1) with what you expect, and correct var."
        )
        raise RefusedError(msg)
    return GeneGate(
        genes=kept,
        n_model_genes=len(genes),
        n_query_genes=len(query.genes),
        counts_fraction=counts_fraction,
        query_counts_fraction=float(of_query.sum() / query.gene_totals.sum()),
        agreement=agreement,
    )


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's rank correlation; 0 where one of the two does not vary."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one, other).statistic)

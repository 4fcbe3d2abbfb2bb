"""What we make of it: genes of features, terms of labels. Overlays that can be revised without rewriting a count."""

from dataclasses import dataclass
from enum import StrEnum

from cytolabe.records.contributions import UNKNOWN

__all__ = ["FeatureAlignment", "LabelMapping", "MemoryRow", "OrthologRow", "Predicate"]


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
class MemoryRow:
    """What somebody said that a label means. `curator` tells independent sources apart: one party counts once.

    `source` is the name of the file, `source_digest` its content.
    """

    label: str
    term: str
    predicate: Predicate
    justification: str
    curator: str
    source: str
    source_digest: str
    reviewer: str = ""
    tissue: str = ""


@dataclass(frozen=True, kw_only=True)
class OrthologRow:
    """One line of a user's table of orthologs: two names as they stand there, and the genes that they lead to.

    `relation` is one_to_one, one_to_many (a gene with several orthologs), many_to_one, many_to_many, or unresolved where a
    name leads to no gene of its reference; then that id is empty. `source` is the name of the file, `source_digest` its content.
    """

    gene: str
    ortholog: str
    gene_id: str
    ortholog_id: str
    relation: str
    organism: str
    ortholog_organism: str
    gene_reference: str
    ortholog_reference: str
    source: str
    source_digest: str

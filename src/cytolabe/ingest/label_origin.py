"""Where labels seem to come from, read off the table of cells (rule R7): a suspicion beside what is declared.

Asked in this order, and the first answer stands: the name of the label column (`predicted.celltype.l2`), a column that
says in words where the labels come from (`label_source`), a column of another name that groups the cells alike or holds
the labels whole (`majority_voting` under `cell_type`), a score per label beside it (`cell_type_score`), clusters each
of which has one label. A tool that leaves no trace is not seen: without evidence the origin stays what was declared.
Whether the cells themselves are made up is asked before, of labelled files and others: `ingest.simulated_stamp`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from cytolabe.ingest.column_names import is_code, normalized
from cytolabe.ingest.partitions import Grouping, grouping_of, lies_inside
from cytolabe.records import UNKNOWN, Finding, Severity

__all__ = ["CIRCULAR", "MADE_UP", "SOURCE_COLUMN", "OriginEvidence", "label_origin_evidence"]

CIRCULAR = frozenset({"automated", "transferred"})
"""Origins of labels that measure agreement with the tool that made them."""

_NAMES: Sequence[tuple[str, str, re.Pattern[str]]] = (
    ("transferred", "Azimuth", re.compile(r"(^|_)azimuth(_|$)|predicted_(cell_?type|annotation|class)_l\d")),
    ("transferred", "Seurat TransferData", re.compile(r"^predicted_id$")),
    ("transferred", "scANVI or scArches", re.compile(r"(^|_)(c_)?(scanvi|sc_anvi|scarches|sc_arches)(_|$)")),
    ("transferred", "a transfer of labels", re.compile(r"(^|_)(transfer|transferred|label_transfer|map_?my_?cells)(_|$)")),
    ("automated", "CellTypist", re.compile(r"(^|_)(cell_?typist|majority_voting|predicted_labels?)(_|$)")),
    ("automated", "SingleR", re.compile(r"(^|_)(single_?r|pruned_labels)(_|$)")),
    ("automated", "a classifier", re.compile(
        r"(^|_)(sc_?type|sctype_classification|scmap|sc_?pred|garnett|chetah|cell_?assign|pop_?v|sc_?gpt|geneformer|"
        r"scimilarity|sc_?catch|sci_?bet|actinn|cell_?id_prediction|auto(mated|matic)?_annot(ation)?s?)(_|$)")),
    ("automated", "a prediction", re.compile(
        r"(^|_)(predicted|prediction|pred)_(cell_?types?|labels?|class|annotations?|ident)(_|$)|"
        r"(cell_?types?|labels?|annotations?)_(pred|predicted|prediction)(_|$)")),
    ("genotype", "genotypes", re.compile(r"(^|_)(demuxlet|freemuxlet|souporcell|vireo|sng_1st|sng_best_guess)(_|$)")),
    ("sorted", "sort gates", re.compile(r"(^|_)(facs|macs|sort|sorted|sort_gate|gate|gated)(_|$)")),
)  # fmt: skip
_CLUSTERS = re.compile(
    r"(^|_)(leiden|louvain|clusters?|cluster_ids?|seurat_clusters?|snn_res|res|phenograph|kmeans|k_means)(_|\d|$)"
)
SOURCE_COLUMN = re.compile(r"(label|annotation|cell_?type)s?_(source|origin|method|provenance)")
"""Names, normalized, of columns that say in words where labels come from."""
MADE_UP = re.compile(r"\bsimulat(ed|ion)\b", re.IGNORECASE)
"""Words of such a column that speak of cells that are made up; `ingest.simulated_stamp` reads them."""
_WORDS: Sequence[tuple[str, re.Pattern[str]]] = (
    ("transferred", re.compile(r"transfer|azimuth|scanvi|scarches|mapp(ed|ing) to|reference mapping", re.IGNORECASE)),
    ("automated", re.compile(r"celltypist|singler|automat|classifier|predict", re.IGNORECASE)),
    ("genotype", re.compile(r"demuxlet|souporcell|vireo|genotyp", re.IGNORECASE)),
    ("sorted", re.compile(r"\bfacs\b|\bmacs\b|sort|bead|\bgate", re.IGNORECASE)),
    ("manual", re.compile(r"manual|expert|curat|by hand|marker", re.IGNORECASE)),
)
_SCORES = re.compile(r"(max_)?(confidence|conf|probability|prob|prediction)?_?(score|confidence|conf|probability|prob)")


@dataclass(frozen=True, kw_only=True)
class OriginEvidence:
    """What the file itself says of the origin of its labels: `unknown` where there is no evidence."""

    suspected: str = UNKNOWN
    tool: str = ""
    evidence: str = ""
    findings: tuple[Finding, ...] = field(default=())


def label_origin_evidence(table: pd.DataFrame, columns: Mapping[str, str], *, declared: str = "") -> OriginEvidence:
    """Look for traces of what made the labels of a file.

    Parameters
    ----------
    table
        Columns as delivered, one row per cell.
    columns
        Role -> column; without a label there is nothing to ask.
    declared
        The origin that the manifest gives; it is never replaced, but evidence against it is a finding.
    """
    name = columns.get("label", "")
    if not name:
        return OriginEvidence()
    label = grouping_of(table[name])
    suspected, tool, evidence = next(_traces(table, label), (UNKNOWN, "", ""))
    if suspected == UNKNOWN:
        return OriginEvidence()
    finding = _finding(label, suspected, tool, evidence=evidence, declared=declared or UNKNOWN)
    return OriginEvidence(
        suspected=suspected, tool=tool, evidence=evidence, findings=() if finding is None else (finding,)
    )


def _traces(table: pd.DataFrame, label: Grouping) -> Iterator[tuple[str, str, str]]:
    """Yield (origin, tool, evidence), the strongest first."""
    others = [str(name) for name in table.columns if str(name) != label.name]
    for origin, tool in _of_name(label.name):
        yield origin, tool, f"the column is called {label.name!r}"
    for name in others:
        yield from _of_words(table[name], name)
    for name in others:
        yield from _of_deciding(table[name], name, label)
    for name in others:
        if _is_score_of(table[name], name, label.name):
            yield "automated", "a prediction", f"{name!r} gives a score per label"
    for name in others:
        if _CLUSTERS.search(normalized(name)) and _are_clusters_of(grouping_of(table[name]), label):
            yield "manual", "clusters", f"each cluster of {name!r} has one label"


def _of_name(name: str) -> Iterator[tuple[str, str]]:
    plain = normalized(name)
    if not _SCORES.fullmatch(plain.rpartition("_")[2]):
        yield from ((origin, tool) for origin, tool, pattern in _NAMES if pattern.search(plain))


def _of_words(values: pd.Series, name: str) -> Iterator[tuple[str, str, str]]:
    """Read a column that says in words where labels come from, if it says one thing for all cells."""
    if not SOURCE_COLUMN.fullmatch(normalized(name)):
        return
    said = grouping_of(values).levels
    if len(said) == 1:
        yield from ((origin, "", f"{name!r} says {said[0]!r}") for origin, pattern in _WORDS if pattern.search(said[0]))


def _of_deciding(values: pd.Series, name: str, label: Grouping) -> Iterator[tuple[str, str, str]]:
    traces = list(_of_name(name))
    if traces and _decides(grouping_of(values), label):
        yield from ((origin, tool, f"{name!r} decides {label.name!r}") for origin, tool in traces)


def _decides(other: Grouping, label: Grouping) -> bool:
    """Tell whether a column of groups, not of single cells, has one label in each of them."""
    has_groups = 2 <= other.n_levels <= max(2, other.n_labelled // 2)
    # What is said of a part of the cells does not say where the other labels come from.
    is_wide = other.n_labelled >= 0.9 * label.n_labelled
    return label.n_levels > 1 and has_groups and is_wide and lies_inside(other, label)


def _are_clusters_of(clusters: Grouping, label: Grouping) -> bool:
    n_codes = sum(is_code(level) for level in clusters.levels)
    return n_codes > 0.5 * clusters.n_levels and _decides(clusters, label)


def _is_score_of(values: pd.Series, name: str, label: str) -> bool:
    """Tell whether a column of fractions is called like the label with a word for score behind it."""
    if not pd.api.types.is_float_dtype(values.dtype):
        return False
    rest = normalized(name).removeprefix(f"{normalized(label)}_")
    return (
        rest != normalized(name) and _SCORES.fullmatch(rest) is not None and bool(values.dropna().between(0, 1).all())
    )


def _finding(label: Grouping, suspected: str, tool: str, *, evidence: str, declared: str) -> Finding | None:
    if declared == suspected or {declared, suspected} <= CIRCULAR:
        return None
    by = f" by {tool}" if tool else ""
    said = {
        "where": f"obs[{label.name!r}]",
        "n_affected": label.n_labelled,
        "n_total": len(label.codes),
        "examples": (evidence,),
        "rule": "R7",
    }
    if declared != UNKNOWN:
        return Finding(
            code="W-ORIGIN-02",
            severity=Severity.WARNING,
            message=f"The labels are declared {declared}, yet {evidence}: they look {suspected}{by}.",
            remedy="Correct label_origin in the manifest, or name the column that people made: label = '...'.",
            **said,  # type: ignore[arg-type]
        )
    if suspected in CIRCULAR:
        return Finding(
            code="W-ORIGIN-01",
            severity=Severity.WARNING,
            message=f"The labels look {suspected}{by}: {evidence}. A score against them is qualified as circular.",
            remedy="Say it in the manifest (label_origin, label_tool, label_reference), or name another label column.",
            **said,  # type: ignore[arg-type]
        )
    return Finding(
        code="N-ORIGIN-03",
        severity=Severity.NOTE,
        message=f"The labels look {suspected}{by}: {evidence}.",
        remedy=f"Say it in the manifest if it is so: label_origin = {suspected!r}.",
        **said,  # type: ignore[arg-type]
    )

"""Align a data set's features to the gene reference, and say what was lost and how much it weighs.

Order of belief: the id where there is one (a composite's id decides, its symbol is only checked), else the symbol by
the history in `symbols.py`. Nothing is guessed: what leads to two genes or to none keeps an empty gene id, its status
says why, and `count_fraction` says what it weighs.

Several features on one gene: features that name it by id are `summed` (a lab's `_PAR_Y` copies, one id under two
versions). Otherwise only the feature on the most direct route is kept if it is alone there, and the others become
`ambiguous`: two symbols of one gene in the same file were two genes to the lab. For the same reason a symbol and the
copies that `make.unique` numbered (`TBCE`, `TBCE-1`) are all ambiguous: the lab's reference had several genes of that
name, and the file does not say which column is which.

`genes_mapped_fraction_of_counts` is the share of the counts outside spike-ins; it cannot see what was removed before
the file was made (rule R2).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Num

from cytolabe.genes.aliases import read_alias_table
from cytolabe.genes.findings import AlignmentFacts, findings_of
from cytolabe.genes.names import FeatureName, Writing, parse_features, split_copy_number
from cytolabe.genes.organisms import guess_organism, organism_shares, without_assembly
from cytolabe.genes.reference import GeneReference
from cytolabe.genes.symbols import NO_EVIDENCE, ReleaseVote, Resolution, SymbolResolver, vote_release
from cytolabe.records import UNKNOWN, FeatureAlignment, Finding

__all__ = ["align_features", "read_alias_table"]

_BY_ID = 0
_NO_RANK = 9
_STATUS_BY_ID = {
    Writing.ID: "exact",
    Writing.VERSIONED_ID: "version_stripped",
    Writing.COMPOSITE: "composite",
}


def align_features(
    features: Sequence[str],
    feature_totals: Num[np.ndarray, " features"],
    *,
    reference: GeneReference,
    aliases: Mapping[str, str] | None = None,
) -> tuple[FeatureAlignment, tuple[Finding, ...]]:
    """Say which gene of the reference each feature is.

    Parameters
    ----------
    features
        Names as delivered, in the data set's order.
    feature_totals
        Counts of each feature over all cells, 0 or greater.
    reference
        From `load_reference`.
    aliases
        A user's alias -> id or symbol (`read_alias_table`); asked after ids and the symbols of the voted release.

    Returns
    -------
    tuple
        The alignment, and findings about how the names were read and what they lost. Whether the mapped share is
        enough is judged in `validate`. Without any counts all shares are 0.

    Raises
    ------
    ValueError
        If there is not one total per feature, or a total is negative or not finite.
    """
    totals = _checked_totals(features, feature_totals)
    names = parse_features([without_assembly(feature, reference.organism) for feature in features])
    vote = vote_release(names, reference)
    organism = guess_organism(features)
    resolver = SymbolResolver(
        reference=reference,
        order=vote.order,
        aliases=aliases or {},
        folds_case=organism in {reference.organism, UNKNOWN},
        trusts_committee=vote.evidence != NO_EVIDENCE,
        trusts_numbers=vote.knows_numbered,
    )
    resolutions = _without_copies(names, _resolve(names, reference, resolver), vote)
    resolutions = _one_gene_each(resolutions)
    alignment = dataclasses.replace(
        _alignment(features, resolutions, totals=totals, reference=reference),
        annotation="|".join(vote.winners) or UNKNOWN,
        annotation_evidence=vote.evidence,
    )
    facts = AlignmentFacts(
        alignment=alignment,
        names=tuple(names),
        repaired=tuple(resolution.repaired for resolution in resolutions),
        totals=totals,
        vote=vote,
        organism=organism,
        organism_shares=organism_shares(features),
        reference=reference,
        aliases=aliases or {},
    )
    return alignment, findings_of(facts)


def _checked_totals(features: Sequence[str], feature_totals: np.ndarray) -> np.ndarray:
    totals = np.asarray(feature_totals, dtype=np.float64)
    if totals.shape != (len(features),):
        msg = f"{totals.size} feature totals were given for {len(features)} features."
        raise ValueError(msg)
    if totals.size and not (np.isfinite(totals).all() and totals.min() >= 0):
        msg = "Feature totals hold negative or non-finite values: a share of counts would mean nothing."
        raise ValueError(msg)
    return totals


def _resolve(names: Sequence[FeatureName], reference: GeneReference, resolver: SymbolResolver) -> list[Resolution]:
    """Return where each feature leads, on its own."""
    by_symbol = resolver.resolve_all([name.symbol for name in names if name.writing is Writing.SYMBOL])
    current = reference.primary.symbols
    found = []
    for name in names:
        if name.writing is Writing.SYMBOL:
            found.append(by_symbol[name.symbol])
        elif name.writing is Writing.SPIKE_IN:
            found.append(Resolution("", "spike_in", _NO_RANK))
        elif name.writing is Writing.SPREADSHEET:
            is_known = name.symbol in resolver.aliases
            found.append(resolver.resolve_alias(name.symbol) if is_known else Resolution("", "unknown", _NO_RANK))
        elif name.gene_id in current:
            found.append(Resolution(name.gene_id, _STATUS_BY_ID[name.writing], _BY_ID))
        elif name.gene_id in resolver.aliases:
            found.append(resolver.resolve_alias(name.gene_id))
        else:
            found.append(Resolution("", "retired" if name.gene_id in reference.retired else "unknown", _BY_ID))
    return found


def _without_copies(
    names: Sequence[FeatureName], resolutions: Sequence[Resolution], vote: ReleaseVote
) -> list[Resolution]:
    """Make symbols that `make.unique` numbered ambiguous, together with the first of their name."""
    delivered = {name.symbol for name in names if name.writing is Writing.SYMBOL}
    copied: set[str] = set()
    for name, resolution in zip(names, resolutions, strict=True):
        if resolution.status == "unknown":
            base = split_copy_number(name.symbol)
            is_copy = base in delivered and any(base in release.ids_of for release in vote.order)
            # The first of its name may have been left out of the file; the copy is still one of several genes.
            if is_copy or len(vote.order[0].ids_of.get(base, ())) > 1:
                copied |= {base, name.symbol}
    ambiguous = Resolution("", "ambiguous", 1)
    return [
        ambiguous if name.writing is Writing.SYMBOL and name.symbol in copied else resolution
        for name, resolution in zip(names, resolutions, strict=True)
    ]


def _one_gene_each(resolutions: Sequence[Resolution]) -> list[Resolution]:
    """Settle genes that several features lead to."""
    ranks: dict[str, list[int]] = {}
    for resolution in resolutions:
        if resolution.gene_id:
            ranks.setdefault(resolution.gene_id, []).append(resolution.rank)
    return [
        _settled(resolution, ranks[resolution.gene_id]) if len(ranks.get(resolution.gene_id, ())) > 1 else resolution
        for resolution in resolutions
    ]


def _settled(resolution: Resolution, ranks: list[int]) -> Resolution:
    """Return one of several features on a gene as kept, summed or ambiguous; `ranks` are those of all of them."""
    best = min(ranks)
    if resolution.rank > best or (best != _BY_ID and ranks.count(best) > 1):
        return resolution._replace(gene_id="", status="ambiguous", repaired=False)
    return resolution._replace(status="summed") if ranks.count(best) > 1 else resolution


def _alignment(
    features: Sequence[str], resolutions: Sequence[Resolution], *, totals: np.ndarray, reference: GeneReference
) -> FeatureAlignment:
    all_counts = float(totals.sum())
    spike_ins = np.array([resolution.status == "spike_in" for resolution in resolutions], dtype=bool)
    mapped = np.array([resolution.gene_id != "" for resolution in resolutions], dtype=bool)
    biological = float(totals[~spike_ins].sum())
    return FeatureAlignment(
        gene_reference=reference.name,
        features=tuple(features),
        gene_ids=tuple(resolution.gene_id for resolution in resolutions),
        status=tuple(resolution.status for resolution in resolutions),
        count_fraction=tuple((totals / all_counts).tolist()) if all_counts else (0.0,) * len(features),
        genes_mapped_fraction_of_counts=float(totals[mapped].sum()) / biological if biological else 0.0,
    )

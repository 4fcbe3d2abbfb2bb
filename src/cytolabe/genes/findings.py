"""What the alignment of features has to say: which route was taken, and what was lost on it.

Every finding names the heaviest features first and their share of the data set's counts. Whether the total that maps
is enough is judged once, in `validate`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cytolabe.genes.names import FeatureName, Writing
from cytolabe.genes.organisms import organism_shares
from cytolabe.genes.reference import GeneReference
from cytolabe.genes.spreadsheets import day_of, proposals_of, serials_among
from cytolabe.genes.symbols import ReleaseVote
from cytolabe.records import UNKNOWN, FeatureAlignment, Finding, Severity

__all__ = ["AlignmentFacts", "findings_of"]

_RULE = "cytolabe/genes"
_N_EXAMPLES = 5
_MIXED_SHARE = 0.1
"""Share of another organism's names from which on a file counts as a mixture; single odd names stay below."""


@dataclass(frozen=True, kw_only=True)
class AlignmentFacts:
    """An alignment with what it was derived from; tuples have one entry per feature."""

    alignment: FeatureAlignment
    names: tuple[FeatureName, ...]
    repaired: tuple[bool, ...]
    totals: np.ndarray
    vote: ReleaseVote
    organism: str
    organism_shares: Mapping[str, float]
    reference: GeneReference
    aliases: Mapping[str, str]

    def with_status(self, *statuses: str) -> np.ndarray:
        """Return which features have one of these statuses."""
        return np.array([status in statuses for status in self.alignment.status], dtype=bool)

    def written(self, writing: Writing) -> np.ndarray:
        """Return which features are written like this."""
        return np.array([name.writing is writing for name in self.names], dtype=bool)

    def share(self, chosen: np.ndarray) -> str:
        """Return the share of all counts that the chosen features hold, as text."""
        whole = float(self.totals.sum())
        return f"{float(self.totals[chosen].sum()) / whole if whole else 0.0:.2%} of the counts"

    def finding(self, code: str, chosen: np.ndarray, *, message: str, remedy: str) -> Finding:
        """Return a finding over the chosen features, heaviest examples first."""
        rows = np.flatnonzero(chosen)
        order = rows[np.argsort(-self.totals[rows], kind="stable")][:_N_EXAMPLES]
        severity = {"E": Severity.ERROR, "W": Severity.WARNING, "N": Severity.NOTE}[code[0]]
        return Finding(
            code=code,
            severity=severity,
            where="features",
            message=message,
            remedy=remedy,
            rule=_RULE,
            n_affected=int(chosen.sum()),
            n_total=len(self.names),
            examples=tuple(self.alignment.features[row] for row in order),
        )


def findings_of(facts: AlignmentFacts) -> tuple[Finding, ...]:
    """Return all findings of an alignment, routes first, then losses."""
    return (*_organism(facts), *_routes(facts), *_wrecks(facts), *_losses(facts), *_alias_targets(facts))


def _organism(facts: AlignmentFacts) -> Iterator[Finding]:
    own = facts.reference.organism
    if not facts.names:
        return
    unmapped = np.array([not gene_id for gene_id in facts.alignment.gene_ids], dtype=bool)
    if facts.organism not in {own, UNKNOWN}:
        yield facts.finding(
            "E-GENES-07",
            unmapped,
            message=f"the features are genes of {facts.organism} ({facts.organism_shares[facts.organism]:.0%} are "
            f"written like its genes, {facts.organism_shares[own]:.0%} like genes of {own}; upper-casing is seen "
            f"through), but {facts.reference.name} was asked: genes would be read as unmeasured or as another gene",
            remedy=f"name the organism in the manifest: organism = '{facts.organism}'. One atlas holds one organism.",
        )
        return
    lost = [feature for feature, gone in zip(facts.alignment.features, unmapped, strict=True) if gone]
    shares = organism_shares(lost)
    foreign = {name: share * len(lost) / len(facts.names) for name, share in shares.items() if name != own}
    other = max(sorted(foreign), key=lambda name: foreign[name])
    if foreign[other] >= _MIXED_SHARE:
        yield facts.finding(
            "W-GENES-07",
            unmapped,
            message=f"{foreign[other]:.0%} of the features are written like genes of {other} and are none of "
            f"{facts.reference.name}: a mixture of species, whose foreign genes are left out",
            remedy="deliver the cells of each species as a data set of its own.",
        )


def _annotation(facts: AlignmentFacts) -> Iterator[Finding]:
    """Say which release the names speak of: a detection where ids say it, a guess where only symbols do."""
    vote, symbols = facts.vote, facts.written(Writing.SYMBOL)
    if not vote.winners:
        return
    known = ", ".join(f"{name}: {share:.1%}" for name, share in vote.shares.items())
    releases = " or ".join(vote.winners)
    if symbols.any():
        yield facts.finding(
            "N-GENES-01",
            symbols,
            message=f"features are symbols, not ids ({facts.share(symbols)}); the annotation is guessed by vote to be "
            f"GENCODE {releases} (known of {vote.n_names} names by release: {known}), and aligned by "
            f"{vote.order[0].name} first; {int(facts.with_status('renamed').sum())} carry another symbol today",
            remedy="deliver Ensembl ids: a symbol can name two genes, and changes its gene over the years.",
        )
    else:
        yield facts.finding(
            "N-GENES-13",
            ~facts.written(Writing.SPIKE_IN),
            message=f"the ids are those of GENCODE {releases} (known of {vote.n_names} ids by release: {known})",
            remedy="none needed; name the annotation in the manifest where it is another: reference = '...'.",
        )


def _routes(facts: AlignmentFacts) -> Iterator[Finding]:
    yield from _annotation(facts)
    summed = facts.with_status("summed")
    if summed.any():
        yield facts.finding(
            "N-GENES-08",
            summed,
            message=f"several features name one gene by its id and are summed ({facts.share(summed)})",
            remedy="none needed; the features themselves are stored as delivered.",
        )
    repaired = np.array(facts.repaired, dtype=bool)
    if repaired.any():
        yield facts.finding(
            "N-GENES-09",
            repaired,
            message="symbols whose signs or letter case were changed on the way (make.names, Seurat, upper-casing) "
            f"are read as the only symbol that they can be ({facts.share(repaired)})",
            remedy="deliver Ensembl ids, or the names as the aligner wrote them.",
        )
    spike_ins = facts.with_status("spike_in")
    if spike_ins.any():
        yield facts.finding(
            "N-GENES-11",
            spike_ins,
            message=f"spike-ins are no genes and stand outside of every share ({facts.share(spike_ins)})",
            remedy="none needed.",
        )


def _wrecks(facts: AlignmentFacts) -> Iterator[Finding]:
    contradicting = np.array(
        [name.writing is Writing.COMPOSITE and _contradicts(name, facts.reference) for name in facts.names], dtype=bool
    )
    if contradicting.any():
        yield facts.finding(
            "W-GENES-05",
            contradicting,
            message="the symbol beside the Ensembl id belongs to another gene in every release; the id is believed "
            f"({facts.share(contradicting)})",
            remedy="check how symbols and ids were joined: a shifted column gives every gene a wrong name.",
        )
    yield from _spreadsheet(facts)


def _spreadsheet(facts: AlignmentFacts) -> Iterator[Finding]:
    """Say what a spreadsheet made of symbols, and propose the gene where only one can have been meant."""
    wrecked = facts.written(Writing.SPREADSHEET)
    if not wrecked.any():
        return
    texts = [name.symbol for name, is_wreck in zip(facts.names, wrecked, strict=True) if is_wreck]
    days = {**serials_among(_texts_of(facts)), **{text: day for text in texts if (day := day_of(text)) is not None}}
    proposed = {text: proposals_of(days[text], facts.reference) for text in texts if text in days}
    single = [f"{text} -> {genes[0]}" for text, genes in proposed.items() if len(genes) == 1]
    several = [f"{text} ({' or '.join(genes)})" for text, genes in proposed.items() if len(genes) > 1]
    told = [f"one gene fits {', '.join(single[:10])}"] if single else []
    told += [f"several fit {', '.join(several[:4])}"] if several else []
    yield facts.finding(
        "W-GENES-06",
        wrecked,
        message=f"a spreadsheet turned gene symbols into dates or numbers ({facts.share(wrecked)}); they are left out"
        + (f": {'; '.join(told)}" if told else ""),
        remedy="export the features again from the aligner's output, never through a spreadsheet; or write those that "
        "you are sure of into an alias table (alias, gene).",
    )


def _texts_of(facts: AlignmentFacts) -> list[str]:
    """Return the features without white space around them."""
    return [feature.strip() for feature in facts.alignment.features]


def _contradicts(name: FeatureName, reference: GeneReference) -> bool:
    """Return whether a composite's symbol and id are both known, but nowhere as the same gene."""
    if not any(name.gene_id in r.symbols for r in reference.releases):
        return False
    owners = {gene_id for release in reference.releases for gene_id in release.ids_of.get(name.symbol, ())}
    return bool(owners) and name.gene_id not in owners


def _losses(facts: AlignmentFacts) -> Iterator[Finding]:
    retired = facts.with_status("retired")
    if retired.any():
        yield facts.finding(
            "N-GENES-03",
            retired,
            message=f"genes that {facts.reference.name} no longer has are lost ({facts.share(retired)}); a successor "
            "is not guessed",
            remedy="name successors in an alias table where the study needs them.",
        )
    ambiguous = facts.with_status("ambiguous")
    if ambiguous.any():
        yield facts.finding(
            "N-GENES-04",
            ambiguous,
            message=f"names that several genes share, or that lead to a gene which another feature names more "
            f"directly, are left out ({facts.share(ambiguous)})",
            remedy="deliver Ensembl ids: they tell these genes apart.",
        )
    unknown = facts.with_status("unknown") & ~facts.written(Writing.SPREADSHEET)
    if unknown.any():
        releases = ", ".join(release.name for release in facts.reference.releases)
        yield facts.finding(
            "N-GENES-10",
            unknown,
            message=f"names that no shipped release ({releases}) nor list of older names knows are left out "
            f"({facts.share(unknown)})",
            remedy="deliver Ensembl ids, or name these genes in an alias table.",
        )


def _alias_targets(facts: AlignmentFacts) -> Iterator[Finding]:
    primary = facts.reference.primary
    astray = np.array(
        [
            (name.symbol or name.gene_id) in facts.aliases
            and not gene_id
            and facts.aliases[name.symbol or name.gene_id] not in facts.reference
            and facts.aliases[name.symbol or name.gene_id] not in primary.ids_of
            for name, gene_id in zip(facts.names, facts.alignment.gene_ids, strict=True)
        ],
        dtype=bool,
    )
    if astray.any():
        yield facts.finding(
            "W-GENES-12",
            astray,
            message=f"the alias table leads these features to genes that {facts.reference.name} does not have",
            remedy="correct the column 'gene' of the alias table: an Ensembl id or a symbol of this release.",
        )

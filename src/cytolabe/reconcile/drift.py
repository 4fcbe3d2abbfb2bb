"""What a newer release of the ontology changes for labels that are mapped already.

Two releases of CL differ in hundreds of ancestor sets, so the same cells with the same labels can fall into other
classes of a level. Before the first run under a new release puts its mappings in force, it says for the terms in use which
were withdrawn and what replaces them, which have another name, which lie under other terms, and which labels the mapper
reads differently now. Nothing is said where the release stays the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cytolabe.errors import IntegrityError
from cytolabe.ontology.graph import Ontology, load_ontology
from cytolabe.reconcile.findings import finding_of
from cytolabe.records import Finding, LabelMapping

__all__ = ["TermChange", "changed_terms", "release_findings"]

_RULE = "cytolabe/release"


@dataclass(frozen=True, kw_only=True)
class TermChange:
    """What became of one term. `replacement` is empty where the term lives on or nothing replaces it.

    `gained` and `lost` are ancestors of the live term; both are empty where the older release could not be read.
    """

    term: str
    name: str
    is_withdrawn: bool = False
    replacement: str = ""
    new_name: str = ""
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def changed_terms(
    names: Mapping[str, str], ontology: Ontology, *, before: Ontology | None = None
) -> tuple[TermChange, ...]:
    """Return the terms that a release changes, sorted.

    Parameters
    ----------
    names
        Terms in use, with the names that they had.
    ontology
        The newer release.
    before
        The older one, for its ancestor sets; without it these are not compared.
    """
    found = []
    for term, name in sorted(names.items()):
        if term not in ontology:
            found.append(TermChange(term=term, name=name, is_withdrawn=True, replacement=_successor(term, ontology)))
            continue
        new_name = ontology.name(term) if name and ontology.name(term) != name else ""
        was = before.ancestors(term) if before is not None and term in before else None
        now = ontology.ancestors(term)
        gained, lost = (now - was, was - now) if was is not None else (frozenset(), frozenset())
        if new_name or gained or lost:
            found.append(
                TermChange(
                    term=term, name=name, new_name=new_name, gained=tuple(sorted(gained)), lost=tuple(sorted(lost))
                )
            )
    return tuple(found)


def _successor(term: str, ontology: Ontology) -> str:
    """Return the live term that replaces a withdrawn one, or an empty string."""
    seen = set[str]()
    while term in ontology.records and term not in ontology and term not in seen:
        seen.add(term)
        term = ontology.replaced_by(term) or ""
    return term if term in ontology else ""


def release_findings(
    before: Sequence[LabelMapping], after: Sequence[LabelMapping], *, ontology: Ontology
) -> tuple[Finding, ...]:
    """Return what changes for an atlas whose mappings in force speak of another release.

    Parameters
    ----------
    before
        The mappings in force.
    after
        The mappings of this run, under `ontology`.
    ontology
        The release of this run.
    """
    releases = sorted({m.ontology_release for m in before if m.term} - {ontology.release, ""})
    texts: dict[str, list[str]] = {}
    for release in releases:
        older = _loaded(ontology.prefix, release)
        rows = [m for m in before if m.ontology_release == release and m.term]
        cells = _cells_of(rows)
        if older is None:
            texts.setdefault("W-RELEASE-06", []).append(release)
        for change in changed_terms({m.term: m.term_name for m in rows}, ontology, before=older):
            for code, text in _told(change, ontology):
                texts.setdefault(code, []).append(f"{text} ({cells[change.term]} cells)")
    if releases:
        texts["N-RELEASE-05"] = _moved(before, after, ontology)
    where = f"{ontology.prefix} {', '.join(releases)} -> {ontology.release}"
    n_terms = len({m.term for m in before if m.term})
    return tuple(
        finding_of(code, found, text=_TEXTS[code], where=where, n_total=n_terms, rule=_RULE)
        for code, found in sorted(texts.items())
        if found
    )


def _told(change: TermChange, ontology: Ontology) -> list[tuple[str, str]]:
    shown = f"{change.term} ({change.name})"
    if change.is_withdrawn and change.replacement:
        return [("N-RELEASE-01", f"{shown} -> {change.replacement} ({ontology.name(change.replacement)})")]
    if change.is_withdrawn:
        return [("W-RELEASE-02", shown)]
    told = []
    if change.new_name:
        told.append(("N-RELEASE-03", f"{shown} is now {change.new_name!r}"))
    moves = [f"+ {ontology.name(term)}" for term in change.gained]
    moves += [f"- {ontology.name(term) if term in ontology.records else term}" for term in change.lost]
    if moves:
        told.append(("W-RELEASE-04", f"{shown}: {', '.join(moves[:4])}" + (" ..." if len(moves) > 4 else "")))
    return told


def _moved(before: Sequence[LabelMapping], after: Sequence[LabelMapping], ontology: Ontology) -> list[str]:
    """Return the labels whose term is another one now, and not merely the replacement of the old one."""
    now = {(m.dataset_id, m.contributor_label): m for m in after}
    found = []
    for old in before:
        new = now.get((old.dataset_id, old.contributor_label))
        kept = _successor(old.term, ontology) if old.term not in ontology else old.term
        if new is not None and new.term != kept:
            found.append(
                f"{old.dataset_id}: {old.contributor_label!r}: {old.term or 'no term'} -> {new.term or 'no term'}"
            )
    return sorted(found)


def _loaded(prefix: str, release: str) -> Ontology | None:
    try:
        return load_ontology(prefix, release)
    except IntegrityError:
        return None


def _cells_of(rows: Sequence[LabelMapping]) -> dict[str, int]:
    cells: dict[str, int] = {}
    for row in rows:
        cells[row.term] = cells.get(row.term, 0) + row.n_cells
    return cells


_TEXTS = {
    "N-RELEASE-01": (
        "terms in use were withdrawn; labels go to what replaces them",
        "nothing, unless the replacement says something else: then review the labels",
    ),
    "W-RELEASE-02": (
        "terms in use were withdrawn and nothing replaces them; the labels have no term until a person gives one",
        "give a live term in the mapping file and apply it",
    ),
    "N-RELEASE-03": ("terms in use have another name", "nothing: the id counts"),
    "W-RELEASE-04": (
        "terms in use lie under other terms now, so levels and hierarchical scores may differ from those before",
        "score again, and compare no score across the two releases",
    ),
    "N-RELEASE-05": ("labels are read differently under the new release", "review the labels where that is wrong"),
    "W-RELEASE-06": (
        "a release that mappings in force speak of is not shipped by the installed guide; ancestors were not compared",
        "install a cellxgene-ontology-guide that has both releases to compare them",
    ),
}

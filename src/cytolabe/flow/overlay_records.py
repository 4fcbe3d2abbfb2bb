"""The record of an overlay: from which data sets, files, declarations and models label mappings or persons were made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cytolabe.flow.recording import Step, dataset_parents, record_step
from cytolabe.provenance import digest_of
from cytolabe.reconcile.ranking.shipped import shipped_digest
from cytolabe.records import Artifact, NamedDigest
from cytolabe.snapshot.atlas import Atlas
from cytolabe.snapshot.overlays import MEMORY
from cytolabe.store.tables import TableEntry

__all__ = ["Grounds", "record_overlay"]

_KINDS = {"mappings": ("map", "mapping"), "persons": ("persons", "persons")}
"""Per overlay: the kind of the record, and the role under which others name the overlay."""


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """What an overlay rests on beside the cells: files that were read, and what a study declares."""

    files: Sequence[Artifact] = ()
    said: Sequence[object] = field(default=())


def record_overlay(
    atlas: Atlas,
    name: str,
    *,
    before: Mapping[str, TableEntry],
    after: Mapping[str, TableEntry],
    rests_on: Grounds,
) -> str:
    """Record how an overlay came to be, and return the id of the record; nothing where it stayed what it was.

    Declarations are kept by their digest: those of persons name donors.
    """
    made = after[name]
    old = before.get(name)
    if old is not None and old.digest == made.digest:
        return ""
    kind, role = _KINDS[name]
    parents = list(dataset_parents([atlas.entry(dataset_id) for dataset_id in atlas.dataset_ids]))
    if old is not None:
        parents.append(NamedDigest(role=role, name=f"{name} before", digest=old.digest))
    if rests_on.said:
        parents.append(NamedDigest(role="declared", name="declarations", digest=digest_of(list(rests_on.said))))
    if kind == "map":
        parents.append(NamedDigest(role="label_model", name="label ranker", digest=shipped_digest()))
        if MEMORY in after:
            parents.append(NamedDigest(role="memory", name=MEMORY, digest=after[MEMORY].digest))
    step = Step(
        kind=kind,
        inputs=rests_on.files,
        parents=parents,
        made=[NamedDigest(role=role, name=name, digest=made.digest)],
    )
    return record_step(atlas.layout, step)

"""From a number down to raw reads: a tree of everything that it rests on, each with how well it is known.

Joined by digests alone: what a node is made of stands in the ledger of the atlas, in the documents of its snapshots,
and in the records of its data sets. States of nodes:

    verified    its digest was computed again here, just now, from what it stands for
    recorded    a record that was not edited names its digest; the thing itself was not looked at
    declared    somebody said so
    recovered   computed from what was delivered (counts under a normalization)
    unknown     nobody knows
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cytolabe.errors import CytolabeError
from cytolabe.flow.hops import Hop, hops_of
from cytolabe.flow.recording import dataset_parents
from cytolabe.genes.reference import load_reference, shipped_organisms
from cytolabe.models.cards import CARDS
from cytolabe.ontology.graph import load_ontology
from cytolabe.provenance import code_identity, digest_of
from cytolabe.reconcile.ranking.shipped import shipped_digest
from cytolabe.records import Artifact, NamedDigest
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.freezing import tables_of
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import LedgerRun, read_runs
from cytolabe.store.documents import documents_in, read_sealed
from cytolabe.store.tables import read_table

__all__ = ["Node", "Tracer"]

_IN_A_SNAPSHOT = ("dataset", "mapping", "persons", "overlay")
_EVERYWHERE = ("config", "code", "ontology", "gene_reference")
_OVERLAY_ROLES = {"mappings": "mapping", "persons": "persons"}


@dataclass(frozen=True, kw_only=True)
class Node:
    """One thing, and what it rests on. `digest` is empty where the thing has none."""

    role: str
    name: str
    state: str
    digest: str = ""
    detail: str = ""
    children: tuple["Node", ...] = ()


class Tracer:
    """Builds trees from the ledger and the snapshots of one atlas; without an atlas, from a single record."""

    def __init__(
        self, layout: Layout | None, *, extra: Sequence[LedgerRun] = (), files: Mapping[str, Path] | None = None
    ) -> None:
        self._layout = layout
        self._files = dict(files or {})
        ledger = read_runs(layout) if layout is not None else ()
        known = {run.record_id for run in ledger}
        self.runs = (*ledger, *(run for run in extra if run.record_id not in known))
        self._open: set[str] = set()

    def entries(self, snapshot_id: str) -> dict[str, DatasetEntry]:
        """Return the data sets of a snapshot by id; none where the atlas is not at hand, or was purged of them."""
        document = self._document(snapshot_id)
        digests = document.get("datasets", {}) if document else {}
        if self._layout is None or not isinstance(digests, dict):
            return {}
        found = {}
        for dataset_id, digest in sorted(digests.items()):
            try:
                found[dataset_id] = read_entry(self._layout, digest)
            except CytolabeError:
                continue
        return found

    def run_node(self, run: LedgerRun) -> Node:
        """Return a run and everything that it rests on; data sets and overlays stand under the snapshot that holds them."""
        entries = self.entries(run.snapshot_id) if run.snapshot_id else {}
        in_snapshot = {entry.source_digest for entry in entries.values()}
        shown = [
            parent
            for parent in dict.fromkeys(run.parents)
            if parent.role not in _IN_A_SNAPSHOT and not (parent.role == "source" and parent.digest in in_snapshot)
        ]
        # The snapshot last: it is long, and what stands behind it would not be read.
        shown.sort(key=lambda parent: parent.role == "snapshot")
        children = [self.node(parent, run) for parent in shown]
        return Node(
            role="run", name=run.kind, digest=run.record_id, state="verified", children=tuple(children),
            detail=f"code {run.body['code'].get('version', '')}",
        )  # fmt: skip

    def maker_node(self, run: LedgerRun) -> Node:
        """Return the run that made an overlay or a split, in short: what it read and was told; not the data sets again."""
        ordinary = {*_IN_A_SNAPSHOT, *_EVERYWHERE, "snapshot"}
        before = [one for one in run.parents if one.role in {"mapping", "persons"}]
        children = [self.node(one, run) for one in (*before, *run.parents) if one in before or one.role not in ordinary]
        return Node(
            role="run", name=run.kind, digest=run.record_id, state="verified", children=tuple(children),
            detail=f"code {run.body['code'].get('version', '')}, ontology {run.body['ontology_release']}",
        )  # fmt: skip

    def node(self, thing: NamedDigest, run: LedgerRun | None = None) -> Node:
        """Return one thing with what it rests on, as far as the ledger and the atlas know."""
        if thing.digest in self._open:
            return Node(role=thing.role, name=thing.name, digest=thing.digest, state="recorded", detail="see above")
        self._open.add(thing.digest)
        try:
            return self._expanded(thing, run)
        finally:
            self._open.discard(thing.digest)

    def _expanded(self, thing: NamedDigest, run: LedgerRun | None) -> Node:
        if thing.role == "snapshot":
            return self._snapshot(thing, run)
        made_here = self._made_by(thing.digest, besides=run)
        children = () if made_here is None else (self.maker_node(made_here),)
        return Node(
            role=thing.role, name=thing.name, digest=thing.digest, state=self._state(thing), children=children,
            detail=self._said(thing, run, has_maker=bool(children)),
        )  # fmt: skip

    def _said(self, thing: NamedDigest, run: LedgerRun | None, *, has_maker: bool) -> str:
        if thing.role == "source" and run is not None and run.snapshot_id and self.entries(run.snapshot_id):
            return "read, and no data set of the snapshot came of it"
        if thing.role in {"mapping", "persons", "split"} and not (has_maker or self._is_own(thing, run)):
            return "no record says how it was made"
        return ""

    def _is_own(self, thing: NamedDigest, run: LedgerRun | None) -> bool:
        return run is not None and any(made.digest == thing.digest for made in run.results)

    def _made_by(self, digest: str, *, besides: LedgerRun | None) -> LedgerRun | None:
        makers = [run for run in self.runs if any(made.digest == digest for made in run.results)]
        makers = [run for run in makers if besides is None or run.record_id != besides.record_id]
        return makers[0] if makers and not self._is_own(NamedDigest(role="", name="", digest=digest), besides) else None

    def _snapshot(self, thing: NamedDigest, run: LedgerRun | None) -> Node:
        document = self._document(thing.digest)
        if document is None:
            named = [parent for parent in run.parents if parent.role in _IN_A_SNAPSHOT] if run is not None else []
            children = [
                Node(
                    role=one.role, name=one.name, digest=one.digest, state="recorded", detail="the atlas is not at hand"
                )
                for one in named
            ]
            return Node(
                role="snapshot", name=thing.name, digest=thing.digest, state="recorded", children=tuple(children),
                detail="the atlas is not at hand",
            )  # fmt: skip
        overlays = [
            self.node(NamedDigest(role=_OVERLAY_ROLES.get(name, "overlay"), name=name, digest=table.digest))
            for name, table in tables_of(document["overlays"]).items()
        ]
        datasets = [self.dataset_node(entry) for entry in self.entries(thing.digest).values()]
        # Reading the document compared its id with its content.
        return Node(
            role="snapshot", name=thing.name, digest=thing.digest, state="verified", children=(*overlays, *datasets),
            detail=f"{sum(entry.n_cells for entry in self.entries(thing.digest).values()):,} cells as delivered",
        )  # fmt: skip

    def dataset_node(self, entry: DatasetEntry) -> Node:
        """Return a data set with the file that it came from, and every hop from its matrix back to the reads."""
        (thing,) = dataset_parents([entry])
        maker = self._made_by(thing.digest, besides=None)
        sources = (
            [item for item in maker.body["inputs"] if f"sha256:{item['sha256']}" == entry.source_digest]
            if maker
            else []
        )
        source = Artifact(**sources[0]) if sources else None
        name = source.name if source is not None else "source file"
        children = [
            Node(
                role="source", name=name, digest=entry.source_digest,
                state=self._state(NamedDigest(role="source", name=name, digest=entry.source_digest)),
                detail="" if maker is None else f"ingested by code {maker.body['code'].get('version', '')}",
            ),
            *map(_hop_node, hops_of(entry.record)),
        ]  # fmt: skip
        return Node(
            role="dataset", name=entry.dataset_id, digest=thing.digest, state="recorded", children=tuple(children),
            detail=f"{entry.n_cells:,} cells, study {entry.record.study}",
        )  # fmt: skip

    def _state(self, thing: NamedDigest) -> str:
        """Return `verified` where the thing is at hand and has its digest, else `recorded`."""
        if thing.digest in self._files or thing.digest in _digests_here():
            return "verified"
        if self._layout is None or thing.role not in _OVERLAY_ROLES.values():
            return "recorded"
        name = next(name for name, role in _OVERLAY_ROLES.items() if role == thing.role)
        return "verified" if self._reads(name, thing.digest) else "recorded"

    def _reads(self, name: str, digest: str) -> bool:
        """Tell whether an overlay can be read under its digest in some snapshot of the atlas."""
        layout = self._layout
        for path in documents_in(layout.snapshots) if layout is not None else ():
            table = tables_of(read_sealed(path)["overlays"]).get(name)
            if layout is not None and table is not None and table.digest == digest:
                try:
                    read_table(layout.overlay(name), table)
                except CytolabeError:
                    return False
                return True
        return False

    def _document(self, snapshot_id: str) -> Mapping[str, object] | None:
        if self._layout is None:
            return None
        try:
            return read_sealed(self._layout.document(self._layout.snapshots, snapshot_id))
        except CytolabeError:
            return None


def _hop_node(hop: Hop) -> Node:
    """Return a hop with what files of the pipeline say of it; a log can be edited, so it declares and proves nothing."""
    told = [
        Node(
            role="evidence", name=claim.fact, digest=f"sha256:{claim.sha256.removeprefix('sha256:')}", state="declared",
            detail=f"{claim.value} ({claim.file}, {claim.place})",
        )
        for claim in hop.evidence
    ]  # fmt: skip
    return Node(role="hop", name=hop.name, state=str(hop.state), detail=hop.told, children=tuple(told))


@cache
def _digests_here() -> frozenset[str]:
    """Return the digests of what is installed: code, ontology, gene references, cards of models, label ranker."""
    references = (load_reference(organism).digest for organism in shipped_organisms())
    cards = (digest_of(card) for card in CARDS.values())
    code = f"sha256:{code_identity()['source_sha256']}"
    return frozenset({code, load_ontology("CL").digest, shipped_digest(), *references, *cards})

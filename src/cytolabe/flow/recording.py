"""What a command did, written down: everything that it rests on by digest, and what it made.

A record holds no time, host or path, so the same work on two machines has one record. What has no file is named as
well: the snapshot and each data set, mapping and person overlay in it, the configuration, the code, the ontology, the
gene reference, the card of each model and the bytes of its weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cytolabe.config.study import ModelSpec, Study
from cytolabe.files import sha256_of_file
from cytolabe.flow.contribute import SourceOutcome
from cytolabe.genes.reference import load_reference, shipped_organisms
from cytolabe.models.hub import HUB_PREFIX, weight_files
from cytolabe.models.registry import card_named, offer_named
from cytolabe.ontology.graph import load_ontology
from cytolabe.provenance import code_identity, digest_of, environment_identity, jsonable
from cytolabe.records import UNKNOWN, Artifact, NamedDigest, RunRecord
from cytolabe.snapshot.entries import DatasetEntry, read_entry
from cytolabe.snapshot.freezing import tables_of
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import write_run
from cytolabe.store.documents import read_sealed

__all__ = [
    "Step",
    "dataset_parents",
    "model_parents",
    "parameters_of",
    "record_ingest",
    "record_step",
    "reference_digest",
    "snapshot_parents",
    "step_record",
]

_OVERLAY_ROLES = {"mappings": "mapping", "persons": "persons"}
"""How parents call an overlay; one of another name is an `overlay`."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one command did. `parents` are those beside the snapshot, the code and the references, which are added."""

    kind: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    inputs: Sequence[Artifact] = ()
    outputs: Sequence[Artifact] = ()
    parents: Sequence[NamedDigest] = ()
    made: Sequence[NamedDigest] = ()


def record_step(layout: Layout, step: Step, *, snapshot_id: str = "") -> str:
    """Write a step into the ledger of an atlas and return the id of its record."""
    return write_run(layout, step_record(layout, step, snapshot_id=snapshot_id))


def step_record(layout: Layout, step: Step, *, snapshot_id: str = "") -> RunRecord:
    """Return the record of a step; without a snapshot, of one on data sets that are not frozen yet."""
    code, ontology = code_identity(), load_ontology("CL")
    body = _snapshot_body(layout, snapshot_id) if snapshot_id else {}
    release = str(body.get("ontology_release", UNKNOWN)) if body else ontology.release
    reference = str(body.get("gene_reference", UNKNOWN))
    parents = [
        *(snapshot_parents(layout, snapshot_id) if snapshot_id else ()),
        *step.parents,
        NamedDigest(role="config", name="parameters", digest=digest_of(step.parameters)),
        NamedDigest(role="code", name=f"cytolabe {code['version']}", digest=f"sha256:{code['source_sha256']}"),
        NamedDigest(role="ontology", name=ontology.release, digest=ontology.digest),
    ]
    if reference != UNKNOWN:
        parents.append(NamedDigest(role="gene_reference", name=reference, digest=reference_digest(reference)))
    return RunRecord(
        kind=step.kind,
        inputs=tuple(step.inputs),
        outputs=tuple(step.outputs),
        parameters=dict(step.parameters),
        code=code,
        environment=environment_identity(),
        ontology_release=release,
        ontology_digest=ontology.digest,
        gene_reference=reference,
        gene_reference_digest=reference_digest(reference),
        snapshot_id=snapshot_id,
        parents=tuple(parents),
        made=tuple(step.made),
    )


def snapshot_parents(layout: Layout, snapshot_id: str) -> tuple[NamedDigest, ...]:
    """Return a snapshot and what it is made of: each data set and each overlay, by logical digest."""
    document = read_sealed(layout.document(layout.snapshots, snapshot_id))
    entries = [read_entry(layout, digest) for digest in cast("dict[str, str]", document["datasets"]).values()]
    overlays = tables_of(document["overlays"])
    return (
        NamedDigest(role="snapshot", name=snapshot_id[:19], digest=snapshot_id),
        *dataset_parents(entries),
        *(
            NamedDigest(role=_OVERLAY_ROLES.get(name, "overlay"), name=name, digest=table.digest)
            for name, table in overlays.items()
        ),
    )


def dataset_parents(entries: Sequence[DatasetEntry]) -> tuple[NamedDigest, ...]:
    """Return data sets by what enters a snapshot of them: counts, cells, contributor columns and gene alignment."""
    ordered = sorted(entries, key=lambda entry: entry.dataset_id)
    return tuple(
        NamedDigest(role="dataset", name=entry.dataset_id, digest=digest_of(entry.logical())) for entry in ordered
    )


def model_parents(models: Sequence[ModelSpec]) -> tuple[NamedDigest, ...]:
    """Return the card of each model, and the bytes of each file of weights, embeddings or predictions.

    One model may stand there several times, with other options: these are in the configuration.
    """
    found = []
    for model in models:
        if model.path is not None:
            found.append(NamedDigest(role="weights", name=model.path.name, digest=_file_digest(model.path)))
        if "checkpoint" in model.options:
            stored = weight_files(str(model.options["checkpoint"]))
            found += [NamedDigest(role="weights", name=file.name, digest=_file_digest(file)) for file in stored]
        if model.options.get("program"):
            program = Path(str(model.options["program"]))
            found.append(NamedDigest(role="program", name=program.name, digest=_file_digest(program)))
        name = "precomputed" if model.kind == "precomputed" else model.name.partition("+")[0].partition(":")[0]
        card = card_named(name)
        if card is not None:
            found.append(NamedDigest(role="model", name=card.name, digest=digest_of(card)))
            found += _package_of(name)
    return tuple(dict.fromkeys(found))


def _package_of(name: str) -> list[NamedDigest]:
    """Return the package of a model that is none of ours, with its version, by the digest of its code."""
    offer = offer_named(name)
    told = "" if offer is None else f"{name} of {offer.offer.told}"
    return [] if offer is None else [NamedDigest(role="package", name=told, digest=offer.code)]


def parameters_of(study: Study) -> dict[str, object]:
    """Return a study as it was resolved, with files by name: a folder is where something lies, not what it is."""
    values = cast("dict[str, Any]", jsonable(study))
    if study.limited_labels is None:
        del values["limited_labels"]  # runs of before it could be asked for have the same record
    if not study.combined_from:
        del values["combined_from"]
    for table, dataset in zip(values["datasets"], study.datasets, strict=True):
        table["path"] = dataset.path.name if dataset.path is not None else None
    for table, model in zip(values["models"], study.models, strict=True):
        table["path"] = model.path.name if model.path is not None else None
        if "checkpoint" in model.options:
            table["options"] = {**table["options"], "checkpoint": _told(str(model.options["checkpoint"]))}
        if model.options.get("program"):
            table["options"] = {**table["options"], "program": Path(str(model.options["program"])).name}
    return values


def record_ingest(layout: Layout, outcomes: Sequence[SourceOutcome]) -> str:
    """Record which files became which data sets; nothing where no file went in. Return the id of the record."""
    accepted = [outcome for outcome in outcomes if outcome.status == "accepted" and outcome.entry is not None]
    if not accepted:
        return ""
    inputs = [
        Artifact(role="source", name=outcome.source, sha256=outcome.source_sha256, n_bytes=outcome.n_bytes)
        for outcome in accepted
    ]
    entries = [outcome.entry for outcome in accepted if outcome.entry is not None]
    references = sorted({entry.gene_reference for entry in entries} - {UNKNOWN})
    step = Step(
        kind="ingest",
        inputs=inputs,
        parents=[
            NamedDigest(role="gene_reference", name=name, digest=reference_digest(name)) for name in references
        ],
        made=dataset_parents(entries),
    )  # fmt: skip
    return record_step(layout, step)


def reference_digest(name: str) -> str:
    """Return the digest of a shipped reference; a snapshot of another version of the package may speak another one."""
    references = (load_reference(organism) for organism in shipped_organisms())
    return next((reference.digest for reference in references if reference.name == name), UNKNOWN)


def _told(checkpoint: str) -> str:
    """Return the name of a folder, without its place; the id on a hub is a name already."""
    return checkpoint if checkpoint.startswith(HUB_PREFIX) else Path(checkpoint).name


def _snapshot_body(layout: Layout, snapshot_id: str) -> dict[str, Any]:
    return cast("dict[str, Any]", read_sealed(layout.document(layout.snapshots, snapshot_id))["body"])


def _file_digest(path: Path) -> str:
    return f"sha256:{sha256_of_file(path)}"

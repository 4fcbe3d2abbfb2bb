"""What `split`, `audit`, `train`, `embed` and `export` did, as steps for the ledger of an atlas.

A fold is named by its number, or the digest of its id, and a filter by its digest: either may be the name of a person.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from cytolabe.flow.recording import Step
from cytolabe.models.hub import weight_files
from cytolabe.models.posterior import POSTERIOR_NAME
from cytolabe.provenance import artifact_of, digest_of
from cytolabe.records import Artifact, NamedDigest

__all__ = ["REPORT_NAME", "audit_step", "embed_step", "export_step", "model_step", "split_step"]

REPORT_NAME = "report.html"
"""The page of a training, in the folder of its model."""


def split_step(document: Mapping[str, Any], out: Path) -> Step:
    """Return the step that wrote a split."""
    keys = ("rule", "links", "joins", "seed", "format")
    return Step(
        kind="split", parameters={key: document[key] for key in keys}, outputs=[artifact_of(out, "split")]
    )  # fmt: skip


def audit_step(document: Mapping[str, object], split_file: Path | None, *, with_counts: bool) -> Step:
    """Return the step that looked for copies and confounding, and certified the folds of a split if there was one."""
    certificate = document["certificate"]
    files = [(document["duplicates_path"], "duplicates"), *((path, "grounds") for path in _paths(document["grounds"]))]
    files += [(certificate, "certificate")] if certificate is not None else []
    made = cast("Sequence[Mapping[str, str]]", document["certificates"])
    return Step(
        kind="audit",
        parameters={"with_counts": with_counts},
        inputs=_split_file(split_file),
        outputs=[artifact_of(Path(str(path)), role) for path, role in files],
        made=[
            NamedDigest(role="certificate", name=f"fold {number}", digest=one["digest"])
            for number, one in enumerate(made, start=1)
        ],
    )


def embed_step(
    document: Mapping[str, object], split_file: Path, out: Path, *, seed: int, checkpoint: Path | None = None
) -> Step:
    """Return the step that fitted a model on the training side of a fold and embedded both sides."""
    model = str(document["model"])
    weights = weight_files(checkpoint) if checkpoint is not None else []
    return Step(
        kind="embed",
        parameters={"model": model, "fold": document["fold"], "seed": seed},
        inputs=[*_split_file(split_file), *(artifact_of(path, "model") for path in weights)],
        # A store of embeddings is a folder of shards, which has its own digests.
        outputs=[artifact_of(out, "embedding")] if out.is_file() else [],
        parents=[NamedDigest(role="model", name=model, digest=str(document["card"]))],
        made=[NamedDigest(role="embedding", name=out.name, digest=str(document["content"]))],
    )


def model_step(
    document: Mapping[str, object], split_file: Path, config: Path, *, model: str, out: Path, seed: int
) -> Step:
    """Return the step that trained a model on the training side of a fold; its files of weights join what uses them."""
    return Step(
        kind="train",
        parameters={"model": model, "fold_digest": digest_of(document["split_id"]), "seed": seed},
        inputs=[*_split_file(split_file), artifact_of(config, "config")],
        outputs=[
            # A scANVI keeps the scVI that it began with in a folder of its own.
            *(artifact_of(path, "weights") for path in sorted(out.rglob("*.safetensors"))),
            *(artifact_of(path, "report") for path in sorted(out.glob(REPORT_NAME))),
            # Rows of single cells: whoever withdraws means this file, too.
            *(artifact_of(path, "posterior") for path in sorted(out.rglob(POSTERIOR_NAME))),
        ],
        made=[NamedDigest(role="weights", name=out.name, digest=str(document["weights"]))],
    )


def export_step(chosen: Mapping[str, object], out: Path) -> Step:
    """Return the step that took cells out of a snapshot; `chosen` says which cells and genes, and names the content."""
    where = str(chosen.get("where", ""))
    return Step(
        kind="export",
        parameters={"where_digest": digest_of(where) if where else "", "gene_policy": chosen.get("gene_policy", "")},
        made=[NamedDigest(role="export", name=out.name, digest=digest_of(chosen))],
    )


def _split_file(path: Path | None) -> Sequence[Artifact]:
    return () if path is None else (artifact_of(path, "split"),)


def _paths(value: object) -> Sequence[str]:
    return cast("Sequence[str]", value)

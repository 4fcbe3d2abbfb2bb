"""What was made of a snapshot: splits, certificates, embeddings, exports, models, runs.

An artifact is a small sealed document that names a snapshot and what was made of it by digest. It never enters the body
of a snapshot. It keeps its snapshot from being freed, and it is how a withdrawal finds what descends from a person's
cells. The file that was made may lie anywhere; where it lies is not recorded.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cytolabe.errors import UsageError
from cytolabe.files import Place, create_new, sha256_of_file
from cytolabe.provenance import digest_of
from cytolabe.snapshot.layout import Layout
from cytolabe.store.documents import documents_in, read_sealed, sealed_bytes

__all__ = ["ArtifactRecord", "artifacts_of", "read_artifacts", "write_artifact"]

KIND = "cytolabe/artifact/1"


@dataclass(frozen=True, kw_only=True)
class ArtifactRecord:
    """One artifact: `kind` is a word (split, embedding, model, run), `digest` names its content.

    `access` is the access class of the snapshot that it was made of, where one was declared.
    """

    artifact_id: str
    kind: str
    digest: str
    snapshot_id: str
    name: str = ""
    access: str = ""


def write_artifact(
    layout: Layout, kind: str, made: str | Path, *, snapshot_id: str, name: str = "", access: str = ""
) -> ArtifactRecord:
    """Record what was made of a snapshot: a file, which is hashed, or a digest. Recording it again changes nothing.

    `name` is what people call it: that of the file, where nothing else is said.
    """
    if not kind or not snapshot_id:
        msg = "an artifact needs a kind (split, embedding, model, run) and the snapshot that it was made of."
        raise UsageError(msg)
    if isinstance(made, Path):
        if not made.is_file():
            msg = f"{made} is no file; an artifact is named by the digest of its bytes."
            raise UsageError(msg)
        name, digest = name or made.name, f"sha256:{sha256_of_file(made)}"
    else:
        digest = made
    content = {"kind": KIND, "what": kind, "digest": digest, "name": name, "snapshot_id": snapshot_id}
    if access:
        content["access"] = access
    artifact_id = digest_of(content)
    create_new(layout.document(layout.artifacts, artifact_id), sealed_bytes(content))
    return ArtifactRecord(
        artifact_id=artifact_id, kind=kind, digest=digest, snapshot_id=snapshot_id, name=name, access=access
    )


def read_artifacts(layout: Layout) -> tuple[ArtifactRecord, ...]:
    """Return all artifacts of an atlas, by id."""
    return tuple(_read(path) for path in documents_in(layout.artifacts))


def artifacts_of(layout: Layout, snapshots: Collection[str]) -> tuple[ArtifactRecord, ...]:
    """Return what was made of some snapshots."""
    return tuple(artifact for artifact in read_artifacts(layout) if artifact.snapshot_id in snapshots)


def _read(path: Place) -> ArtifactRecord:
    document = read_sealed(path)
    return ArtifactRecord(
        artifact_id=f"sha256:{path.stem}",
        kind=str(document["what"]),
        digest=str(document["digest"]),
        snapshot_id=str(document["snapshot_id"]),
        name=str(document["name"]),
        access=str(document.get("access", "")),
    )

"""Find what an id stands for, in a run or an atlas, and trace it back.

An id is a digest or its first digits (of a score, certificate, split, run, snapshot, overlay, embedding or data set), a
tag, the id of a data set, or a path: the folder of a run, or a file that a run wrote.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cytolabe.audit.certificate import joint_digest
from cytolabe.errors import IntegrityError, UsageError
from cytolabe.evaluate.documents import score_id_of
from cytolabe.evaluate.results import ALL_FOLDS
from cytolabe.files import Place, sha256_of_file
from cytolabe.flow.certificates import CELLS
from cytolabe.flow.hops import Coverage, coverage_of
from cytolabe.flow.recording import dataset_parents
from cytolabe.flow.run_folder import RUN_RECORD, RunFolder, read_run_folder
from cytolabe.flow.trace import Node, Tracer
from cytolabe.ingest import identity
from cytolabe.provenance import digest_of
from cytolabe.records import NamedDigest
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.entries import read_entry
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.reach import excluded_rows
from cytolabe.snapshot.run_ledger import LedgerRun
from cytolabe.store.documents import documents_in

__all__ = ["Trace", "trace"]

_MIN_DIGITS = 8


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A tree, and how far the cells below it reach back; `cells` says which cells are meant."""

    root: Node
    coverage: Coverage
    cells: str


@dataclass
class _Scene:
    """Where an id is looked for: a run, its atlas, or an atlas alone."""

    layout: Layout | None
    run: RunFolder | None
    tracer: Tracer
    own: LedgerRun | None = None
    scores: list[dict[str, Any]] = field(default_factory=list)
    certificates: list[dict[str, Any]] = field(default_factory=list)


def trace(word: str, *, place: Place | None = None, data: Sequence[Path] = ()) -> Trace:
    """Trace an id back as far as anything is known.

    Parameters
    ----------
    word
        The id; the folder of a run, or a file of one, needs no `place`.
    place
        The run or the atlas that knows the id.
    data
        Folders with the files that were read, by name: those that have their digest count as verified.

    Raises
    ------
    UsageError
        If nothing is called so, several things are, or no place is named.
    IntegrityError
        If the record of the run was edited: what it names cannot be followed.
    """
    path = Path(word)
    if place is None and not path.exists():
        msg = f"{word!r} is no path; name the run or the atlas that knows it: cytolabe trace {word} --in RUN."
        raise UsageError(msg)
    where = place if place is not None else path if path.is_dir() else path.parent
    scene = _scene(where, data)
    if path.is_dir() or path.name == RUN_RECORD:
        if scene.own is None:
            msg = f"{word} is an atlas; say what of it: cytolabe trace ID --in {word}, with a tag, a digest or the id of a data set."
            raise UsageError(msg)
        return _of_snapshot(scene, scene.tracer.run_node(scene.own), scene.own.snapshot_id)
    if path.is_file():
        word = f"sha256:{sha256_of_file(path)}"
    return _found(scene, word)


def _scene(where: Place, data: Sequence[Path]) -> _Scene:
    if Layout(where).marker.exists():
        layout = Layout(where)
        return _Scene(layout, None, Tracer(layout, files=_hashed(data)))
    if not isinstance(where, Path):
        msg = f"{where} is no atlas."
        raise UsageError(msg)
    run = read_run_folder(where)
    own = LedgerRun(record_id=run.record_id, body=run.body)
    beside = run.layout if run.has_atlas else None
    files = _hashed(data) | {
        f"sha256:{item['sha256']}": run.path / item["name"]
        for item in run.body["outputs"]
        if (run.path / item["name"]).is_file() and sha256_of_file(run.path / item["name"]) == item["sha256"]
    }
    # The configuration stands in the record, whose digest was compared when it was read.
    files[digest_of(run.body["parameters"])] = run.path / RUN_RECORD
    return _Scene(
        beside,
        run,
        Tracer(beside, extra=[own], files=files),
        own=own,
        scores=list(run.document("scores.json")["scores"]),
        certificates=list(run.document("certificate.json")["certificates"]),
    )


def _hashed(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the files of some folders by digest; a folder that is one source by that of its files."""
    paths = [path for folder in folders for path in sorted(folder.iterdir())]
    return {f"sha256:{identity.digest_of(path)}": path for path in paths}


def _found(scene: _Scene, word: str) -> Trace:
    """Return the trace of what is called so."""
    known = dict(_known(scene))
    digits = word.removeprefix("sha256:").lower()
    is_digest = len(digits) >= _MIN_DIGITS and all(digit in "0123456789abcdef" for digit in digits)
    matching = {digest: role for digest, role in known.items() if is_digest and digest[7:].startswith(digits)}
    if len(matching) > 1:
        told = ", ".join(f"{role} {digest[:23]}" for digest, role in sorted(matching.items())[:5])
        msg = f"{word!r} is the beginning of {len(matching)} digests: {told}. Give more digits."
        raise UsageError(msg)
    if matching:
        ((digest, role),) = matching.items()
        return _trace_of(scene, digest, role)
    return _by_name(scene, word)


def _known(scene: _Scene) -> Iterator[tuple[str, str]]:
    """Yield every digest that can be asked for, with what it is; the last one told of a digest counts."""
    for run in scene.tracer.runs:
        for thing in (*run.parents, *run.results):
            yield thing.digest, thing.role
    for run in scene.tracer.runs:
        yield run.record_id, "run"
    for row in scene.certificates:
        yield str(row["digest"]), "certificate"
    for row in scene.scores:
        yield score_id_of(row), "score"
    for path in documents_in(scene.layout.snapshots) if scene.layout is not None else ():
        yield f"sha256:{path.stem}", "snapshot"


def _trace_of(scene: _Scene, digest: str, role: str) -> Trace:
    if role == "score":
        return _of_score(scene, next(row for row in scene.scores if score_id_of(row) == digest))
    if role == "run":
        run = next(run for run in scene.tracer.runs if run.record_id == digest)
        return _of_snapshot(scene, scene.tracer.run_node(run), run.snapshot_id)
    if role == "certificate" and scene.own is not None:
        return _of_snapshot(scene, _certificate(scene, digest, is_root=True), scene.own.snapshot_id)
    makers = [run for run in scene.tracer.runs if any(made.digest == digest for made in run.results)]
    users = [run for run in scene.tracer.runs if any(parent.digest == digest for parent in run.parents)]
    named = [one for run in (*users, *makers) for one in (*run.parents, *run.results) if one.digest == digest]
    thing = named[0] if named else NamedDigest(role=role, name=digest[:19], digest=digest)
    if role == "dataset" and (found := _datasets(scene, digest)):
        return found
    root = scene.tracer.node(thing)
    if role == "snapshot" or not makers:
        return _of_snapshot(scene, root, digest if role == "snapshot" else "")
    root = replace(root, children=(scene.tracer.run_node(makers[0]),))
    return _of_snapshot(scene, root, makers[0].snapshot_id)


def _by_name(scene: _Scene, word: str) -> Trace:
    if scene.layout is not None:
        atlas = open_atlas(scene.layout.root)
        if word in atlas.tags:
            return _trace_of(scene, atlas.tags[word], "snapshot")
        if word in atlas.dataset_ids:
            return _of_dataset(scene, word, atlas.entry(word).digest)
    what = "score, certificate, split, run, snapshot, tag or data set"
    msg = f"nothing here is called {word!r}: no {what}. A digest needs at least {_MIN_DIGITS} digits; scores.json has the `score_id` of each score."
    raise UsageError(msg)


def _datasets(scene: _Scene, digest: str) -> Trace | None:
    for path in documents_in(scene.layout.snapshots) if scene.layout is not None else ():
        for dataset_id, entry in scene.tracer.entries(f"sha256:{path.stem}").items():
            if dataset_parents([entry])[0].digest == digest:
                return _of_dataset(scene, dataset_id, entry.digest)
    return None


def _of_dataset(scene: _Scene, dataset_id: str, entry_digest: str) -> Trace:
    if scene.layout is None:
        msg = f"the atlas with the data set {dataset_id} is not at hand."
        raise UsageError(msg)
    entry = read_entry(scene.layout, entry_digest)
    coverage = coverage_of({dataset_id: entry.record}, {dataset_id: entry.n_cells})
    return Trace(root=scene.tracer.dataset_node(entry), coverage=coverage, cells=f"cells of {dataset_id}")


def _of_snapshot(scene: _Scene, root: Node, snapshot_id: str) -> Trace:
    """Return a tree with the coverage of all cells of the snapshot that it rests on."""
    entries = scene.tracer.entries(snapshot_id) if snapshot_id else {}
    left_out = excluded_rows(scene.layout, snapshot_id) if entries and scene.layout is not None else {}
    n_cells = {name: entry.n_cells - len(left_out.get(name, ())) for name, entry in entries.items()}
    if not n_cells and scene.run is not None:
        n_cells = _cells_by_dataset(scene.run, "")
    records = {name: entry.record for name, entry in entries.items()}
    return Trace(root=root, coverage=coverage_of(records, n_cells), cells=f"cells of snapshot {snapshot_id[:19]}")


def _of_score(scene: _Scene, row: Mapping[str, Any]) -> Trace:
    if scene.run is None or scene.own is None:
        msg = "a score is traced in its run: --in RUN."
        raise UsageError(msg)
    whole = scene.tracer.run_node(scene.own)
    of_models = {"model", "package", "program", "weights"}
    rest = [one for one in whole.children if one.role not in of_models or _is_of_model(one, row, scene.own)]
    first = [_certificate(scene, digest, is_root=False) for digest in _certificates_of(scene, row)]
    value = row["value"] if row["value"] is not None else "no value"
    root = Node(
        role="score",
        name=f"{row['metric']} of {row['model']}, level {row['resolution']}, {row['split']}, {row['stratum']}",
        digest=score_id_of(row),
        # The file that it stands in has the digest that the record names, or this row is somebody's else.
        state="verified" if _is_intact(scene, "scores.json") else "unknown",
        detail=f"{value} ({row['status']}, {row['n_cells']:,} cells, {row['n_donors']} donors)",
        children=(*first, *rest),
    )
    fold = "" if row["split"] == ALL_FOLDS else str(row["split"])
    n_cells = _cells_by_dataset(scene.run, fold)
    records = {name: entry.record for name, entry in scene.tracer.entries(scene.own.snapshot_id).items()}
    cells = f"cells on either side of {fold}" if fold else "cells of all folds"
    return Trace(root=root, coverage=coverage_of(records, n_cells), cells=cells)


def _certificates_of(scene: _Scene, row: Mapping[str, Any]) -> list[str]:
    """Return the certificates that a score stands on: that which it quotes, or all whose joint digest it quotes."""
    quoted, known = str(row["certificate"]), [str(one["digest"]) for one in scene.certificates]
    if not quoted or quoted != joint_digest(known):
        return [quoted] if quoted else []
    return known


def _is_of_model(node: Node, row: Mapping[str, Any], run: LedgerRun) -> bool:
    """Tell whether a card, or a file of weights, belongs to the model of a score: `scgpt:mine+knn` is a probe on scgpt."""
    base = str(row["model"]).partition("+")[0]
    if node.role == "model":
        return node.name == base.partition(":")[0]
    if node.role == "package":
        return node.name.startswith(f"{base.partition(':')[0]} of ")
    specs = {
        f"precomputed:{spec['name']}" if spec["path"] else str(spec["name"]): spec
        for spec in run.body["parameters"]["models"]
    }
    # A study may name the embedder, which stands for each probe on it, or one probe: `scvi`, or `scvi+knn`.
    spec = specs.get(str(row["model"]), specs.get(base, {"path": None, "options": {}}))
    if node.role == "program":
        return bool(node.name == spec["options"].get("program"))
    if spec["path"]:
        return bool(node.name == spec["path"])
    files = {other["path"] for other in specs.values()}
    return "checkpoint" in spec["options"] and node.name not in files


def _is_intact(scene: _Scene, name: str) -> bool:
    outputs = scene.run.body["outputs"] if scene.run is not None else ()
    recorded = [item["sha256"] for item in outputs if item["name"] == name]
    return scene.run is not None and bool(recorded) and sha256_of_file(scene.run.path / name) == recorded[0]


def _certificate(scene: _Scene, digest: str, *, is_root: bool) -> Node:
    row = next((one for one in scene.certificates if one["digest"] == digest), None)
    if row is None:
        return Node(role="certificate", name="certificate", digest=digest, state="unknown", detail="it is not there")
    body = {key: value for key, value in row.items() if key != "digest"}
    children = scene.tracer.run_node(scene.own).children if is_root and scene.own is not None else ()
    return Node(
        role="certificate",
        name=str(row["split_id"]),
        digest=digest,
        state="verified" if digest_of(body) == digest else "unknown",
        detail=f"{len(row['tests'])} tests, {len(row['not_testable'])} not testable",
        children=tuple(one for one in children if one.role in {"split", "snapshot", "code"}),
    )


def _cells_by_dataset(run: RunFolder, fold: str) -> dict[str, int]:
    """Return how many cells of each data set are on one side of a fold, or of any, from the table of cells of the run.

    Raises
    ------
    IntegrityError
        If the table is missing or was changed.
    """
    try:
        with (run.path / CELLS).open(encoding="utf-8") as stream:
            header = stream.readline().rstrip("\n").split("\t")
        sides = [name for name in header if name.startswith("side:") and fold in ("", name.removeprefix("side:"))]
        table = pd.read_csv(
            run.path / CELLS, sep="\t", usecols=["dataset_id", *sides], dtype=str, keep_default_na=False, quoting=3
        )
    except (OSError, ValueError) as error:
        msg = f"{CELLS} of {run.path} cannot be read ({error}); `cytolabe verify` tells what else was changed."
        raise IntegrityError(msg) from None
    used = (table[sides] != "").any(axis=1)
    return {str(name): int(n) for name, n in table.loc[used, "dataset_id"].value_counts().sort_index().items()}

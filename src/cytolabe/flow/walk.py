"""Walk from the record of a run to everything that it rests on, and name what is not what it was.

Bytes alone say that a file was changed; here it is said which: the field of the record, the fold of the split, the row
of the mappings, the file of a model. What cannot be looked at is a note and never passed over: sources and weights lie
wherever the user has them, so they are hashed only where `data` names their folder.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytolabe.errors import CytolabeError
from cytolabe.flow.mapping_rows import changed_rows
from cytolabe.flow.recording import reference_digest, snapshot_parents
from cytolabe.ingest import identity
from cytolabe.ontology.graph import load_ontology
from cytolabe.provenance import code_identity, digest_of
from cytolabe.provenance.differences import differences
from cytolabe.records import UNKNOWN, Finding, NamedDigest, Severity
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import LedgerRun, without_persons

__all__ = ["edited_fields", "walk_parents"]

_FILES = ("source", "model", "split", "reviewed", "imported")
"""Roles of inputs that are files of the user."""
_OF_A_SNAPSHOT = ("snapshot", "dataset", "mapping", "persons", "overlay")
_SHOWN = 5


@dataclass
class _Walk:
    folder: Path
    body: Mapping[str, Any]
    findings: list[Finding] = field(default_factory=list)
    n_checked: int = 0

    def parents(self, *roles: str) -> dict[tuple[str, str], str]:
        """Return the digests of the parents of some roles by role and name."""
        rows = self.body.get("parents") or ()
        return {(row["role"], row["name"]): row["digest"] for row in rows if row["role"] in roles}

    def compare(self, role: str, name: str, *, recorded: str, found: str) -> None:
        """Hold what was found against what the record says."""
        self.n_checked += 1
        if recorded != found:
            words = f"the run rests on {role} {name} of digest {recorded[7:19]}, and what is here has {found[7:19]}"
            self.tell(f"{role} {name}", words)

    def tell(self, where: str, message: str, *, examples: Sequence[str] = ()) -> None:
        self.findings.append(
            Finding(
                code="E-INTEGRITY-10",
                severity=Severity.ERROR,
                where=where,
                message=message,
                remedy="Restore it from a copy, or run the study again; its scores do not follow from what is here.",
                rule="cytolabe/integrity",
                n_affected=max(1, len(examples)),
                n_total=max(1, len(examples)),
                examples=tuple(examples[:_SHOWN]),
            )
        )

    def note(self, code: str, where: str, message: str, *, remedy: str) -> None:
        self.findings.append(
            Finding(
                code=code, severity=Severity.NOTE, where=where, message=message, remedy=remedy,
                rule="cytolabe/integrity", n_affected=1, n_total=1,
            )
        )  # fmt: skip


def walk_parents(
    folder: Path, body: Mapping[str, Any], *, layout: Layout | None = None, data: Sequence[Path] = ()
) -> tuple[int, tuple[Finding, ...]]:
    """Compare everything that a run rests on with what is here.

    Parameters
    ----------
    folder, body
        The folder of the run, and its record.
    layout
        The atlas of the run, where it is at hand.
    data
        Folders to look for the files of the user in, by name: sources, weights, reviewed tables.

    Returns
    -------
    :
        The number of parents that were compared, and what was found.
    """
    walk = _Walk(folder, body)
    _configuration(walk)
    _split(walk)
    if layout is not None:
        _snapshot(walk, layout)
        for row in changed_rows(folder, layout, str(body["snapshot_id"])):
            walk.tell(row.where, row.message, examples=row.examples)
    _references(walk)
    _files(walk, data)
    return walk.n_checked, tuple(walk.findings)


def edited_fields(body: Mapping[str, Any], runs: Sequence[LedgerRun], *, record_id: str) -> tuple[str, ...]:
    """Return the fields in which a record that was edited differs from the one in the ledger, and their values there.

    A record whose id was forged as well is compared with the run that it resembles most.
    """
    said = without_persons(body)
    known = [run for run in runs if run.record_id == record_id] or [run for run in runs if run.kind == said.get("kind")]
    found = [tuple(found.sentence for found in differences(run.body, said)) for run in known]
    return min(found, key=len, default=())


def _configuration(walk: _Walk) -> None:
    for (role, name), recorded in walk.parents("config").items():
        walk.compare(role, name, recorded=recorded, found=digest_of(walk.body["parameters"]))
    for (role, name), recorded in walk.parents("levels").items():
        for document in ("parameters", "scores.json"):
            said = walk.body["parameters"] if document == "parameters" else _json(walk.folder / document)
            if "levels_digest" in said:
                walk.compare(role, f"{name} of {document}", recorded=recorded, found=str(said["levels_digest"]))


def _split(walk: _Walk) -> None:
    """Say what of a split is not what was certified and scored; that its bytes are others was told already."""
    certificates = _tables(_json(walk.folder / "certificate.json").get("certificates"))
    certified = {str(one.get("split_id")): _sides(one) for one in certificates}
    for _, name in walk.parents("split"):
        split = _json(walk.folder / name)
        if not split:
            continue
        walk.n_checked += 1
        wrong = (
            [f"snapshot_id: {split.get('snapshot_id')}"] if split.get("snapshot_id") != walk.body["snapshot_id"] else []
        )
        asked, rule = walk.body["parameters"].get("by"), split.get("rule", {})
        if asked is not None and list(rule.get("by", ())) != list(asked):
            wrong.append(f"rule.by: {asked} was asked, {rule.get('by')} is there")
        folds = {str(fold.get("split_id")): fold for fold in _tables(split.get("splits"))}
        for split_id, sides in certified.items():
            fold = folds.get(split_id)
            if fold is None:
                wrong.append(f"fold {split_id}: certified, and not in the split")
                continue
            wrong += [f"fold {split_id}.{key}" for key, digest in sides.items() if fold.get(key) not in (digest, None)]
        wrong += [f"fold {split_id}: not certified" for split_id in folds if split_id not in certified]
        if wrong:
            walk.tell(f"split {name}", f"is not the split that was certified: {wrong[0]}", examples=wrong)


def _sides(certificate: Mapping[str, Any]) -> dict[str, str]:
    tests = [test for test in _tables(certificate.get("tests")) if test.get("test") == "sides"]
    return {key: str(tests[0][key]) for key in ("train_rows_digest", "test_rows_digest") if tests and key in tests[0]}


def _snapshot(walk: _Walk, layout: Layout) -> None:
    recorded = walk.parents(*_OF_A_SNAPSHOT)
    if not recorded:
        return
    try:
        there = {(one.role, one.name): one.digest for one in snapshot_parents(layout, str(walk.body["snapshot_id"]))}
    except CytolabeError:
        return  # The atlas is damaged there, and told of it itself.
    for key in sorted({*recorded, *there}):
        walk.compare(*key, recorded=recorded.get(key, "sha256:absent"), found=there.get(key, "sha256:absent"))


def _references(walk: _Walk) -> None:
    """Compare with the code, the ontology and the genes of this installation: others are no damage, but no proof either."""
    code, ontology = code_identity(), load_ontology("CL")
    here = [
        NamedDigest(role="code", name=f"cytolabe {code['version']}", digest=f"sha256:{code['source_sha256']}"),
        NamedDigest(role="ontology", name=ontology.release, digest=ontology.digest),
    ]
    here += [
        NamedDigest(role=role, name=name, digest=reference_digest(name))
        for role, name in walk.parents("gene_reference")
    ]
    for one in here:
        for (role, name), recorded in walk.parents(one.role).items():
            if recorded == one.digest:
                walk.n_checked += 1
            elif role != "code" and name == one.name and one.digest != UNKNOWN:
                walk.compare(role, name, recorded=recorded, found=one.digest)
            else:
                message = f"the run used {name} ({recorded[7:19]}), and here is {one.name} ({one.digest[7:19]})"
                walk.note(
                    "N-INTEGRITY-04", role, message, remedy="none: run it again with the code and tables of the run"
                )


def _files(walk: _Walk, data: Sequence[Path]) -> None:
    """Hash the files of the user that are found by name; say how many were not looked for or not found."""
    wanted = [row for row in walk.body.get("inputs") or () if row.get("role") in _FILES and "sha256" in row]
    # Weights of a checkpoint are parents by their bytes; a file of predictions is an input already.
    known = {f"sha256:{row['sha256']}" for row in wanted}
    wanted += [
        {"role": role, "name": name, "sha256": digest.removeprefix("sha256:")}
        for (role, name), digest in walk.parents("weights").items()
        if digest not in known
    ]
    found = dict(_named_files(data, {str(row["name"]) for row in wanted}))
    absent = []
    for row in wanted:
        name = str(row["name"])
        if name not in found:
            absent.append(f"{row['role']} {name}")
            continue
        digests = [f"sha256:{identity.digest_of(path)}" for path in found[name]]
        recorded = f"sha256:{row['sha256']}"
        walk.compare(str(row["role"]), name, recorded=recorded, found=recorded if recorded in digests else digests[0])
    if absent:
        message = (
            f"{len(absent)} of {len(wanted)} file(s) that the run read are not at hand, so nobody hashed them: "
            + ", ".join(absent[:_SHOWN])
        )
        walk.note("N-INTEGRITY-03", "inputs", message, remedy="name their folder: cytolabe verify RUN --data FOLDER")


def _named_files(folders: Sequence[Path], names: set[str]) -> Iterator[tuple[str, list[Path]]]:
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.name in names]
    for name in names:
        if mine := [path for path in paths if path.name == name]:
            yield name, mine


def _tables(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; whoever edited a file may have left anything there."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON object, or nothing where it is missing or damaged: its digest has told that already."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

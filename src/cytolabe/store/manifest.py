"""The log of revisions: everything about an atlas that can change, changed one numbered file at a time.

A revision says which data sets, overlays and tags are in force, and names its parent by seal, so that an edited or
removed revision breaks the chain. It is published by linking a finished file to the next number: who comes second
reads again. Changes to other targets are put on top of the new head by themselves; a change to a target that somebody
else changed since is a `ConflictError`, because one of the two would be lost.

Old revisions may expire (`store.expiry`); the gap that they leave is recorded. `head.json` beside the log is a witness of
the last number: a log that ends before it was rolled back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import cast

from cytolabe.errors import ConflictError, IntegrityError
from cytolabe.files import Place, create_new, replace_file
from cytolabe.store.documents import read_sealed, sealed_bytes, unsealed
from cytolabe.store.tables import TableEntry

__all__ = [
    "WITNESS",
    "Change",
    "Revision",
    "first_revision",
    "head_revision",
    "publish_change",
    "read_revision",
    "read_revisions",
    "revision_numbers",
    "witnessed_number",
]

WITNESS = "head.json"
"""Name of the witness, in the directory that holds the log."""

_ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One state of an atlas.

    `datasets` maps a data set id to the digest of its entry, `overlays` a name (`mappings`, `persons`) to its table,
    `tags` a tag to a snapshot id; `frozen` is the snapshot that was frozen last. `changes` says what became of each
    target that the command touched: added, replaced, removed or unchanged. `time` and `author` enter no id.
    """

    number: int
    parent: str = ""
    author: str = ""
    message: str = ""
    time: str = ""
    datasets: Mapping[str, str] = field(default_factory=dict)
    overlays: Mapping[str, TableEntry] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    frozen: str = ""
    changes: Mapping[str, str] = field(default_factory=dict)
    seal: str = ""

    def with_changes(self, changes: Mapping[str, str]) -> "Revision":
        """Return this revision with the words of another call, which changed nothing."""
        return replace(self, changes=dict(changes))


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a command wants to change; targets that it does not name stay as they are.

    `removed` are data sets that leave. `expected` are overlays that the change was made for and does not touch: where
    one is another by now, the change would be about a state that is over.
    """

    datasets: Mapping[str, str] = field(default_factory=dict)
    overlays: Mapping[str, TableEntry] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    frozen: str = ""
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()


def first_revision(directory: Place) -> Revision:
    """Publish revision 0 of an empty atlas, or return the head if there is a log already."""
    if revision_numbers(directory):
        return head_revision(directory)
    # No time here: who creates the same atlas twice at once writes the same bytes.
    create_new(directory / "0.json", sealed_bytes(_document(Revision(number=0, message="created"))))
    return head_revision(directory)


def head_revision(directory: Place) -> Revision:
    """Return the last revision of a log.

    Raises
    ------
    IntegrityError
        If the log is empty or the revision was edited.
    """
    # The witness first: a revision that is published in between is behind it then, never before it.
    witnessed = witnessed_number(directory)
    numbers = revision_numbers(directory)
    if not numbers:
        msg = f"{directory.name} holds no revision; the log of the atlas is lost."
        raise IntegrityError(msg)
    if numbers[-1] < witnessed:
        msg = (
            f"the log ends with revision {numbers[-1]}, and revision {witnessed} was published: it was rolled back. "
            "Restore the missing revisions from a copy; `cytolabe verify` tells what else is missing."
        )
        raise IntegrityError(msg)
    return read_revision(directory, numbers[-1])


def witnessed_number(directory: Place) -> int:
    """Return the last number that the witness beside a log knows; -1 without one, as in atlases of older versions.

    Raises
    ------
    IntegrityError
        If the witness was edited.
    """
    path = directory.parent / WITNESS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return -1
    return int(cast("int", unsealed(content, where=WITNESS)["number"]))


def read_revision(directory: Place, number: int) -> Revision:
    """Return one revision.

    Raises
    ------
    IntegrityError
        If it is missing or was edited.
    """
    document = read_sealed(directory / f"{number}.json")
    try:
        overlays = cast("Mapping[str, Mapping[str, object]]", document.pop("overlays"))
        tables = {name: TableEntry(**entry) for name, entry in overlays.items()}  # type: ignore[arg-type]
        revision = Revision(overlays=tables, **document)  # type: ignore[arg-type]
    except (KeyError, TypeError, AttributeError):
        msg = f"revisions/{number}.json has other keys than a revision."
        raise IntegrityError(msg) from None
    if revision.number != number:
        msg = f"revisions/{number}.json is revision {revision.number}: files were exchanged."
        raise IntegrityError(msg)
    return revision


def read_revisions(directory: Place) -> tuple[Revision, ...]:
    """Return all revisions, the first one first."""
    return tuple(read_revision(directory, number) for number in revision_numbers(directory))


def publish_change(
    directory: Place, change: Change, *, base: Revision, author: str = "", message: str = ""
) -> Revision:
    """Publish the next revision with `change` in it.

    Parameters
    ----------
    directory
        The log.
    change
        What to change.
    base
        The revision that the caller looked at when it made the change.
    author, message
        Who changed what; kept in the log.

    Raises
    ------
    ConflictError
        If somebody changed the same target since `base`.
    """
    for _ in range(_ATTEMPTS):
        head = head_revision(directory)
        _require_untouched(change, base=base, head=head)
        revision = _applied(change, head=head, author=author, message=message)
        try:
            create_new(directory / f"{revision.number}.json", sealed_bytes(_document(revision)))
        except ConflictError:
            continue
        published = read_revision(directory, revision.number)
        _witness(directory, published)
        return published
    msg = f"{_ATTEMPTS} attempts to publish were overtaken by other writers; try again when the atlas is quieter."
    raise ConflictError(msg)


def _witness(directory: Place, revision: Revision) -> None:
    """Record the number of a revision; who is overtaken here leaves a lower number, which accuses nobody."""
    content = {"kind": "cytolabe/head/1", "number": revision.number, "revision": revision.seal}
    replace_file(directory.parent / WITNESS, sealed_bytes(content))


def _require_untouched(change: Change, *, base: Revision, head: Revision) -> None:
    for kind in ("datasets", "overlays", "tags"):
        before, now = getattr(base, kind), getattr(head, kind)
        wanted = dict(getattr(change, kind))
        if kind == "datasets":
            wanted.update(dict.fromkeys(change.removed))
        if kind == "overlays":
            wanted = {**{name: before.get(name) for name in change.expected}, **wanted}
        for target in sorted(wanted):
            if now.get(target) not in (before.get(target), wanted[target]):
                msg = (
                    f"{kind}/{target} was changed by revision {head.number} since revision {base.number}, which this "
                    "change was made for. Open the atlas again, look at what changed, and repeat."
                )
                raise ConflictError(msg)


def _applied(change: Change, *, head: Revision, author: str, message: str) -> Revision:
    changes = dict.fromkeys(change.unchanged, "unchanged")
    for kind in ("datasets", "overlays", "tags"):
        now = getattr(head, kind)
        for target, value in getattr(change, kind).items():
            state = "added" if target not in now else "unchanged" if now[target] == value else "replaced"
            changes[f"{kind}/{target}"] = state
    gone = set(change.removed) & set(head.datasets)
    changes |= {f"datasets/{name}": "removed" for name in sorted(gone)}
    return Revision(
        number=head.number + 1,
        parent=head.seal,
        author=author,
        message=message,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        datasets={name: entry for name, entry in {**head.datasets, **change.datasets}.items() if name not in gone},
        overlays={**head.overlays, **change.overlays},
        tags={**head.tags, **change.tags},
        frozen=change.frozen or head.frozen,
        changes=changes,
    )


def _document(revision: Revision) -> dict[str, object]:
    return {f.name: getattr(revision, f.name) for f in fields(Revision) if f.name != "seal"}


def revision_numbers(directory: Place) -> list[int]:
    """Return the numbers of the revisions that are there, in order."""
    return sorted(int(path.stem) for path in directory.glob("*.json") if path.stem.isdigit())

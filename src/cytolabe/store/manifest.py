"""The log of revisions: everything about an atlas that can change, changed one numbered file at a time.

A revision says which data sets, overlays and tags are in force, and names its parent by seal, so that an edited or
removed revision breaks the chain. It is published by linking a finished file to the next number: who comes second
reads again. Changes to other targets are put on top of the new head by themselves; a change to a target that somebody
else changed since is a `ConflictError`, because one of the two would be lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import cast

from cytolabe.errors import ConflictError, IntegrityError
from cytolabe.files import Place, create_new
from cytolabe.store.documents import read_sealed, sealed_bytes
from cytolabe.store.tables import TableEntry

__all__ = ["Change", "Revision", "first_revision", "head_revision", "publish_change", "read_revision", "read_revisions"]

_ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One state of an atlas.

    `datasets` maps a data set id to the digest of its entry, `overlays` a name (`mappings`, `persons`) to its table,
    `tags` a tag to a snapshot id; `frozen` is the snapshot that was frozen last. `changes` says what became of each
    target that the command touched: added, replaced or unchanged. `time` and `author` enter no id.
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
    """What a command wants to change; targets that it does not name stay as they are."""

    datasets: Mapping[str, str] = field(default_factory=dict)
    overlays: Mapping[str, TableEntry] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    frozen: str = ""
    unchanged: tuple[str, ...] = ()


def first_revision(directory: Place) -> Revision:
    """Publish revision 0 of an empty atlas, or return the head if there is a log already."""
    if _numbers(directory):
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
    numbers = _numbers(directory)
    if not numbers:
        msg = f"{directory.name} holds no revision; the log of the atlas is lost."
        raise IntegrityError(msg)
    return read_revision(directory, numbers[-1])


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
    return tuple(read_revision(directory, number) for number in _numbers(directory))


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
        return read_revision(directory, revision.number)
    msg = f"{_ATTEMPTS} attempts to publish were overtaken by other writers; try again when the atlas is quieter."
    raise ConflictError(msg)


def _require_untouched(change: Change, *, base: Revision, head: Revision) -> None:
    for kind in ("datasets", "overlays", "tags"):
        wanted, before, now = (getattr(state, kind) for state in (change, base, head))
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
    return Revision(
        number=head.number + 1,
        parent=head.seal,
        author=author,
        message=message,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        datasets={**head.datasets, **change.datasets},
        overlays={**head.overlays, **change.overlays},
        tags={**head.tags, **change.tags},
        frozen=change.frozen or head.frozen,
        changes=changes,
    )


def _document(revision: Revision) -> dict[str, object]:
    return {f.name: getattr(revision, f.name) for f in fields(Revision) if f.name != "seal"}


def _numbers(directory: Place) -> list[int]:
    return sorted(int(path.stem) for path in directory.glob("*.json") if path.stem.isdigit())

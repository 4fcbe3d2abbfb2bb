"""Hold files against rule packs of a schema, each in a process that may die, and propose what would repair them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytolabe.config.manifest import Manifest
from cytolabe.errors import UsageError
from cytolabe.files import Place, replace_file, sha256_of_file
from cytolabe.ingest.inspection import inspect
from cytolabe.ingest.sources import find_sources
from cytolabe.ingest.spill import spill_received
from cytolabe.records import HOPS, Finding, HopState, Severity
from cytolabe.validate.patch import patch_of, written_patch
from cytolabe.validate.schema import MEANING_PACK, load_schema_pack

__all__ = ["Conformed", "conform_file", "conform_paths", "write_patch"]

_CHILD = "cytolabe.flow.conform_child"
_UNREADABLE = ("E-FILE-", "E-SEC-", "E-PARSE-", "E-LIMIT-")


@dataclass(frozen=True, kw_only=True)
class Conformed:
    """What was found of one file under some packs."""

    path: Path
    packs: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def unreadable(self) -> bool:
        """Whether nothing of it could be read safely."""
        return any(finding.code.startswith(_UNREADABLE) for finding in self.findings)

    @property
    def valid(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)

    def valid_under(self, pack: str) -> bool:
        """Whether no error is of this pack, or of the file itself."""
        others = tuple(load_schema_pack(name).title for name in self.packs if name != pack)
        errors = [finding for finding in self.findings if finding.severity is Severity.ERROR]
        return all(finding.rule.startswith(others) for finding in errors) if others else not errors


def conform_file(path: Path, packs: Sequence[str], *, manifest: Manifest | None = None) -> Conformed:
    """Return everything in which a file does not conform to the packs, or why it could not be read.

    Parameters
    ----------
    path
        The file.
    packs
        Names of the packs.
    manifest
        What was declared about it; without one nothing is said of the steps between the reads and the counts.

    Raises
    ------
    UsageError
        If there is no pack of a name.
    OSError
        If the disk of temporary files is full.
    """
    for pack in packs:
        load_schema_pack(pack)
    with spill_received() as spill:
        found = inspect(path, _CHILD, options=(tuple(packs), _hops_in(manifest)), spill=spill)
    return Conformed(path=path, packs=tuple(packs), findings=found)


def _hops_in(manifest: Manifest | None) -> tuple[str, ...]:
    """Return how each step is known by the words of a manifest; nothing where a folder says more, which ingest reads."""
    if manifest is None or manifest.pipeline:
        return ()
    return tuple(f"{hop}={HopState.DECLARED if getattr(manifest, hop) else HopState.UNKNOWN}" for hop in HOPS)


def conform_paths(
    arguments: Sequence[str | Place], packs: Sequence[str], *, on_progress: Callable[[str], None] = lambda _: None
) -> tuple[tuple[Conformed, ...], tuple[Finding, ...]]:
    """Hold the files that arguments stand for against the packs, and against the pack of meaning.

    Returns
    -------
    conformed
        One for each file.
    findings
        What was found about the arguments themselves.

    Raises
    ------
    UsageError
        If an argument is an atlas or lies elsewhere, or there is no pack of a name.
    """
    asked = tuple(dict.fromkeys((*packs, MEANING_PACK)))
    for pack in asked:
        load_schema_pack(pack)
    paths = []
    for argument in arguments:
        if not isinstance(argument, Path) or (argument / "cytolabe.json").exists():
            msg = f"--pack holds files against a schema, and {argument} is none. Name .h5ad files on this machine."
            raise UsageError(msg)
        paths.append(argument)
    sources, findings = find_sources(paths)
    rows = []
    for number, source in enumerate(sources, start=1):
        rows.append(conform_file(source.path, asked, manifest=source.manifest))
        on_progress(f"validate: {number} of {len(sources)} files")
    return tuple(rows), findings


def write_patch(row: Conformed, out: Path) -> int:
    """Write the repairs that were proposed for one file, and return how many there are."""
    document = patch_of(
        row.findings, source_name=row.path.name, source_sha256=sha256_of_file(row.path), packs=row.packs
    )
    replace_file(out, written_patch(document))
    operations = document["operations"]
    return len(operations) if isinstance(operations, list) else 0

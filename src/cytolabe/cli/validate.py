"""The command `validate`: what is wrong with files, what would repair it, and a copy in which that is done."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytolabe.cli.options import AsJson, CachePath, Workers, source_or_place
from cytolabe.cli.output import print_document, print_findings, progress, writable_file
from cytolabe.errors import UsageError

if TYPE_CHECKING:
    from cytolabe.flow.conform import Conformed
    from cytolabe.records import Finding

__all__ = ["validate"]

Checked = Annotated[
    list[Any],
    typer.Argument(metavar="SOURCE...", parser=source_or_place, help="What ingest takes, or an atlas or its URL."),
]
Packs = Annotated[
    list[str] | None,
    typer.Option("--pack", help="Hold h5ad files against a schema: cellxgene-7, -6 or -5. May be given several times."),
]


def validate(
    sources: Checked,
    packs: Packs = None,
    fix: Annotated[Path | None, typer.Option(help="Write what would repair one file as a patch to review.")] = None,
    apply: Annotated[Path | None, typer.Option(help="Write a copy of one file with a patch applied, to -o.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The copy; it must not exist.")] = None,
    cache: CachePath = None,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> int:
    """Run every check on files, or list the findings of an atlas; no file is changed, repairs are written beside it."""
    if apply is not None or out is not None:
        return _apply(sources, apply, out, as_json=as_json)
    if packs or fix is not None:
        return _conform(sources, packs or ["cytolabe-2"], fix, as_json=as_json)
    from cytolabe.flow.sources import validate_paths
    from cytolabe.provenance import jsonable

    rows = validate_paths(sources, cache=cache, n_workers=workers, on_progress=progress())
    if as_json:
        document = [{"source": row.source, "valid": row.valid, "findings": jsonable(row.findings)} for row in rows]
        print_document({"sources": document})
    else:
        for row in rows:
            _print_row(row.source, row.valid, row.findings)
    if rows and all(row.unreadable for row in rows):
        return 3
    return 0 if all(row.valid for row in rows) else 1


def _conform(sources: list[Any], packs: list[str], fix: Path | None, *, as_json: bool) -> int:
    from cytolabe.flow.conform import conform_paths, write_patch

    rows, told = conform_paths(sources, packs, on_progress=progress())
    if len(rows) > 1:
        from cytolabe.flow.meaning import with_collisions

        rows = with_collisions(rows)
    n_operations = None
    if fix is not None:
        if len(rows) != 1:
            msg = f"--fix writes the patch of one file, and the arguments stand for {len(rows)}. Name one."
            raise UsageError(msg)
        n_operations = write_patch(rows[0], writable_file(fix, "--fix"))
    if as_json:
        print_document(_document(rows, told, fix, n_operations))
    else:
        print_findings(told)
        for row in rows:
            _print_row(row.path.name, row.valid, row.findings)
        if fix is not None:
            typer.echo(
                f"{n_operations} repair(s) written to {fix}; review it, then: cytolabe validate FILE --apply {fix} -o NEW.h5ad"
            )
    if rows and all(row.unreadable for row in rows):
        return 3
    is_told = any(finding.severity == "error" for finding in told)
    return 1 if is_told or not all(row.valid for row in rows) else 0


def _document(
    rows: "Sequence[Conformed]", told: "Sequence[Finding]", fix: Path | None, n_operations: int | None
) -> dict[str, object]:
    from cytolabe.provenance import jsonable

    found = [
        {
            "source": row.path.name,
            "valid": row.valid,
            "packs": {pack: row.valid_under(pack) for pack in row.packs},
            "findings": jsonable(row.findings),
        }
        for row in rows
    ]
    document: dict[str, object] = {"sources": found, "findings": jsonable(told)}
    return document if fix is None else {**document, "patch": str(fix), "n_operations": n_operations}


def _apply(sources: list[Any], patch: Path | None, out: Path | None, *, as_json: bool) -> int:
    if patch is None or out is None:
        msg = "--apply PATCH and -o NEW.h5ad go together: a patch is applied to a copy."
        raise UsageError(msg)
    if len(sources) != 1 or not isinstance(sources[0], Path) or not sources[0].is_file() or not patch.is_file():
        msg = "--apply takes one file on this machine and one patch: cytolabe validate FILE --apply PATCH -o NEW.h5ad."
        raise UsageError(msg)
    from cytolabe.flow.amend import amend_file
    from cytolabe.provenance import jsonable

    done = amend_file(sources[0], patch, writable_file(out, "-o"))
    if as_json:
        print_document({**dict(jsonable(done)), "out": str(done.out)})  # type: ignore[call-overload]
    else:
        typer.echo(f"{done.n_operations} operation(s) of {done.patch_digest} applied; written to {done.out}")
    return 0


def _print_row(source: str, valid: bool, findings: "Sequence[Finding]") -> None:
    typer.echo(f"{source}: {'valid' if valid else 'not valid'}")
    print_findings(findings, where=source)
    n_repairs = sum(len(finding.autofix) for finding in findings)
    if n_repairs:
        typer.echo(f"{source}: {n_repairs} repair(s) can be proposed: --fix PATCH")

"""`cytolabe snapshot query` and `cytolabe snapshot export`: ask a snapshot, and take cells out of it."""

import datetime as dt
import decimal
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cytolabe.cli.lifecycle import record_artifact, record_run
from cytolabe.cli.options import AsJson, AsRecorded, AtlasPath, SnapshotName
from cytolabe.cli.output import made_folder, print_document, print_findings, print_pairs, print_table, progress
from cytolabe.errors import UsageError

if TYPE_CHECKING:
    from cytolabe.snapshot.relations import Relations

__all__ = ["export", "query"]

_LEAST_MEMORY = 64 << 20

Where = Annotated[
    str, typer.Option("--where", help="Filter: tissue = 'lung' and n_counts >= 500 and not sex is unknown")
]


def query(
    atlas: AtlasPath,
    sql: Annotated[
        str,
        typer.Argument(
            metavar="[SQL]", help="One SELECT over cells, datasets, quality, genes, contributed.<dataset_id>."
        ),
    ] = "",
    parameters: Annotated[
        list[str] | None,
        typer.Option("--param", help="NAME=VALUE for $NAME of the query. A number in quotes ('5') is a text."),
    ] = None,
    where: Where = "",
    limit: Annotated[int, typer.Option(min=0, help="Print at most so many rows; 0 = all.")] = 1000,
    memory: Annotated[str, typer.Option(help="What the database may use, for example 4GiB.")] = "2GiB",
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Answer one SELECT, or count the cells that a filter matches (--where)."""
    from cytolabe.flow.budget import bytes_of
    from cytolabe.snapshot.atlas import open_atlas
    from cytolabe.snapshot.query import ask

    if bool(sql) == bool(where):
        msg = "give one SELECT, or a filter with --where."
        raise UsageError(msg)
    if (n_bytes := bytes_of(memory)) < _LEAST_MEMORY:
        msg = f"--memory {memory} is too little for the database: give it 64MiB or more."
        raise UsageError(msg)
    frozen = open_atlas(atlas).snapshot(snapshot, as_recorded=as_recorded)
    if where:
        return _count(frozen.relations, where, snapshot_id=frozen.snapshot_id, as_json=as_json)
    bound = dict(_parameter(text) for text in parameters or ())
    answer = ask(frozen.relations, sql, bound, memory_limit=f"{n_bytes}B")
    names = [field.name for field in answer.reader.schema]
    rows: list[list[object]] = []
    for batch in answer.batches():
        columns = [column.to_pylist() for column in batch.columns]
        rows += [[_plain(value) for value in row] for row in zip(*columns, strict=True)]
        if limit and len(rows) > limit:
            break
    is_cut = bool(limit) and len(rows) > limit
    rows = rows[:limit] if limit else rows
    if as_json:
        print_document(
            {
                "snapshot_id": frozen.snapshot_id,
                "columns": names,
                "n_rows": len(rows),
                "is_cut": is_cut,
                "rows": rows,
            }
        )
        return 0
    print_table(names, rows)
    if is_cut:
        progress()(f"only the first {limit:,} rows are shown; --limit 0 shows all")
    return 0


def export(
    atlas: AtlasPath,
    out: Annotated[Path, typer.Option("-o", "--out", help="x.h5ad, x.zarr (AnnData) or x.soma (TileDB-SOMA).")],
    where: Where = "",
    genes: Annotated[
        str, typer.Option(help="Genes joined by commas, or a file with one per line; else those that all measure.")
    ] = "",
    orthologs: Annotated[
        Path | None,
        typer.Option(
            help="A table of orthologs: genes with one of their own are written under its id, the others left out."
        ),
    ] = None,
    access: Annotated[
        str,
        typer.Option(
            help="Strictest access class that may leave: registered or managed; else open or undeclared only."
        ),
    ] = "",
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Write cells of a snapshot to a file of their own, block by block."""
    from cytolabe.flow.split_records import export_step
    from cytolabe.provenance import cells_digest, digest_of, jsonable
    from cytolabe.records.access import ACCESS_CLASSES
    from cytolabe.snapshot.atlas import open_atlas
    from cytolabe.snapshot.takeout import export_cells

    if access and access not in ACCESS_CLASSES:
        msg = f"--access {access} is none of {', '.join(ACCESS_CLASSES)}."
        raise UsageError(msg)
    if orthologs is not None and genes:
        msg = "--genes names genes of the atlas and --orthologs chooses them; give one of the two."
        raise UsageError(msg)
    made_folder(out.parent, "--out")
    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
    said: dict[str, object] = {}
    if orthologs is None:
        written = export_cells(frozen, out, where=where, genes=_gene_list(genes), access=access, on_progress=progress())
    else:
        from cytolabe.flow.ortholog_export import export_orthologs

        led = export_orthologs(frozen, out, orthologs, where=where, access=access, on_progress=progress())
        written, said = led.selection, {"counts_kept": led.counts_kept, "findings": jsonable(led.findings)}
    document: dict[str, object] = {
        **written.provenance,
        "n_cells": len(written.positions),
        "n_genes": len(written.genes),
        "out": str(out),
        **said,
    }
    # What says which cells and genes left names the content; the bytes of a large file are not read again for it.
    chosen = {**written.provenance, "cells": cells_digest(written.obs.index), "genes": list(written.genes)}
    record_artifact(opened, "export", digest_of(chosen), snapshot_id=frozen.snapshot_id, name=out.name)
    record_run(opened, export_step(chosen, out), snapshot_id=frozen.snapshot_id)
    if as_json:
        print_document(document)
    else:
        print_pairs({name: value for name, value in document.items() if name not in said})
        if orthologs is not None:
            print_findings(led.findings)
    return 0


def _gene_list(text: str) -> list[str] | None:
    """Return the genes of a list joined by commas, or of a file with one per line."""
    if not text:
        return None
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:
        is_file = False  # a list of some twenty genes is longer than a name of a file may be
    words = path.read_text(encoding="utf-8").split() if is_file else text.split(",")
    return [word.strip() for word in words if word.strip()]


def _count(relations: "Relations", where: str, *, snapshot_id: str, as_json: bool) -> int:
    """Print how many cells of which data sets a filter matches, and why it may match none."""
    from cytolabe.snapshot.query import count_cells, unknown_values

    counts = count_cells(relations, where)
    n_cells = sum(counts.values())
    remarks = () if n_cells else unknown_values(relations, where)
    if as_json:
        rows = [{"dataset_id": name, "n_cells": count} for name, count in counts.items()]
        print_document(
            {"snapshot_id": snapshot_id, "where": where, "n_cells": n_cells, "datasets": rows, "remarks": list(remarks)}
        )
        return 0
    if counts:
        print_table(["data set", "cells"], list(counts.items()))
    typer.echo(f"{n_cells:,} cells match")
    for remark in remarks:
        typer.echo(remark)
    return 0


def _parameter(text: str) -> tuple[str, object]:
    """Return name and value of `NAME=VALUE`; a value that looks like a number is one."""
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        msg = f"--param {text[:60]!r} is not NAME=VALUE; for $tissue write --param tissue=lung."
        raise UsageError(msg)
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return name, value[1:-1]
    for kind in (int, float):
        try:
            number = kind(value)
        except ValueError:
            continue
        if math.isfinite(number):
            return name, number
    return name, value


def _plain(value: object) -> object:
    """Return a value as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dt.date | dt.time | dt.timedelta | bytes):
        return str(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value

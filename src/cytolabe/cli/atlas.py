"""Commands on an atlas: ingest, reconcile, audit."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from cytolabe.cli.levels import levels_document, print_levels
from cytolabe.cli.lifecycle import record_artifact, record_run
from cytolabe.cli.options import AsJson, AsRecorded, AtlasPath, CachePath, OptionalAtlas, SnapshotName, Workers
from cytolabe.cli.output import made_folder, print_document, print_findings, print_table, progress, writable_file
from cytolabe.cli.scored import tell_scores
from cytolabe.errors import UsageError

__all__ = ["audit", "ingest", "reconcile"]

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...", help="h5ad files, folders, a manifest.toml, or cellxgene:<id> of CELLxGENE Discover."
    ),
]


def ingest(
    atlas: AtlasPath,
    sources: Sources,
    dataset_id: Annotated[str, typer.Option("--id", help="Id of the data set, for one source.")] = "",
    aliases: Annotated[Path | None, typer.Option(help="Table of older gene names: alias, gene id.")] = None,
    cache: CachePath = None,
    workers: Workers = 1,
    engine: Annotated[str, typer.Option(help="Who does the work: local (processes here) or ray.")] = "local",
    address: Annotated[str, typer.Option(help="A Ray cluster: host:port, or auto; without it one is started.")] = "",
    memory: Annotated[str, typer.Option(help="Bound on memory, such as 8GB; by default half of what is there.")] = "",
    as_json: AsJson = False,
) -> int:
    """Bring contributions into an atlas: prove the counts, align the genes, check every rule, store."""
    from cytolabe.cli.bar import staged_progress
    from cytolabe.flow.means import Means
    from cytolabe.flow.sources import ingest_sources
    from cytolabe.provenance import jsonable

    with staged_progress() as (tell, bar):
        means = Means(
            n_workers=workers, engine=engine, address=address, memory=memory, cache=cache, survives=True, on_cells=bar
        )
        outcomes, findings, revision = ingest_sources(
            atlas, sources, dataset_id=dataset_id, aliases=aliases, on_progress=tell, means=means
        )
    if as_json:
        keys = ("source", "dataset_id", "status", "n_cells", "n_genes", "genes_mapped_fraction_of_counts", "findings")
        rows = [{**{key: jsonable(getattr(o, key)) for key in keys}, **o.known} for o in outcomes]
        print_document({"datasets": rows, "findings": jsonable(findings), "revision": revision})
    else:
        header = ["source", "data set", "status", "cells", "genes", "counts mapped"]
        table = [
            [o.source, o.dataset_id, o.status, o.n_cells, o.n_genes, _share(o.genes_mapped_fraction_of_counts)]
            for o in outcomes
        ]
        if table:
            print_table(header, table)
        print_findings(findings)
        for outcome in outcomes:
            print_findings(outcome.findings, where=outcome.source)
        typer.echo("no atlas was made: there is no file to read" if revision is None else f"revision {revision}")
    if outcomes and all(outcome.unreadable for outcome in outcomes):
        return 3
    refused = any(outcome.status == "refused" for outcome in outcomes)
    return 1 if refused or any(f.severity == "error" for f in findings) else 0


def reconcile(
    atlas: OptionalAtlas = None,
    export: Annotated[
        Path | None, typer.Option(help="Write an SSSOM table to review, and a page (.html) to review it on.")
    ] = None,
    apply: Annotated[Path | None, typer.Option(help="Put a reviewed SSSOM table in force.")] = None,
    imports: Annotated[
        list[Path] | None,
        typer.Option(
            "--import", help="A mapping table of others: CAS (JSON), HRA, CellTypist or SSSOM. May be repeated."
        ),
    ] = None,
    levels: Annotated[bool, typer.Option("--levels", help="Show the resolutions of the mapped terms.")] = False,
    score: Annotated[
        Path | None, typer.Option(help="Measure the mapper on a table of labels and terms; no atlas is read.")
    ] = None,
    cas: Annotated[
        Path | None,
        typer.Option("--cas", help="Folder for one CAS document (JSON) per data set, of what is in force then."),
    ] = None,
    expression: Annotated[
        bool, typer.Option(help="Read counts, so that labels whose cells look like another type wait for a person.")
    ] = True,
    train: Annotated[Path | None, typer.Option(help="With --score: a table of other studies to learn from.")] = None,
    basis: Annotated[
        str,
        typer.Option(
            help="With --score: auto, or shipped, which has the model of the package answer a large table, too."
        ),
    ] = "auto",
    as_json: AsJson = False,
) -> int:
    """Map the labels of every contribution to the Cell Ontology, with confidence and abstention."""
    from cytolabe.flow.drafts import reconcile_place
    from cytolabe.provenance import jsonable

    if (atlas is None) == (score is None) or ((train is not None or basis != "auto") and score is None):
        msg = "name an atlas, or a table with --score (and then --train, if it shall learn from other studies, or --basis)."
        raise UsageError(msg)
    if score is not None:
        if export is not None or apply is not None or cas is not None or levels:
            msg = "--score measures the mapper on a table; --export, --apply, --cas and --levels are about an atlas."
            raise UsageError(msg)
        return tell_scores(score, train=train, basis=basis, as_json=as_json)
    _check_outputs(export, cas)
    summary = reconcile_place(
        atlas, export=export, reviewed=apply, imports=imports or (), expression=expression, on_progress=progress()
    )
    document: dict[str, object] = {
        "n_labels": len(summary.mappings),
        "mapped": summary.count("auto", "reviewed"),
        "abstained": summary.count("abstained", "reserved"),
        "review": summary.count("review"),
        "findings": jsonable(summary.findings),
    }
    if levels:
        document |= levels_document(summary)
    if cas is not None:
        document["cas"] = _cas(atlas, cas)
    code = 1 if any(finding.severity == "error" for finding in summary.findings) else 0
    if as_json:
        print_document(document)
        return code
    print_table(
        ["data set", "label", "cells", "term", "name", "confidence", "decision"],
        [
            [m.dataset_id, m.contributor_label, m.n_cells, m.term, m.term_name, m.confidence / 1000, m.decision]
            for m in summary.mappings
        ],
    )
    print_findings(summary.findings)
    if levels:
        print_levels(summary)
    return code


def _check_outputs(export: Path | None, cas: Path | None) -> None:
    """Refuse what could not be written at the end, before anything is read."""
    if export is not None:
        if export.suffix == ".html":
            msg = f"--export {export}: name the table, for example {export.with_suffix('.tsv')}; the page is written beside it."
            raise UsageError(msg)
        writable_file(export, "--export")
    if cas is not None:
        made_folder(cas, "--cas")


def _cas(atlas: AtlasPath, folder: Path) -> list[str]:
    from cytolabe.flow.cas import export_cas

    return [str(path) for path in export_cas(atlas, folder)]


def audit(
    atlas: AtlasPath,
    split_file: Annotated[Path | None, typer.Option("--split", help="A split to audit and certify.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the certificate and the table of copies.")] = Path(),
    counts: Annotated[
        bool, typer.Option("--counts", help="Write the counts too, so that the verifier can look for copies itself.")
    ] = False,
    snapshot: SnapshotName = "latest",
    as_recorded: AsRecorded = False,
    as_json: AsJson = False,
) -> int:
    """Look for leakage, copies and confounding, and write the certificate of a split."""
    from cytolabe.flow.split_records import audit_step
    from cytolabe.flow.splits import audit_atlas
    from cytolabe.snapshot.atlas import open_atlas

    made_folder(out, "--out")
    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot, as_recorded=as_recorded)
    document, findings = audit_atlas(frozen, split_file=split_file, out=out, with_counts=counts, on_progress=progress())
    # The tables of copies, cells and counts name cells as well.
    paths = {"certificate": document["certificate"], "duplicates": document["duplicates_path"]}
    for made, path in [*paths.items(), *(("cells", path) for path in cast("list[str]", document["grounds"]))]:
        if path is not None:
            record_artifact(opened, made, Path(str(path)), snapshot_id=frozen.snapshot_id)
    record_run(opened, audit_step(document, split_file, with_counts=counts), snapshot_id=frozen.snapshot_id)
    if as_json:
        print_document(document)
    else:
        _print_confounding(cast("list[dict[str, Any]]", document["confounding"]))
        print_findings(findings)
        typer.echo(f"{document['n_duplicates']} pair(s) of copied cells: {document['duplicates_path']}")
        typer.echo(f"certificate: {document['certificate'] or 'none without --split'}")
    return 1 if any(finding.severity == "error" for finding in findings) else 0


def _print_confounding(rows: list[dict[str, Any]]) -> None:
    """Print the pairs of columns that could be tested; where one has a single level there is nothing to show."""
    tested = [row for row in rows if row["status"] != "NOT_RUN"]
    print_table(
        ["data set", "technical", "biological", "Cramer's V", "estimable", "status"],
        [
            [
                row["dataset_id"] or "all", row["technical"], row["biological"], _share(row["cramers_v"]),
                row["estimable"], row["status"],
            ]
            for row in tested
        ],
    )  # fmt: skip
    typer.echo(f"{len(rows) - len(tested)} of {len(rows)} pairs have a column with one known level: nothing to compare")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"

"""`cytolabe persons`: who is who in an atlas, with the evidence, on a sheet that can be reviewed."""

from pathlib import Path
from typing import Annotated

import typer

from cytolabe.cli.options import AsJson, AtlasPath, SnapshotName
from cytolabe.cli.output import print_document, print_findings, print_table, writable_file

__all__ = ["persons"]


def persons(
    atlas: AtlasPath,
    export: Annotated[Path | None, typer.Option(help="Write the sheet of persons (TSV) to review.")] = None,
    apply: Annotated[
        Path | None, typer.Option(help="Put a reviewed sheet in force; lines with a reviewer count.")
    ] = None,
    snapshot: SnapshotName = "latest",
    as_json: AsJson = False,
) -> int:
    """List the persons behind donors, suspected identities, and pairs with their evidence; review them."""
    from cytolabe.flow.persons import review_persons
    from cytolabe.provenance import jsonable
    from cytolabe.snapshot.atlas import open_atlas

    if export is not None:
        writable_file(export, "--export")
    opened = open_atlas(atlas)
    frozen = opened.snapshot(snapshot)
    found = review_persons(opened, frozen, reviewed=apply, export=export)
    document = {
        "snapshot_id": frozen.snapshot_id,
        "persons": found.sheet.to_dict("records"),
        "pairs": found.pairs.to_dict("records"),
        "n_assumed_different": found.n_assumed_different,
        "findings": jsonable(found.findings),
    }
    if as_json:
        print_document(document)
    else:
        columns = ["dataset_id", "donor_id", "n_cells", "person_id", "person_state", "sex_genes", "suspected"]
        print_table(
            ["data set", "donor", "cells", "person", "state", "sex genes", "suspected"],
            found.sheet[columns].to_numpy(dtype=object).tolist(),
        )
        if len(found.pairs):
            print_table(list(found.pairs.columns), found.pairs.to_numpy(dtype=object).tolist())
        typer.echo(f"{found.n_assumed_different} pairs of persons are assumed to be different; nobody knows")
        print_findings(found.findings)
    return 1 if any(finding.severity == "error" for finding in found.findings) else 0

"""`cytolabe provenance`: how far counts can be traced, from the logs of a pipeline or for the data sets of an atlas."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cytolabe.cli.options import AsJson
from cytolabe.cli.output import print_document, print_findings, print_table
from cytolabe.files import place_of

if TYPE_CHECKING:
    from cytolabe.flow.provenance import TracedAtlas
    from cytolabe.ingest.pipelines import PipelineFacts

__all__ = ["provenance"]

Traced = Annotated[
    Any,
    typer.Argument(
        metavar="FOLDER|ATLAS", parser=place_of, help="Folder that a pipeline left behind, or an atlas or its URL."
    ),
]


def provenance(place: Traced, as_json: AsJson = False) -> int:
    """Show what a pipeline's files say of aligner, reference, kit, library and reads, or how far an atlas can be traced."""
    from cytolabe.flow.provenance import facts_of_folder, trace_hops

    traced = trace_hops(place)
    if traced is not None:
        _show_atlas(traced, as_json=as_json)
        return 0
    facts = facts_of_folder(Path(str(place)))
    _show_folder(facts, as_json=as_json)
    return 0


def _show_folder(facts: "PipelineFacts", *, as_json: bool) -> None:
    from cytolabe.flow.provenance import manifest_fragment
    from cytolabe.provenance import jsonable

    fragment = manifest_fragment(facts)
    if as_json:
        hops = [
            {"hop": hop.hop, "state": hop.state.value, "value": hop.value, "evidence": jsonable(hop.evidence)}
            for hop in facts.hops
        ]
        print_document(
            {"n_files": facts.n_files, "hops": hops, "manifest": fragment, "findings": jsonable(facts.findings)}
        )
        return
    print_table(["hop", "state", "what is known"], [[hop.hop, hop.state.value, hop.value] for hop in facts.hops])
    print_table(
        ["fact", "value", "file", "place"],
        [[claim.fact, claim.value[:60], claim.file, claim.place] for claim in facts.evidence],
    )
    print_findings(facts.findings)
    typer.echo(f"\n# manifest.toml\n{fragment}", nl=False)


def _show_atlas(traced: "TracedAtlas", *, as_json: bool) -> None:
    from cytolabe.provenance import jsonable

    if as_json:
        datasets = [
            {
                "dataset_id": record.dataset_id,
                "n_cells": record.n_cells,
                "hops": jsonable(record.provenance),
                "declared": {hop: record.declared[hop] for hop in record.provenance if hop in record.declared},
                "evidence": jsonable(record.evidence),
            }
            for record in traced.records
        ]
        coverage = jsonable(traced.coverage)
        print_document(
            {"datasets": datasets, "coverage": coverage, "run_accession_fraction": traced.run_accession_fraction}
        )
        return
    hops = list(traced.coverage)
    print_table(
        ["data set", "cells", *hops],
        [
            [record.dataset_id, f"{record.n_cells:,}", *(record.provenance.get(hop, "unknown") for hop in hops)]
            for record in traced.records
        ],
    )
    for hop, shares in traced.coverage.items():
        told = ", ".join(f"{share:.0%} {state}" for state, share in shares.items() if share)
        typer.echo(f"{hop}: {told or 'no cells'}")
    typer.echo(f"{traced.run_accession_fraction:.0%} of cells reach a run accession")

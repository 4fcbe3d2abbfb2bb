"""`cytolabe genes`: what became of the features of an atlas, aligned anew, and what a model knows of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cytolabe.cli.options import AsJson, AtlasPath
from cytolabe.cli.output import made_folder, print_document, print_findings, print_table, progress
from cytolabe.errors import UsageError

if TYPE_CHECKING:
    from cytolabe.flow.genes import AlignedDataset, GeneSummary

__all__ = ["genes"]


def genes(
    atlas: AtlasPath,
    align: Annotated[bool, typer.Option("--align", help="Align all data sets to the shipped reference first.")] = False,
    aliases: Annotated[
        Path | None, typer.Option(help="With --align: table of older names (alias, gene), or the set of HGNC.")
    ] = None,
    vocabulary: Annotated[
        list[Path] | None, typer.Option(help="Vocabulary of a model (JSON or pickle); may be given several times.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for one table of features per data set.")] = None,
    as_json: AsJson = False,
) -> int:
    """Show what became of the features of each data set; align them anew without touching a count."""
    from cytolabe.flow.genes import summarize_genes

    if aliases is not None and not align:
        msg = "--aliases changes an alignment; give it together with --align."
        raise UsageError(msg)
    if out is not None:
        made_folder(out, "--out")
    found = summarize_genes(
        atlas, align=align, aliases=aliases, vocabularies=vocabulary or (), out=out, on_progress=progress()
    )
    if as_json:
        covered = [
            {
                "dataset_id": item.dataset_id,
                "vocabulary": item.vocabulary.name,
                "sha256": item.vocabulary.digest,
                **vars(item.coverage),
            }
            for item in found.coverages
        ]
        rows = [_document(dataset) for dataset in found.datasets]
        print_document({"revision": found.revision, "datasets": rows, "vocabularies": covered})
    else:
        _print(found)
    return 0


def _document(dataset: "AlignedDataset") -> dict[str, object]:
    from cytolabe.provenance import jsonable

    alignment = dataset.alignment
    return {
        "dataset_id": dataset.dataset_id,
        "gene_reference": alignment.gene_reference,
        "annotation": alignment.annotation,
        "annotation_evidence": alignment.annotation_evidence,
        "aliases": dataset.aliases,
        "is_changed": dataset.is_changed,
        "n_features": len(alignment.features),
        "n_genes": len(alignment.measured_genes),
        "genes_mapped_fraction_of_counts": alignment.genes_mapped_fraction_of_counts,
        "statuses": {
            status: {"n_features": n, "fraction_of_counts": share} for status, (n, share) in dataset.statuses().items()
        },
        "findings": jsonable(dataset.findings),
    }


def _print(found: "GeneSummary") -> None:
    """Print a table of the data sets, their findings, and what each vocabulary covers."""
    print_table(
        ["data set", "annotation", "by", "features", "genes", "counts mapped", "statuses"],
        [
            [
                dataset.dataset_id, dataset.alignment.annotation, dataset.alignment.annotation_evidence,
                len(dataset.alignment.features), len(dataset.alignment.measured_genes),
                f"{dataset.alignment.genes_mapped_fraction_of_counts:.2%}",
                ", ".join(f"{status} {n:,}" for status, (n, _) in dataset.statuses().items()),
            ]
            for dataset in found.datasets
        ],
    )  # fmt: skip
    for dataset in found.datasets:
        print_findings(dataset.findings, where=dataset.dataset_id)
    if found.coverages:
        print_table(
            ["data set", "vocabulary", "genes covered", "of genes", "of counts"],
            [
                [
                    item.dataset_id, item.vocabulary.name, item.coverage.n_covered,
                    f"{item.coverage.genes_covered_fraction:.1%}", f"{item.coverage.counts_covered_fraction:.2%}",
                ]
                for item in found.coverages
            ],
        )  # fmt: skip
    typer.echo(f"revision {found.revision}")

"""`cytolabe genes`: what became of the features of an atlas, aligned anew, and what a model knows of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cytolabe.cli.options import AsJson, AtlasPath
from cytolabe.cli.output import made_folder, print_document, print_findings, print_table, progress
from cytolabe.errors import UsageError

if TYPE_CHECKING:
    from cytolabe.flow.genes import AlignedDataset, GeneSummary
    from cytolabe.flow.orthologs import OrthologSummary

__all__ = ["genes"]


def genes(
    atlas: AtlasPath,
    align: Annotated[bool, typer.Option("--align", help="Align all data sets to the shipped reference first.")] = False,
    aliases: Annotated[
        Path | None, typer.Option(help="With --align: table of older names (alias, gene), or the set of HGNC.")
    ] = None,
    orthologs: Annotated[
        Path | None,
        typer.Option(
            help="Table of orthologs (two columns headed by their organisms) to keep in the atlas, as it is read."
        ),
    ] = None,
    vocabulary: Annotated[
        list[Path] | None, typer.Option(help="Vocabulary of a model (JSON or pickle); may be given several times.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for one table of features per data set.")] = None,
    as_json: AsJson = False,
) -> int:
    """Show what became of the features of each data set; align them anew without touching a count."""
    from cytolabe.flow.genes import summarize_genes
    from cytolabe.flow.orthologs import orthologs_of_atlas, relate_orthologs

    if aliases is not None and not align:
        msg = "--aliases changes an alignment; give it together with --align."
        raise UsageError(msg)
    if out is not None:
        made_folder(out, "--out")
    if orthologs is not None:
        relate_orthologs(atlas, orthologs, on_progress=progress())
    found = summarize_genes(
        atlas, align=align, aliases=aliases, vocabularies=vocabulary or (), out=out, on_progress=progress()
    )
    related = orthologs_of_atlas(atlas, vocabularies=vocabulary or (), out=out)
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
        document: dict[str, object] = {"revision": found.revision, "datasets": rows, "vocabularies": covered}
        print_document({**document, "orthologs": None if related is None else _related_document(related)})
    else:
        _print(found)
        if related is not None:
            _print_related(related)
    return 0


def _related_document(related: "OrthologSummary") -> dict[str, object]:
    from cytolabe.provenance import jsonable

    return {
        "table": related.source,
        "sha256": related.source_digest,
        "organism": related.organism,
        "ortholog_organism": related.ortholog_organism,
        "relations": related.relations,
        "findings": jsonable(related.findings),
        "datasets": [
            {
                "dataset_id": dataset.dataset_id,
                **vars(dataset.shares),
                "vocabularies": [{"vocabulary": name, **vars(coverage)} for name, coverage in dataset.coverages],
                "findings": jsonable(dataset.findings),
            }
            for dataset in related.datasets
        ],
    }


def _print_related(related: "OrthologSummary") -> None:
    """Print what the relation of orthologs in force says of each data set, and what it leaves open."""
    told = ", ".join(f"{relation} {n:,}" for relation, n in related.relations.items())
    typer.echo(f"orthologs of {related.ortholog_organism}: {related.source} ({related.source_digest}); lines: {told}")
    print_table(
        ["data set", "genes with one", "several", "none", "counts that map", "several", "none"],
        [
            [
                dataset.dataset_id, dataset.shares.n_mapped, dataset.shares.n_several, dataset.shares.n_unlisted,
                f"{dataset.shares.mapped_fraction_of_counts:.2%}", f"{dataset.shares.several_fraction_of_counts:.2%}",
                f"{dataset.shares.unlisted_fraction_of_counts:.2%}",
            ]
            for dataset in related.datasets
        ],
    )  # fmt: skip
    print_findings(related.findings, where=related.source)
    for dataset in related.datasets:
        print_findings(dataset.findings, where=dataset.dataset_id)
    rows = [
        [
            dataset.dataset_id,
            name,
            coverage.n_covered,
            f"{coverage.genes_covered_fraction:.1%}",
            f"{coverage.counts_covered_fraction:.2%}",
        ]
        for dataset in related.datasets
        for name, coverage in dataset.coverages
    ]
    if rows:
        print_table(["data set", "vocabulary, by orthologs", "genes covered", "of genes", "of counts"], rows)


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

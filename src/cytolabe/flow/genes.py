"""The genes of an atlas after ingest: what became of the features, aligned anew, and what a model knows of them.

A newer gene reference, or a table of aliases that was found later, is another interpretation of the same features: it is
published as a revision over the same partitions, and earlier snapshots keep their own. All data sets are aligned
together, because a snapshot speaks one reference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytolabe.errors import RefusedError
from cytolabe.files import Place, replace_file, tsv_text
from cytolabe.genes.aliases import AliasTable, read_alias_table
from cytolabe.genes.alignment import align_features
from cytolabe.genes.reference import GeneReference, load_reference
from cytolabe.genes.vocabularies import Coverage, Vocabulary, coverage_of, read_vocabulary
from cytolabe.records import FeatureAlignment, Finding, Severity
from cytolabe.snapshot.alignments import alignment_of_entry, with_alignment
from cytolabe.snapshot.atlas import Atlas, open_atlas
from cytolabe.snapshot.build import ALIASES
from cytolabe.snapshot.entries import DatasetEntry
from cytolabe.store.leases import held_lease
from cytolabe.store.tables import read_table
from cytolabe.validate.rules import GENE_CHECKS
from cytolabe.validate.validator import validate_dataset

__all__ = ["AlignedDataset", "GeneSummary", "ModelCoverage", "align_atlas", "summarize_genes"]

_REPLACED = {"GENES", "PANEL"}
"""Kinds of findings that speak of the alignment; those of ingest's other rooms stay."""


@dataclass(frozen=True, kw_only=True)
class ModelCoverage:
    """How much of a data set the vocabulary of a model covers."""

    dataset_id: str
    vocabulary: Vocabulary
    coverage: Coverage


@dataclass(frozen=True, kw_only=True)
class AlignedDataset:
    """A data set and what became of its features; `aliases` is the digest of the user's table, or empty."""

    dataset_id: str
    alignment: FeatureAlignment
    findings: tuple[Finding, ...]
    aliases: str = ""
    is_changed: bool = False

    def statuses(self) -> dict[str, tuple[int, float]]:
        """Return the number of features and their share of the counts by status, the heaviest first."""
        found: dict[str, tuple[int, float]] = {}
        for status, share in zip(self.alignment.status, self.alignment.count_fraction, strict=True):
            n, sum_of_shares = found.get(status, (0, 0.0))
            found[status] = (n + 1, sum_of_shares + share)
        return dict(sorted(found.items(), key=lambda item: (-item[1][1], item[0])))


@dataclass(frozen=True, kw_only=True)
class GeneSummary:
    """What `cytolabe genes` tells."""

    revision: int
    datasets: tuple[AlignedDataset, ...]
    coverages: tuple[ModelCoverage, ...] = ()


def summarize_genes(
    place: Place,
    *,
    align: bool = False,
    aliases: Path | None = None,
    vocabularies: Sequence[Path] = (),
    out: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> GeneSummary:
    """Return what became of the features of an atlas, after they were aligned anew where `align` says so.

    Parameters
    ----------
    place
        The atlas.
    align
        Align every data set to the shipped reference first, and publish it.
    aliases
        The user's table for it.
    vocabularies
        Files of models whose coverage is wanted.
    out
        Folder for one table of features per data set.
    on_progress
        Told what is being done.
    """
    known = [read_vocabulary(path) for path in vocabularies]
    atlas = open_atlas(place)
    changed: frozenset[str] = frozenset()
    if align:
        table = read_alias_table(aliases) if aliases is not None else None
        changed = align_atlas(atlas, aliases=table, on_progress=on_progress)
    datasets = tuple(_summary(atlas, name, is_changed=name in changed) for name in atlas.dataset_ids)
    if out is not None:
        for dataset in datasets:
            replace_file(out / f"{dataset.dataset_id}.genes.tsv", _table_text(atlas, dataset).encode())
    return GeneSummary(
        revision=atlas.revision,
        datasets=datasets,
        coverages=tuple(_coverages(atlas, datasets, known)),
    )


def align_atlas(
    atlas: Atlas,
    *,
    aliases: AliasTable | None = None,
    reference: GeneReference | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> frozenset[str]:
    """Align every data set of an atlas anew, publish what changed, and return the data sets that did.

    Parameters
    ----------
    atlas
        Looks at the new revision afterwards.
    aliases
        The user's table; without one, none is asked, and one that was asked before no longer speaks.
    reference
        Instead of the one that is shipped for the organism.
    on_progress
        Told which data set is aligned.

    Raises
    ------
    RefusedError
        If a data set would lose so much of its counts that ingest would refuse it; nothing is published then.
    ConflictError
        If somebody else changed one of the data sets in the meantime.
    """
    entries = [atlas.entry(name) for name in atlas.dataset_ids]
    aligned = []
    with held_lease(atlas.layout.leases, "write"):
        for entry in entries:
            on_progress(f"aligning {entry.dataset_id}")
            chosen = reference or load_reference(entry.record.organism)
            aligned.append(_aligned(atlas, entry, reference=chosen, aliases=aliases))
        changed = [new for old, new in zip(entries, aligned, strict=True) if new.digest != old.digest]
        if changed:
            atlas.publish(changed, message=f"align genes to {changed[0].gene_reference}")
    return frozenset(entry.dataset_id for entry in changed)


def _aligned(
    atlas: Atlas, entry: DatasetEntry, *, reference: GeneReference, aliases: AliasTable | None
) -> DatasetEntry:
    """Write the entry of a data set under another alignment, after the gate on what is lost."""
    before = alignment_of_entry(atlas.layout, entry)
    # Shares of the counts are their totals in another unit.
    alignment, findings = align_features(
        before.features,
        np.array(before.count_fraction),
        reference=reference,
        aliases=aliases.genes if aliases is not None else None,
    )
    cells = read_table(atlas.layout.tables, entry.tables["cells"])
    checked = validate_dataset(
        entry.record,
        cells=cells,
        alignment=alignment,
        cell_totals=cells["n_counts"].to_numpy(dtype=np.int64),
        checks=GENE_CHECKS,
    )
    errors = [finding for finding in (*findings, *checked) if finding.severity is Severity.ERROR]
    if errors:
        msg = f"{entry.dataset_id} cannot be aligned to {reference.name}: {errors[0].message} Nothing was changed."
        raise RefusedError(msg)
    kept = [finding for finding in entry.findings if finding.code.split("-")[1] not in _REPLACED]
    digest = aliases.digest if aliases is not None else ""
    return with_alignment(atlas.layout, entry, alignment, aliases=digest, findings=(*kept, *findings, *checked))


def _summary(atlas: Atlas, dataset_id: str, *, is_changed: bool) -> AlignedDataset:
    entry = atlas.entry(dataset_id)
    return AlignedDataset(
        dataset_id=dataset_id,
        alignment=alignment_of_entry(atlas.layout, entry),
        findings=tuple(finding for finding in entry.findings if finding.code.split("-")[1] in _REPLACED),
        aliases=entry.record.declared.get(ALIASES, ""),
        is_changed=is_changed,
    )


def _coverages(
    atlas: Atlas, datasets: Sequence[AlignedDataset], vocabularies: Sequence[Vocabulary]
) -> list[ModelCoverage]:
    """Return the coverage of each data set by each vocabulary; its names are led to the genes of the data set's organism."""
    found = []
    for vocabulary in vocabularies:
        genes: dict[str, frozenset[str]] = {}
        for dataset in datasets:
            organism = atlas.entry(dataset.dataset_id).record.organism
            if organism not in genes:
                genes[organism] = vocabulary.genes(load_reference(organism))
            coverage = coverage_of(dataset.alignment, genes[organism])
            found.append(ModelCoverage(dataset_id=dataset.dataset_id, vocabulary=vocabulary, coverage=coverage))
    return found


def _table_text(atlas: Atlas, dataset: AlignedDataset) -> str:
    """Return the table of features of a data set, the heaviest first."""
    alignment = dataset.alignment
    reference = load_reference(atlas.entry(dataset.dataset_id).record.organism)
    rows = [["feature", "status", "gene_id", "symbol", "count_fraction"]]
    order = sorted(range(len(alignment.features)), key=lambda k: (-alignment.count_fraction[k], alignment.features[k]))
    for k in order:
        gene_id = alignment.gene_ids[k]
        symbol = reference.symbol_of(gene_id) if gene_id in reference else ""
        rows.append([alignment.features[k], alignment.status[k], gene_id, symbol, f"{alignment.count_fraction[k]:.6g}"])
    return tsv_text(rows)

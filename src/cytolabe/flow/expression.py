"""Evidence from expression for the labels of an atlas: counts streamed, labels compared, reasons told.

It runs where an atlas is reconciled, and never where a study is scored: a study's mappings come from words, declarations
and persons alone (rule R6b).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from cytolabe.genes.reference import load_reference, shipped_organisms
from cytolabe.ontology.graph import Ontology
from cytolabe.reconcile.expression import ExpressionEvidence, expression_evidence
from cytolabe.records import LabelMapping
from cytolabe.snapshot.atlas import Atlas
from cytolabe.snapshot.profiles import label_profiles

__all__ = ["expression_of_atlas"]


def expression_of_atlas(
    atlas: Atlas,
    mappings: Sequence[LabelMapping],
    *,
    ontology: Ontology,
    on_progress: Callable[[str], None] = lambda _: None,
) -> ExpressionEvidence:
    """Return what expression says of the labels of an atlas, whose labels mean `mappings` so far.

    Counts are read only where labels of two studies can be compared. The means of labels lie in a folder for temporary files, which is
    removed at the end.
    """
    labelled = {mapping.dataset_id for mapping in mappings}
    cells = atlas.cells()
    names = cells["dataset_id"].to_numpy(dtype=object)
    of_study = {name: str(cells["study"].to_numpy()[names == name][0]) for name in sorted(labelled & set(names))}
    if len(set(of_study.values())) < 2:
        return ExpressionEvidence(
            silent={(m.dataset_id, m.contributor_label): "no label in another study" for m in mappings}
        )
    symbols: dict[str, str] = {}
    with TemporaryDirectory(prefix="cytolabe-") as folder:
        profiles = []
        for dataset_id in of_study:
            on_progress(f"expression of the labels of {dataset_id}")
            own = cells[names == dataset_id]
            profiles.append(label_profiles(atlas, dataset_id, cells=own, folder=Path(folder)))
        for organism in sorted({atlas.entry(name).record.organism for name in of_study} & set(shipped_organisms())):
            symbols |= load_reference(organism).primary.symbols
        return expression_evidence(profiles, mappings, ontology=ontology, symbols=symbols)

"""Had a model seen the test data before? `in`, `out` or `unknown`; unknown is never called clean (rules R13, R16).

A model that is trained here has seen what its fit scopes say, so it is `out` by construction of the split. A model
with a history is judged by its pretraining manifest: a data set on the list is `in`. One that is not on it is
`unknown`, because the same cells circulate under many names; `out` would need dated evidence that the samples are
younger than the corpus.
"""

from collections.abc import Sequence

from cytolabe.records import Exposure, ModelCard, Protocol

__all__ = ["exposure_of", "is_trained_here"]

_TRAINED_HERE = (Protocol.SUPERVISED, Protocol.SELF_SUPERVISED, Protocol.CONTROL)


def is_trained_here(card: ModelCard) -> bool:
    """Tell whether all that a model knows comes from the training side of the split."""
    return card.protocol in _TRAINED_HERE and not card.pretraining and not card.weights_digest


def exposure_of(
    card: ModelCard, datasets: Sequence[str], *, train: Sequence[str], n_train_cells: int | None = None
) -> tuple[Exposure, ...]:
    """Return the exposure of a model to each test data set, sorted by data set.

    Parameters
    ----------
    card
        The model's card, with its pretraining manifest.
    datasets
        Data sets with cells on the test side.
    train
        Data sets with cells on the training side.
    n_train_cells
        Cells of the training side, for the evidence.
    """
    return tuple(
        Exposure(model=card.name, dataset_id=name, status=status, evidence=evidence)
        for name in sorted(set(datasets))
        for status, evidence in [_judged(card, name, train=train, n_train_cells=n_train_cells)]
    )


def _judged(card: ModelCard, dataset_id: str, *, train: Sequence[str], n_train_cells: int | None) -> tuple[str, str]:
    if dataset_id in card.pretraining:
        return "in", "the data set is in the model's pretraining manifest"
    if is_trained_here(card):
        cells = "the training cells" if n_train_cells is None else f"{n_train_cells} training cells"
        beside = "; other cells of this data set are among them" if dataset_id in train else ""
        return "out", f"trained here, on {cells} without the test component{beside}"
    if card.pretraining:
        return "unknown", (
            f"not among the {len(card.pretraining)} entries of the pretraining manifest, but no dated evidence that "
            "the samples are younger than the corpus"
        )
    return "unknown", "the model has a history and no pretraining manifest"

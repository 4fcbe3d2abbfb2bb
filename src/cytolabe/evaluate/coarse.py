"""Labels above the classes of a level, for models that train on them with the marginal loss (rule R5).

Other models never get them: a label coarser than the level is excluded and counted. A model whose card says `coarse_labels` is
handed, beside the cells of each class, training cells whose term is above one of these classes, with that term.
"""

import numpy as np
import pandas as pd
from jaxtyping import Shaped

from cytolabe.evaluate.folds import FoldData
from cytolabe.ontology.graph import Ontology
from cytolabe.records import ModelCard

__all__ = ["COARSE_LABELS", "takes_coarse_labels", "with_coarser"]

COARSE_LABELS = "coarse_labels"
"""Capability of a model that trains on labels above its classes."""


def takes_coarse_labels(card: ModelCard | None) -> bool:
    """Tell whether a model trains on labels above its classes."""
    return card is not None and COARSE_LABELS in card.capabilities


def with_coarser(
    cells: pd.DataFrame, data: FoldData, level: str, *, ontology: Ontology
) -> Shaped[np.ndarray, " cells"]:
    """Return a term per cell of the snapshot: that of the level, or a coarser one that covers a class of training.

    Empty where a label does not count on the training side, or covers no class.
    """
    terms = data.train_terms[level]
    classes = sorted(set(terms[data.train_rows].tolist()) - {""})
    own = cells["cell_type_ontology_term_id"].to_numpy(dtype=object)
    above = {
        term: term not in classes and any(ontology.is_a(one, term) for one in classes if one in ontology)
        for term in set(own[data.train_rows].tolist())
        if term in ontology
    }
    is_coarse = np.array([above.get(term, False) for term in own], dtype=bool)
    return np.where((terms == "") & data.train_counts & is_coarse, own, terms)

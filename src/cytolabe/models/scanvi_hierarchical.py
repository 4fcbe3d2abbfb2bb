"""scANVI whose classifier learns from labels of any depth, through the extension points of scvi-tools: nothing of theirs is copied.

All labels are registered, coarse ones too, so that scvi-tools hands their cells to the classifier. Two things change. A hook gives labels that are no class
the score minus infinity, so that answers, and the mixture over types in the ELBO, are over the classes alone (the latent label of a cell is
a class; the uniform prior moves the ELBO by a constant). And `classification_loss` returns the hierarchical cross-entropy, softmax times reachability
and then the negative log likelihood, over the logits that the published method computes. Epochs are chosen by the same loss.

Keys and shapes of the weights are those of scANVI. The classes are made at the first call, because their parents exist only where scvi-tools is there.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from cytolabe.models.extras import import_extra
from cytolabe.models.hierarchical_torch import hierarchical_cross_entropy_torch
from cytolabe.ontology.hierarchy import Hierarchy

__all__ = ["hierarchical_scanvi"]


@cache
def hierarchical_scanvi() -> Any:  # noqa: ANN401 - untyped library
    """Return a child of scvi-tools' SCANVI; `learn_by` of its module has to be called before it is trained or asked.

    Raises
    ------
    MissingExtraError
        If scvi-tools is not installed.
    """
    scvi, torch = import_extra("scvi"), import_extra("torch")
    model, module = scvi.model.SCANVI, import_extra("scvi.module").SCANVAE

    class HierarchicalScanvae(module):  # type: ignore[misc,valid-type]
        """The module of scANVI under a hierarchy, which is no weight."""

        hierarchy: Hierarchy

        def learn_by(self, hierarchy: Hierarchy, registered: Sequence[str]) -> None:
            """Tell the module which labels are classes; `registered` are all that scvi-tools knows, in the order of its codes."""
            self.hierarchy = hierarchy
            row = {label: number for number, label in enumerate(hierarchy.labels)}
            # The unlabelled category is none of the hierarchy, and its cells never reach the classifier's loss.
            self.rows = torch.tensor([row.get(label, -1) for label in registered])
            self.columns = torch.tensor([list(registered).index(name) for name in hierarchy.classes])
            is_no_class = torch.ones(self.n_labels, dtype=torch.bool)
            is_no_class[self.columns] = False
            self.classifier.register_forward_hook(
                lambda _module, _given, scores: scores.masked_fill(is_no_class, float("-inf"))
            )

        def classification_loss(self, labelled_dataset: dict[str, Any]) -> tuple[Any, Any, Any]:
            """Return the mean hierarchical cross-entropy of a minibatch of labelled cells, their codes, and the logits."""
            _, codes, logits = super().classification_loss(labelled_dataset)
            rows = self.rows[codes.view(-1).long()]
            return hierarchical_cross_entropy_torch(logits[:, self.columns], rows, self.hierarchy), codes, logits

    class HierarchicalScanvi(model):  # type: ignore[misc,valid-type]
        """scANVI of `HierarchicalScanvae`."""

        _module_cls = HierarchicalScanvae

    return HierarchicalScanvi

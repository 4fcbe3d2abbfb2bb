"""Classes of genes by a fine-tuned Geneformer: a head at every position, answered for genes whose label it never saw.

As published every position of a labelled gene asks for its class (BertForTokenClassification). A gene moves weights or is
asked about, never both, in whatever cells it stands; what is said of a gene is the mean over the cells that have it. Who
chooses when to stop is neither: other genes of the training side, in cells of persons who move no weight.

Token embeddings of genes that are asked about move only through the cells that they stand in; no label of theirs is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from cytolabe.errors import RefusedError, UsageError
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.cell_classes import MISSING
from cytolabe.models.geneformer.checkpoint import GeneformerCheckpoint
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.fine_tuning import starting_network
from cytolabe.models.geneformer.in_silico import tokens_of
from cytolabe.models.geneformer.minibatches import by_length, length_grouped
from cytolabe.models.geneformer.source import GeneformerLearning
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.held_out import hold_out_persons
from cytolabe.models.learning import array_digest, balanced_weights, run_training
from cytolabe.models.scopes import refuse_too_few_cells
from cytolabe.models.training_state import Progress
from cytolabe.provenance import digest_of
from cytolabe.randomness import derive_seed, rng_for

__all__ = ["FittedGeneClasses", "GeneAnswers", "GeneClassTraining", "fit_gene_classes", "gene_groups", "labelled_genes"]

_LEAST_CELLS = 10
_TOKENS_PER_MINIBATCH = 16_384


@dataclass(frozen=True, kw_only=True)
class GeneClassTraining:
    """Cells that are in memory as tokens, and the class of some of their genes."""

    network: Any
    cells: TokenizedCells
    fit_codes: Integer[np.ndarray, " tokens"]
    """Class of each token of the dictionary whose gene moves weights, else `MISSING`."""
    held_out_codes: Integer[np.ndarray, " tokens"]
    """The same of genes that choose when to stop."""
    fit_rows: np.ndarray
    held_out_rows: np.ndarray
    class_weights: Float[np.ndarray, " classes"]
    size: int
    """Cells of a minibatch."""
    seed: int

    @cached_property
    def identity(self) -> str:
        """Digest of cells, genes, division and options."""
        arrays = (
            self.cells.tokens, self.cells.lengths, self.fit_codes, self.held_out_codes, self.fit_rows, self.held_out_rows,
            self.class_weights,
        )  # fmt: skip
        frozen = [name for name, weight in self.network.named_parameters() if not weight.requires_grad]
        return digest_of([[array_digest(one) for one in arrays], frozen, self.size, self.seed])

    def minibatches(self, epoch: int) -> Sequence[Integer[np.ndarray, " rows"]]:
        """Return the minibatches of an epoch, of like length; cells without a labelled gene are in none."""
        rows = self._asking(self.fit_rows, self.fit_codes)
        grouped = length_grouped(self.cells.lengths[rows], size=self.size, seed=self.seed, epoch=epoch)
        return [rows[chosen] for chosen in grouped]

    def loss(self, rows: np.ndarray, *, epoch: int) -> tuple[Any, int]:  # noqa: ARG002 - the same in every epoch
        """Return the summed weighted cross-entropy of positions of labelled genes, and how many there are."""
        return self._cost(rows, self.fit_codes)

    def held_out_loss(self) -> float | None:
        """Return the mean over held-out genes in held-out cells; None where there is no such position."""
        rows = self._asking(self.held_out_rows, self.held_out_codes)
        total, n_asked = 0.0, 0
        for chosen in by_length(self.cells.lengths[rows], tokens_per_minibatch=_TOKENS_PER_MINIBATCH):
            loss, n = self._cost(rows[chosen], self.held_out_codes)
            total, n_asked = total + float(loss.detach()), n_asked + n
        return total / n_asked if n_asked else None

    def _asking(self, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
        return np.asarray(rows[(codes[self.cells.tokens[rows]] != MISSING).any(axis=1)])

    def _cost(self, rows: np.ndarray, codes: np.ndarray) -> tuple[Any, int]:
        torch = import_extra("torch")
        logits, asked = _asked_logits(self.network, self.cells, rows, codes=codes)
        targets = torch.as_tensor(codes[asked], device=logits.device)
        weights = torch.as_tensor(self.class_weights, device=logits.device)
        return torch.nn.functional.cross_entropy(logits, targets, weight=weights, reduction="sum"), len(asked)


@dataclass(frozen=True, kw_only=True)
class GeneAnswers:
    """Class probabilities of genes: the mean over the cells that have the gene; NaN where none has it."""

    genes: tuple[str, ...]
    classes: tuple[str, ...]
    probability: Float[np.ndarray, "genes classes"]
    n_cells: Integer[np.ndarray, " genes"]
    """Cells that have the gene."""


@dataclass(frozen=True, kw_only=True)
class FittedGeneClasses:
    """A fine-tuned trunk with its head, and the genes that it was shown."""

    network: Any
    dictionaries: Dictionaries
    classes: tuple[str, ...]
    genes: tuple[str, ...]
    """Genes whose label was read, those that chose when to stop among them."""
    notes: tuple[str, ...]
    progress: Progress | None = None
    """How the training went; None for what was read from a folder."""

    def predict(self, cells: TokenizedCells, genes: Sequence[str]) -> GeneAnswers:
        """Return the class probabilities of genes, from the cells that have them.

        Raises
        ------
        UsageError
            If a gene has no token, or its label was read in training.
        """
        torch = import_extra("torch")
        shown = sorted(set(genes) & set(self.genes))
        if shown:
            msg = (
                f"{len(shown)} of {len(genes)} genes were shown with their label in training: {', '.join(shown[:5])}. "
                "An answer would be memory. Ask about genes of the test side."
            )
            raise UsageError(msg)
        tokens = tokens_of(genes, dictionaries=self.dictionaries)
        codes = np.full(len(self.dictionaries.tokens), MISSING, dtype=np.int64)
        codes[tokens] = np.arange(len(tokens))
        sums, counts = np.zeros((len(tokens), len(self.classes))), np.zeros(len(tokens), dtype=np.int64)
        rows = np.flatnonzero((codes[cells.tokens] != MISSING).any(axis=1))
        for chosen in by_length(cells.lengths[rows], tokens_per_minibatch=_TOKENS_PER_MINIBATCH):
            with torch.inference_mode():
                logits, asked = _asked_logits(self.network, cells, rows[chosen], codes=codes)
                probability = torch.softmax(logits.double(), dim=1).cpu().numpy()
            np.add.at(sums, codes[asked], probability)
            np.add.at(counts, codes[asked], 1)
        with np.errstate(invalid="ignore"):
            means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], np.nan)
        return GeneAnswers(genes=tuple(genes), classes=self.classes, probability=means, n_cells=counts)


def labelled_genes(labels: Mapping[str, str], *, dictionaries: Dictionaries) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the labels of genes that have a token, by the gene that stands for them, and the names that have none.

    Raises
    ------
    UsageError
        If a label is empty, or two names of one gene have different labels.
    """
    found: dict[str, str] = {}
    lost = []
    for name, label in labels.items():
        standing = _standing(name, dictionaries)
        if not label:
            msg = f"{name} has an empty label. Leave the gene out: a gene without a label is in no class."
            raise UsageError(msg)
        if standing not in dictionaries.tokens or standing in dictionaries.specials:
            lost.append(name)
        elif found.setdefault(standing, label) != label:
            msg = f"{standing} is labelled {found[standing]!r} and, as {name}, {label!r}: a gene has one label. Correct the table."
            raise UsageError(msg)
    return found, tuple(lost)


def gene_groups(groups: Mapping[str, str], *, dictionaries: Dictionaries) -> dict[str, str]:
    """Return the group of each gene by the gene that stands for it, so that a retired id stays with its family.

    Raises
    ------
    UsageError
        If two names of one gene have different groups.
    """
    found: dict[str, str] = {}
    for name, group in groups.items():
        standing = _standing(name, dictionaries)
        if group and found.setdefault(standing, group) != group:
            msg = f"{standing} is in group {found[standing]!r} and, as {name}, in {group!r}: a gene has one. Correct the table."
            raise UsageError(msg)
    return found


def _standing(name: str, dictionaries: Dictionaries) -> str:
    """Return the gene that stands for a name, empty where the dictionaries have none."""
    gene = name.upper().split(".", 1)[0]
    return gene if dictionaries.collapse is None else dictionaries.collapse.get(gene, "")


def fit_gene_classes(
    learning: GeneformerLearning,
    checkpoint: GeneformerCheckpoint,
    cells: TokenizedCells,
    *,
    persons: np.ndarray,
    labels: Mapping[str, str],
    seed: int,
) -> FittedGeneClasses:
    """Fine-tune a trunk to the classes of some genes.

    Parameters
    ----------
    cells
        Tokens of cells, by the dictionary of the checkpoint.
    persons
        Person of each cell.
    labels
        Class of each gene, as `labelled_genes` gives them; no gene that will be asked about.

    Raises
    ------
    RefusedError
        If there are fewer than two classes, or no cell has a gene of one of them, or cells are too few.
    """
    classes = tuple(sorted(set(labels.values())))
    counted = np.bincount(cells.tokens.ravel(), minlength=len(checkpoint.dictionaries.tokens))
    seen = {labels[gene] for gene, token in _tokens(labels, checkpoint).items() if counted[token]}
    if len(classes) < 2 or seen != set(classes):
        never = sorted(set(classes) - seen)
        msg = (
            f"Genes of {len(classes)} class(es) are labelled ({', '.join(classes) or 'none'}), and "
            f"{len(never)} of them have no gene that a cell has ({', '.join(never) or 'none'}). Two classes that occur are "
            "needed to tell genes apart: label more genes, or take other cells."
        )
        raise RefusedError(msg)
    refuse_too_few_cells(int((cells.lengths > 0).sum()), least=_LEAST_CELLS, model="Geneformer")
    fit, held, note = hold_out_persons(
        persons, fraction=learning.held_out_fraction, seed=derive_seed(seed, "models", "geneformer")
    )
    fit_genes, held_genes = _held_out_genes(labels, fraction=learning.held_out_fraction, seed=seed)
    fit_codes = _codes(fit_genes, classes, checkpoint)
    present = fit_codes[cells.tokens[fit]]
    present = present[present != MISSING]
    network = _head(learning, checkpoint, n_classes=len(classes), seed=seed)
    objective = GeneClassTraining(
        network=network, cells=cells, fit_codes=fit_codes, held_out_codes=_codes(held_genes, classes, checkpoint),
        fit_rows=fit, held_out_rows=held if len(held) else fit, size=learning.minibatch, seed=seed,
        class_weights=balanced_weights(present, len(classes)) if learning.balanced else np.ones(len(classes), dtype=np.float32),
    )  # fmt: skip
    progress, told = run_training(learning, objective, seed=seed)
    stopped = f"{len(held_genes)} of {len(labels)} training genes chose when to stop"
    return FittedGeneClasses(
        network=network, dictionaries=checkpoint.dictionaries, classes=classes, genes=tuple(sorted(labels)),
        notes=(*checkpoint.notes, note, stopped, told), progress=progress,
    )  # fmt: skip


def _held_out_genes(labels: Mapping[str, str], *, fraction: float, seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Divide genes into those that move weights and those that choose when to stop; both have every class, or none is held."""
    held: set[str] = set()
    rng = rng_for(seed, "models", "geneformer", "held_out_genes")
    for label in sorted(set(labels.values())):
        members = np.array(sorted(gene for gene, one in labels.items() if one == label), dtype=object)
        n_held = round(fraction * len(members))
        held |= set(members[rng.permutation(len(members))[: min(n_held, len(members) - 1)]].tolist())
    return {g: c for g, c in labels.items() if g not in held}, {g: c for g, c in labels.items() if g in held}


def _tokens(labels: Mapping[str, str], checkpoint: GeneformerCheckpoint) -> dict[str, int]:
    return {gene: checkpoint.dictionaries.tokens[gene] for gene in labels}


def _codes(labels: Mapping[str, str], classes: Sequence[str], checkpoint: GeneformerCheckpoint) -> np.ndarray:
    codes = np.full(len(checkpoint.dictionaries.tokens), MISSING, dtype=np.int64)
    for gene, token in _tokens(labels, checkpoint).items():
        codes[token] = classes.index(labels[gene])
    return codes


def _head(learning: GeneformerLearning, checkpoint: GeneformerCheckpoint, *, n_classes: int, seed: int) -> object:
    import_extra("torch")
    from cytolabe.models.geneformer.heads import GeneHead, freeze, make_heads  # noqa: PLC0415 - needs torch

    network = make_heads(GeneHead, starting_network(learning, checkpoint, seed=seed), seed=seed, n_classes=n_classes)
    freeze(network, n_layers=learning.frozen_layers, has_embeddings=learning.frozen_embeddings)
    return network


def _asked_logits(
    network: Any,  # noqa: ANN401 - a module of torch
    cells: TokenizedCells,
    rows: np.ndarray,
    *,
    codes: Integer[np.ndarray, " tokens"],
) -> tuple[Any, Integer[np.ndarray, " asked"]]:
    """Return the logits of every position whose token has a code, and that token."""
    torch = import_extra("torch")
    device = network.bert.embeddings.word_embeddings.weight.device
    lengths = cells.lengths[rows]
    tokens = cells.tokens[rows, : int(lengths.max(initial=1))].astype(np.int64)
    stands = np.arange(tokens.shape[1])[None] < lengths[:, None]
    asked = stands & (codes[tokens] != MISSING)
    logits = network(*(torch.as_tensor(one, device=device) for one in (tokens, stands, asked)))
    return logits, tokens[asked]

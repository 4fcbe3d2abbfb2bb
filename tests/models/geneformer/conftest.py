"""A Geneformer of a few hundred tokens and two layers, in memory and on disk."""

import importlib.util

import numpy as np
import pytest

from cytolabe.models.geneformer.checkpoint import CheckpointCard, save_pretrained
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import GeneformerShape

N_GENES = 300


def gene(number):
    return f"ENSG{number:011d}"


@pytest.fixture(scope="session")
def needs_torch():
    if not all(importlib.util.find_spec(module) for module in ("torch", "transformers", "safetensors")):
        pytest.skip("the extra [models] is not installed")


@pytest.fixture(scope="session")
def make_dictionaries():
    def make(*, second=True, n_genes=N_GENES, seed=0, swapped=False):
        specials = ["<pad>", "<mask>"] + (["<cls>", "<eos>"] if second else [])
        names = [*specials, *(gene(number) for number in range(n_genes))]
        if swapped:
            names[-1], names[-2] = names[-2], names[-1]
        medians = np.random.default_rng(seed).choice([0.5, 1.0, 2.5], n_genes)
        return Dictionaries(
            tokens={name: number for number, name in enumerate(names)},
            medians={gene(number): float(median) for number, median in enumerate(medians)},
            digests={},
        )

    return make


@pytest.fixture(scope="session")
def make_shape():
    def make(**changes):
        sizes = {
            "n_tokens": N_GENES + 4,
            "n_layers": 2,
            "width": 32,
            "n_heads": 2,
            "feed_forward": 64,
            "n_positions": 48,
        }
        return GeneformerShape(**{**sizes, **changes})

    return make


@pytest.fixture
def folder(needs_torch, make_dictionaries, make_shape, tmp_path):
    """Return the folder of a checkpoint with a card."""
    shape = make_shape()
    about = CheckpointCard(weights="", dictionaries={}, pretraining=("genecorpus-104m",))
    network = blank_network(shape, seed=1)
    save_pretrained(tmp_path / "model", network, shape=shape, dictionaries=make_dictionaries(), about=about)
    return tmp_path / "model"

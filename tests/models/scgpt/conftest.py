"""Answers of the published scGPT code on weights drawn by a rule, and the same weights and cells for ours.

`golden.npz` was made by running scgpt/model/{model,multiomic_model,dsbn}.py and scgpt/loss.py of the wheel scgpt 0.2.4
(torch 2.13, CPU, no dropout) and, for generative passes, scgpt/model/flash_layers.py of the branch
integrate-huggingface-model (4068d67), both outside this repository, with FlashAttention replaced by the softmax that it
computes. Every weight is drawn from a generator that is seeded by its name (`drawn`), cells by `tokens`. Keys are
`<case>/<answer>`; `MVC` of the two query styles comes from the decoder alone, because the published forward pass cannot
read what these return.
"""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")

N_GENES, DIMS, N_CELLS, N_TOKENS = 23, 16, 5, 9
SHAPE = {
    "n_tokens": N_GENES, "pad_token": 0, "d_model": DIMS, "n_heads": 4, "d_hidden": 24, "n_layers": 2, "dropout": 0.0,
    "n_classes": 4, "mvc_style": "inner product",
}  # fmt: skip

with np.load(Path(__file__).with_name("golden.npz"), allow_pickle=False) as _stored:
    _GOLDEN = {name: _stored[name] for name in _stored.files}


def golden(case):
    """Return the answers of a case."""
    return {name.partition("/")[2]: values for name, values in _GOLDEN.items() if name.startswith(f"{case}/")}


def drawn(name, shape):
    """Return the weight that the rule gives to a name."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
    values = rng.normal(0, 0.4, shape)
    values = np.abs(values) + 0.5 if name.endswith("running_var") else values
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def weights_of(network):
    """Return the weights of the rule under the names of a network."""
    return {
        name: weight if name.endswith("num_batches_tracked") else drawn(name, tuple(weight.shape))
        for name, weight in network.state_dict().items()
    }


def arrays(*, padded=True, category=False):
    """Return genes, values and padding of five cells."""
    rng = np.random.default_rng(11)
    genes = torch.from_numpy(rng.integers(2, N_GENES, (N_CELLS, N_TOKENS)))
    genes[:, 0] = 1
    values = torch.from_numpy(rng.integers(0, 51, (N_CELLS, N_TOKENS)).astype(np.float32))
    values[0, 3] = 900.0  # above the largest value that is read
    padding = torch.zeros(N_CELLS, N_TOKENS, dtype=torch.bool)
    for cell, n_padded in enumerate((0, 2, 3, 0, 5) if padded else ()):
        padding[cell, N_TOKENS - n_padded :] = True
    genes[padding] = 0
    if category:
        return genes, values.clamp(max=50).masked_fill(padding, 51.0), padding
    values[:, 0] = -2.0
    return genes, values.masked_fill(padding, -2.0), padding


@pytest.fixture
def original():
    """Everything above, by name."""
    return SimpleNamespace(
        shape=SHAPE, golden=golden, drawn=drawn, weights_of=weights_of, arrays=arrays, dims=DIMS, n_genes=N_GENES
    )

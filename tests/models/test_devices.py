"""Networks are placed by one rule, and what they read goes with them; there is no GPU where this runs."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")

from cytolabe.models import devices  # noqa: E402
from cytolabe.models.devices import fastest_device, placed  # noqa: E402
from cytolabe.models.geneformer import heads  # noqa: E402
from cytolabe.models.scgpt import checkpoint, tasks  # noqa: E402
from cytolabe.models.scgpt.checkpoint import Origin, Scgpt, fresh_network, load_scgpt, save_scgpt  # noqa: E402
from cytolabe.models.scgpt.configuration import ScgptConfig  # noqa: E402
from cytolabe.models.scgpt.tokens import TokenizedCells  # noqa: E402
from cytolabe.models.scgpt.vocabulary import ScgptVocabulary  # noqa: E402
from cytolabe.models.weights import LoadedKeys  # noqa: E402

pytestmark = pytest.mark.models

N_GENES = 12
NAMES = ("<pad>", "<cls>", "<eoc>", *(f"GENE{number}" for number in range(N_GENES)))
SIZE = {
    "n_tokens": len(NAMES),
    "pad_token": 0,
    "d_model": 8,
    "n_heads": 2,
    "d_hidden": 8,
    "n_layers": 1,
    "dropout": 0.0,
}


class Moved:
    """Says where it was asked to go."""

    def to(self, device):
        return device


@pytest.mark.parametrize(("is_there", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_network_goes_to_the_gpu_that_torch_finds(monkeypatch, is_there, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    assert (fastest_device(), placed(Moved())) == (device, device)


def test_both_families_are_placed_by_the_same_rule():
    assert heads.placed is checkpoint.placed is placed


def test_what_is_read_from_a_file_is_placed_as_what_is_fresh(monkeypatch, tmp_path):
    network = fresh_network(ScgptConfig(**SIZE), seed=0)
    vocabulary = ScgptVocabulary(tokens={name: number for number, name in enumerate(NAMES)}, digest="sha256:0")
    keys = LoadedKeys(loaded=(), missing=(), ignored=())
    save_scgpt(Scgpt(network=network, vocabulary=vocabulary, weights_digest="", keys=keys, origin=Origin()), tmp_path)
    asked = []
    monkeypatch.setattr(checkpoint, "placed", lambda network: asked.append(network) or network)
    assert load_scgpt(tmp_path).network is asked[0]


@pytest.mark.parametrize(
    ("kind", "fields", "more"),
    [
        ("ClassTask", {"n_classes": 3}, {"classes": np.arange(6) % 3, "class_weights": np.ones(3, dtype=np.float32)}),
        ("GenerativeTask", {"generation": "projected", "mvc_style": "inner product"}, {}),
        (
            "MaskedTask",
            {
                "mvc_style": "inner product",
                "n_batches": 2,
                "batch_input": True,
                "adversary": True,
                "explicit_zero": True,
            },
            {"groups": np.zeros(6, dtype=np.int64)},
        ),
    ],
)
def test_no_tensor_of_a_loss_stays_behind_on_another_device(monkeypatch, kind, fields, more):
    # Torch refuses to compute with tensors of two devices, on `meta` as on a GPU.
    monkeypatch.setattr(devices, "fastest_device", lambda: "meta")
    network = fresh_network(ScgptConfig(**SIZE, **fields), seed=0)
    n_tokens = N_GENES + 1
    cells = TokenizedCells(
        genes=np.tile([1, *range(3, 3 + N_GENES)], 6), values=np.tile(np.arange(n_tokens, dtype=np.float32), 6),
        bounds=np.arange(7) * n_tokens, pad_token=0, pad_value=-2, keys=np.arange(6, dtype=np.uint64),
    )  # fmt: skip
    task = getattr(tasks, kind)(
        network=network.train(), cells=cells, fit_rows=np.arange(6), held_rows=np.arange(0), seed=0, **more
    )
    loss, n_terms = task.loss(np.arange(6), epoch=1)
    assert (loss.device.type, n_terms > 0) == ("meta", True)

"""Published weights of scGPT, a pickle of torch, become what the model opens."""

import json

import numpy as np
import pytest

from cytolabe.errors import UsageError
from cytolabe.flow.convert import convert_file
from cytolabe.models.extras import import_extra, is_installed
from cytolabe.models.scgpt.checkpoint import fresh_network, load_scgpt
from cytolabe.models.scgpt.configuration import ScgptConfig

pytestmark = [pytest.mark.models, pytest.mark.skipif(not is_installed("torch"), reason="the extra is not installed")]


def test_a_published_folder_is_opened_after_its_weights_were_converted_under_the_name_that_the_error_says(tmp_path):
    torch = import_extra("torch")
    sizes = {"d_model": 16, "n_heads": 4, "d_hidden": 24, "n_layers": 2, "n_classes": 1, "mvc_style": "inner product"}
    network = fresh_network(ScgptConfig(n_tokens=13, pad_token=10, **sizes), seed=3)
    named = {name.replace("in_proj_", "Wqkv."): weight for name, weight in network.state_dict().items()}
    torch.save(named, tmp_path / "best_model.pt")
    (tmp_path / "args.json").write_text(json.dumps({"embsize": 16, "nheads": 4, "d_hid": 24, "nlayers": 2}))
    (tmp_path / "vocab.json").write_text(json.dumps({f"GENE{number}": number for number in range(10)}))
    with pytest.raises(UsageError, match=r"cytolabe convert .*best_model\.pt -o .*model\.safetensors"):
        load_scgpt(tmp_path)
    converted = convert_file(tmp_path / "best_model.pt", tmp_path / "model.safetensors")
    opened = load_scgpt(
        tmp_path, expected={"weights": "sha256:" + str(converted["result_sha256"]).removeprefix("sha256:")}
    )
    assert opened.keys.loaded == tuple(sorted(network.state_dict()))
    for name, weight in network.state_dict().items():
        np.testing.assert_array_equal(opened.network.state_dict()[name].numpy(), weight.numpy())

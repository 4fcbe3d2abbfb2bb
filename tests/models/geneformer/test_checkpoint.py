"""Published shapes, states by layer, and folders in which every part is what the card says, or opening stops."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.checkpoint import from_pretrained
from cytolabe.models.geneformer.network import blank_network, hidden_states
from cytolabe.models.geneformer.shapes import SHAPES, shape_named, shape_of_config
from cytolabe.provenance import canonical_json

pytestmark = [pytest.mark.models, pytest.mark.usefixtures("needs_torch")]

MILLIONS = {"V1-10M": 10.289, "V2-38M": 37.997, "V2-151M": 151.31, "V2-104M": 104.387, "V2-316M": 316.355}


def digest(path):
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def without_card(folder):
    (folder / "card.json").unlink()
    return folder


def changed_weights(folder, change, *, card=False):
    """Change the tensors of a folder, and leave its card out unless it is to be that of the old ones."""
    torch_file = import_extra("safetensors.torch")
    weights = torch_file.load((folder / "model.safetensors").read_bytes())
    change(weights)
    (folder / "model.safetensors").write_bytes(torch_file.save(weights))
    return folder if card else without_card(folder)


@pytest.mark.parametrize(("name", "millions"), MILLIONS.items())
def test_published_shapes_have_the_published_numbers_of_parameters(name, millions):
    network = blank_network(shape_named(name), seed=0, device="meta")
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, abs=6e-3)


def test_a_shape_survives_its_config_and_other_networks_are_refused():
    for shape in SHAPES.values():
        assert shape_of_config(shape.config, where="config.json") == shape
    with pytest.raises(UnreadableInputError, match="hidden_act = 'gelu'"):
        shape_of_config({**SHAPES["tiny"].config, "hidden_act": "gelu"}, where="config.json")
    with pytest.raises(UsageError, match="V1-10M"):
        shape_named("V3")


def test_a_shape_keeps_the_dropout_of_attention_that_its_config_says():
    config = {**SHAPES["V2-104M"].config, "attention_probs_dropout_prob": 0.3}
    shape = shape_of_config(config, where="config.json")
    assert (shape.dropout, shape.attention_dropout, shape.config) == (0.1, 0.3, config)
    with pytest.raises(UsageError, match="shape"):
        dataclasses.replace(shape, attention_dropout=1.0)


def test_networks_for_processors_drop_no_attention_and_those_of_published_size_do():
    found = {name: shape.config["attention_probs_dropout_prob"] for name, shape in SHAPES.items()}
    assert {name for name, share in found.items() if share == 0} == {"tiny", "small"}


def test_equal_seeds_give_equal_weights_and_the_global_generator_is_left_alone(make_shape):
    torch = import_extra("torch")
    before = torch.random.get_rng_state()
    first, second, other = (blank_network(make_shape(), seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(
        first["bert.embeddings.word_embeddings.weight"], other["bert.embeddings.word_embeddings.weight"]
    )


@pytest.mark.parametrize("n_layers", [0, 1, 2])
@pytest.mark.parametrize("filled_up", [False, True])
def test_states_of_a_layer_are_those_that_transformers_gives(make_shape, n_layers, filled_up):
    torch = import_extra("torch")
    network = blank_network(make_shape(), seed=1)
    tokens = torch.from_numpy(np.random.default_rng(0).integers(2, 300, (3, 20)))
    mask = torch.ones_like(tokens)
    if filled_up:
        mask[1, 12:] = 0
    with torch.inference_mode():
        ours = hidden_states(network, tokens, mask, n_layers=n_layers)
        theirs = network.bert(tokens, attention_mask=mask, output_hidden_states=True).hidden_states[n_layers]
    assert torch.allclose(ours[mask.bool()], theirs[mask.bool()], atol=1e-6)


def test_attention_by_sdpa_is_attention_written_out(make_shape):
    torch = import_extra("torch")
    network = blank_network(make_shape(), seed=1)
    assert network.config._attn_implementation == "sdpa"
    tokens, mask = torch.randint(2, 300, (4, 20)), torch.ones(4, 20, dtype=torch.int64)
    mask[2, 9:] = 0
    with torch.inference_mode():
        fast = network(tokens, attention_mask=mask).logits[mask.bool()]
        network.set_attn_implementation("eager")
        assert torch.allclose(network(tokens, attention_mask=mask).logits[mask.bool()], fast, atol=1e-5)


def test_a_saved_network_is_opened_with_every_weight_and_its_card(folder, make_shape):
    torch = import_extra("torch")
    opened = from_pretrained(folder, expected=digest(folder / "model.safetensors"))
    original = blank_network(make_shape(), seed=1).state_dict()
    assert all(torch.equal(weight, original[name]) for name, weight in opened.network.state_dict().items())
    assert opened.keys.missing == ("cls.predictions.decoder.bias", "cls.predictions.decoder.weight")
    assert opened.card.pretraining == ("genecorpus-104m",)
    assert opened.card.dictionaries["tokens"] == digest(folder / "token_dictionary.json")
    assert (opened.notes, opened.network.training) == ((), False)


def test_transformers_itself_opens_what_was_saved(folder):
    transformers, torch = import_extra("transformers"), import_extra("torch")
    theirs = transformers.BertForMaskedLM.from_pretrained(folder)
    ours = from_pretrained(folder).network.state_dict()
    assert all(torch.equal(weight, ours[name]) for name, weight in theirs.state_dict().items())


def test_a_folder_without_card_is_opened_and_says_what_nobody_vouches_for(folder):
    opened = from_pretrained(without_card(folder))
    assert opened.card.pretraining == ("unknown",)
    assert "no card" in opened.notes[0]
    files = {"tokens": "token_dictionary.json", "medians": "gene_median_dictionary.json"}
    digests = {role: digest(folder / name) for role, name in files.items()}
    assert from_pretrained(folder, dictionaries={"tokens": digests["tokens"]}).notes
    assert from_pretrained(folder, dictionaries=digests).notes == ()


def test_stale_positions_and_a_pooler_are_left_over_by_rule(folder):
    torch = import_extra("torch")

    def add(weights):
        weights["bert.embeddings.position_ids"] = torch.arange(48)[None]
        weights["bert.pooler.dense.bias"] = torch.zeros(32)

    opened = from_pretrained(changed_weights(folder, add))
    assert opened.keys.ignored == ("bert.embeddings.position_ids", "bert.pooler.dense.bias")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda weights: weights.pop("bert.encoder.layer.1.output.dense.bias"),
            r"layer\.1\.output\.dense\.bias is missing",
        ),
        (
            lambda weights: weights.update({"bert.extra": weights["cls.predictions.bias"].clone()}),
            "bert.extra has no place",
        ),
        (
            lambda weights: weights.update({"cls.predictions.bias": weights["cls.predictions.bias"][:-1].clone()}),
            r"cls\.predictions\.bias is \(303,\), the network has \(304,\)",
        ),
        (
            lambda weights: weights["cls.predictions.bias"].fill_(float("nan")),
            r"cls\.predictions\.bias holds 304 values that",
        ),
        (
            lambda weights: weights.update({"cls.predictions.decoder.bias": weights["cls.predictions.bias"] + 1}),
            r"decoder\.bias differs from cls\.predictions\.bias",
        ),
    ],
    ids=["missing", "unknown", "shape", "not finite", "untied"],
)
def test_a_key_that_does_not_fit_stops_the_opening_by_its_name(folder, change, told):
    with pytest.raises(IntegrityError, match=told):
        from_pretrained(changed_weights(folder, change))


def test_a_vocabulary_off_by_one_is_refused(folder):
    path = without_card(folder) / "token_dictionary.json"
    tokens = json.loads(path.read_bytes())
    path.write_bytes(canonical_json({**tokens, "ENSG00000999999": len(tokens)}))
    medians = folder / "gene_median_dictionary.json"
    medians.write_bytes(canonical_json({**json.loads(medians.read_bytes()), "ENSG00000999999": 1.0}))
    with pytest.raises(UnreadableInputError, match="305 tokens, the network 304"):
        from_pretrained(folder)


def test_a_dictionary_of_another_generation_with_as_many_tokens_is_refused_by_its_digest(folder, make_dictionaries):
    other = make_dictionaries(swapped=True)
    (folder / "token_dictionary.json").write_bytes(canonical_json(dict(other.tokens)))
    with pytest.raises(IntegrityError, match="another checkpoint"):
        from_pretrained(folder)
    # Nothing but the digest tells: without the card it fits every weight.
    assert from_pretrained(without_card(folder)).notes


def test_other_weights_than_those_of_the_card_or_of_the_caller_are_refused(folder):
    with pytest.raises(IntegrityError, match="expected was sha256:00"):
        from_pretrained(folder, expected="sha256:00")
    changed = changed_weights(folder, lambda weights: weights["cls.predictions.bias"].add_(1), card=True)
    with pytest.raises(IntegrityError, match="other weights, or damaged"):
        from_pretrained(changed)
    with pytest.raises(IntegrityError, match="its card says"):
        from_pretrained(changed, expected=digest(folder / "model.safetensors"))


def test_a_collapse_table_that_is_not_on_the_card_is_refused(folder):
    (folder / "ensembl_mapping_dict.json").write_text('{"ENSG00000000001": "ENSG00000000002"}')
    with pytest.raises(UnreadableInputError, match="not on the card"):
        from_pretrained(folder)


def test_half_a_file_old_pickles_and_empty_folders_are_told_apart(folder, tmp_path):
    path = without_card(folder) / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(IntegrityError, match="cut off"):
        from_pretrained(folder)
    path.write_bytes(b"PK\x03\x04" + whole)
    with pytest.raises(UnreadableInputError, match="cytolabe convert"):
        from_pretrained(folder)
    path.write_bytes(b"not a model")
    with pytest.raises(UnreadableInputError, match="no safetensors file"):
        from_pretrained(folder)
    path.rename(folder / "pytorch_model.bin")
    with pytest.raises(UnreadableInputError, match="cytolabe convert"):
        from_pretrained(folder)
    with pytest.raises(UnreadableInputError, match="no Geneformer"):
        from_pretrained(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        from_pretrained(tmp_path / "nowhere")

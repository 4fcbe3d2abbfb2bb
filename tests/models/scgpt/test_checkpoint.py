"""Checkpoints: every weight is accounted for, and what does not fit is named."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")
safetensors_torch = pytest.importorskip("safetensors.torch")

from cytolabe.errors import IntegrityError, UnreadableInputError, UsageError  # noqa: E402
from cytolabe.models.scgpt.checkpoint import Origin, fresh_network, load_scgpt, save_scgpt  # noqa: E402
from cytolabe.models.scgpt.configuration import ScgptConfig  # noqa: E402
from cytolabe.models.scgpt.keys import native_names  # noqa: E402
from cytolabe.models.scgpt.network import CellTokens  # noqa: E402
from cytolabe.models.scgpt.vocabulary import read_scgpt_vocabulary  # noqa: E402
from cytolabe.records import UNKNOWN, FitScope, Protocol  # noqa: E402

pytestmark = pytest.mark.models

REAL = Path(__file__).parents[4] / "shared" / "data" / "models"
ARGUMENTS = {
    "embsize": 16, "nheads": 4, "d_hid": 24, "nlayers": 2, "n_layers_cls": 3, "dropout": 0.2, "n_bins": 51,
    "max_seq_len": 1200, "mask_value": -1, "pad_value": -2, "pad_token": "<pad>", "input_emb_style": "continuous",
    "USE_GENERATIVE_TRAINING": True, "lr": 0.0001,
}  # fmt: skip
GENES = {f"GENE{number}": number for number in range(20)}
SPELLINGS = ("Wqkv.", "_impl.Wqkv.", "in_proj_")


def spelled(name, how):
    name = name.replace("self_attn.in_proj_", f"self_attn.{how}")
    return name.replace("self_attn.out_proj.", "self_attn._impl.out_proj.") if how.startswith("_impl") else name


@pytest.fixture
def published(original):
    """Weights of a network as it was pretrained: with MVC, one class, and the flag of generated genes."""
    config = ScgptConfig(**{**original.shape, "n_classes": 1, "generation": "original", "pad_token": 20})
    return original.weights_of(fresh_network(config, seed=0))


def write(folder, weights, *, genes=GENES, arguments=ARGUMENTS):
    (folder / "args.json").write_text(json.dumps(arguments))
    (folder / "vocab.json").write_text(json.dumps(genes))
    (folder / "model.safetensors").write_bytes(safetensors_torch.save({k: v.contiguous() for k, v in weights.items()}))
    return folder


def cells(original):
    genes, values, padding = original.arrays()
    return CellTokens(genes=genes, values=values, padding=padding)


@pytest.mark.parametrize("how", SPELLINGS)
def test_all_three_spellings_give_the_same_network_and_every_weight_is_loaded(how, tmp_path, published, original):
    named = {spelled(name, how): weight for name, weight in published.items()}
    model = load_scgpt(write(tmp_path, named))
    assert model.keys.loaded == tuple(sorted(published))
    assert not model.keys.ignored
    assert not model.keys.missing
    found = model.network.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in published.items())
    assert (model.config.generation, model.config.mvc_style, model.config.n_classes) == ("original", "inner product", 1)
    assert model.network(cells(original)).gep.values.isfinite().all()
    assert not model.network.training


@settings(deadline=None, max_examples=30)
@given(how=st.lists(st.sampled_from(SPELLINGS), min_size=4, max_size=4))
def test_spellings_are_led_to_one_name_without_loss_layer_by_layer(how):
    names = [f"transformer_encoder.layers.{n}.self_attn.in_proj_{kind}" for n in (0, 1) for kind in ("weight", "bias")]
    given_names = [spelled(name, one) for name, one in zip(names, how, strict=True)]
    assert native_names(dict(zip(given_names, range(4), strict=True))) == dict(zip(names, range(4), strict=True))


def test_one_weight_under_two_spellings_is_refused(tmp_path, published):
    name = "transformer_encoder.layers.1.self_attn.in_proj_weight"
    with pytest.raises(IntegrityError, match="two spellings"):
        load_scgpt(write(tmp_path, {**published, spelled(name, "Wqkv."): published[name].clone()}))


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("transformer_encoder.layers.0.linear1.weight", None),
        ("value_encoder.norm.bias", None),
        ("transformer_encoder.layers.2.norm1.weight", torch.ones(16)),
        ("surprise.weight", torch.ones(3)),
        ("transformer_encoder.layers.1.norm2.bias", torch.ones(17)),
        ("decoder.fc.0.weight", torch.ones(16, 15)),
    ],
)
def test_a_weight_too_few_too_many_or_reshaped_is_named(name, weight, tmp_path, published):
    changed = {key: old for key, old in published.items() if key != name}
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        load_scgpt(write(tmp_path, changed if weight is None else {**changed, name: weight}))


def test_vocabulary_off_by_one_is_refused_with_both_numbers(tmp_path, published):
    with pytest.raises(IntegrityError, match=r"22 tokens.*23 rows"):
        load_scgpt(write(tmp_path, published, genes={name: n for name, n in GENES.items() if n < 19}))


@pytest.mark.parametrize("genes", [{"A": 0, "B": 2}, {"A": 0, "B": 0}, {"A": 1, "B": 2}])
def test_vocabulary_with_a_hole_or_a_token_twice_is_refused(genes):
    with pytest.raises(UnreadableInputError, match="each once"):
        read_scgpt_vocabulary(json.dumps({**genes, "<pad>": 3, "<cls>": 4, "<eoc>": 5}).encode(), where="vocab.json")


@pytest.mark.parametrize("token", [True, "3", 1.5, None])
def test_token_that_is_no_whole_number_is_refused(token):
    with pytest.raises(UnreadableInputError, match="no number of a row"):
        read_scgpt_vocabulary(json.dumps({"A": token}).encode(), where="vocab.json")


def test_old_batch_norm_is_ignored_by_name_and_loaded_on_request(tmp_path, published, original):
    norm = {
        f"bn.{part}": original.drawn(f"bn.{part}", (16,)) for part in ("weight", "bias", "running_mean", "running_var")
    }
    folder = write(tmp_path, {**published, **norm, "bn.num_batches_tracked": torch.tensor(3)})
    ignored = load_scgpt(folder)
    assert ignored.keys.ignored == tuple(sorted((*norm, "bn.num_batches_tracked")))
    normed = load_scgpt(folder, batch_norm="shared")
    assert not normed.keys.ignored
    assert not normed.keys.missing
    with torch.no_grad():
        one, other = (model.network.encode(cells(original)).cells for model in (ignored, normed))
    assert (one - other).abs().max() > 1e-2


def test_a_new_head_starts_fresh_and_is_named_and_depends_on_the_seed_alone(tmp_path, published):
    folder = write(tmp_path, published)
    model, again, other = (load_scgpt(folder, n_classes=7, seed=seed) for seed in (1, 1, 2))
    assert model.keys.missing == ("cls_decoder.out_layer.bias", "cls_decoder.out_layer.weight")
    assert model.keys.ignored == model.keys.missing
    head = [found.network.cls_decoder.out_layer.weight for found in (model, again, other)]
    assert head[0].shape == (7, 16)
    assert torch.equal(head[0], head[1])
    assert not torch.equal(head[0], head[2])
    assert torch.equal(model.network.encoder.embedding.weight, published["encoder.embedding.weight"])


def test_making_a_network_moves_no_generator_of_others(original):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    fresh_network(ScgptConfig(**original.shape), seed=9)
    assert torch.equal(torch.rand(4), expected)


def test_a_digest_that_differs_is_refused_and_one_that_fits_is_kept(tmp_path, published):
    folder = write(tmp_path, published)
    digest = "sha256:" + hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    words = "sha256:" + hashlib.sha256((folder / "vocab.json").read_bytes()).hexdigest()
    model = load_scgpt(folder, expected={"weights": digest, "vocabulary": words})
    assert (model.weights_digest, model.vocabulary.digest) == (digest, words)
    for role in ("weights", "vocabulary"):
        with pytest.raises(IntegrityError, match="expected was sha256:0"):
            load_scgpt(folder, expected={role: "sha256:0"})
    with pytest.raises(UsageError, match="no digest of 'weight'"):
        load_scgpt(folder, expected={"weight": digest})


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, published):
    published["encoder.enc_norm.bias"][3] = float("nan")
    with pytest.raises(IntegrityError, match=r"encoder\.enc_norm\.bias holds 1 values that are not finite"):
        load_scgpt(write(tmp_path, published))


def test_half_written_weights_are_refused(tmp_path, published):
    folder = write(tmp_path, published)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="cut off or damaged"):
        load_scgpt(folder)


def test_a_pickle_is_never_read_and_the_remedy_is_named(tmp_path, published):
    folder = write(tmp_path, published)
    (folder / "model.safetensors").rename(folder / "best_model.pt")
    with pytest.raises(UsageError, match=r"cytolabe convert .*best_model\.pt"):
        load_scgpt(folder)


@pytest.mark.parametrize("name", ["args.json", "vocab.json"])
def test_a_folder_without_a_part_is_no_checkpoint(name, tmp_path, published):
    folder = write(tmp_path, published)
    (folder / name).unlink()
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        load_scgpt(folder)


def test_several_files_of_weights_are_refused(tmp_path, published):
    folder = write(tmp_path, published)
    (folder / "other.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="2 files"):
        load_scgpt(folder)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"embsize": 16}, "lacks nheads, d_hid, nlayers"),
        ({**ARGUMENTS, "nheads": "four"}, "nheads is 'four'"),
        ({**ARGUMENTS, "dropout": None}, "dropout is None"),
        ({**ARGUMENTS, "cell_emb_style": "best"}, "cell_emb_style is 'best'; scGPT has cls, avg-pool, w-pool"),
        ({**ARGUMENTS, "mask_value": True}, "mask_value is True"),
        ([], "lacks"),
    ],
)
def test_arguments_that_describe_no_network_are_refused(arguments, told, tmp_path, published):
    with pytest.raises(UnreadableInputError, match=told):
        load_scgpt(write(tmp_path, published, arguments=arguments))


@pytest.mark.parametrize(
    "changes",
    [
        {"n_heads": 3}, {"dropout": 1.0}, {"attention_dropout": 1.0}, {"pad_token": 99}, {"value_style": "category"},
        {"adversary": True}, {"mvc_style": "sum query", "explicit_zero": True}, {"n_modalities": 2, "cell_style": "w-pool"},
        {"n_layers": 0},
    ],
)  # fmt: skip
def test_a_shape_that_no_network_has_is_refused(changes, original):
    with pytest.raises(UsageError):
        ScgptConfig(**{**original.shape, **changes})


def test_what_is_written_is_read_back_whole_with_its_scopes(tmp_path, published, original):
    (tmp_path / "given").mkdir()
    model = load_scgpt(write(tmp_path / "given", published), n_classes=5, adversary=True, n_batches=3)
    scopes = (FitScope(step="scgpt/weights", cells_digest="sha256:1", n_cells=3),)
    origin = Origin(protocol=Protocol.SELF_SUPERVISED, pretraining=(), scopes=scopes)
    digest = save_scgpt(dataclasses.replace(model, origin=origin), tmp_path / "kept")
    again = load_scgpt(tmp_path / "kept", expected={"weights": digest})
    assert (again.config, again.origin, again.weights_digest) == (model.config, origin, digest)
    assert model.origin == Origin(protocol=Protocol.ZERO_SHOT, pretraining=(UNKNOWN,))
    with torch.no_grad():
        one, other = (one.network(cells(original)) for one in (model, again))
    assert torch.equal(one.classes, other.classes)
    assert torch.equal(one.batches, other.batches)


@pytest.mark.parametrize("share", [None, 0.0, 0.25])
def test_dropout_of_attention_is_read_back_as_it_was_and_a_published_network_has_one_share(share, tmp_path, published):
    (tmp_path / "given").mkdir()
    model = load_scgpt(write(tmp_path / "given", published))
    assert model.config.dropped_attention == model.config.dropout == 0.2
    config = dataclasses.replace(model.config, dropout=0.5, attention_dropout=share)
    save_scgpt(dataclasses.replace(model, network=fresh_network(config, seed=0)), tmp_path / "kept")
    again = load_scgpt(tmp_path / "kept")
    assert again.config.attention_dropout == share
    expected = 0.5 if share is None else share
    assert {layer.self_attn.dropout for layer in again.network.transformer_encoder.layers} == {expected}


def test_a_model_without_a_share_of_its_own_is_written_as_before_there_was_any(tmp_path, published):
    (tmp_path / "given").mkdir()
    save_scgpt(load_scgpt(write(tmp_path / "given", published)), tmp_path / "kept")
    said = json.loads((tmp_path / "kept" / "args.json").read_text())
    assert "attention_dropout" not in next(part["config"] for part in said.values() if isinstance(part, dict))
    save_scgpt(load_scgpt(tmp_path / "kept"), tmp_path / "kept")  # again: nothing differs


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_attention_is_dropped_by_its_own_share_alone(share, original):
    config = ScgptConfig(**{**original.shape, "dropout": 0.0, "attention_dropout": share})
    network = fresh_network(config, seed=0).train()
    first, second = (network.encode(cells(original)).cells for _ in range(2))
    assert torch.equal(first, second) == (share == 0.0)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real vocabularies (../shared/data/models) are not here")
def test_the_published_gene_list_becomes_the_vocabulary_of_published_weights():
    content = (REAL / "scgpt_default_census_vocab.json").read_bytes()
    vocabulary = read_scgpt_vocabulary(content, where="vocab.json")
    assert len(vocabulary) == 60_697
    assert [vocabulary.tokens[name] for name in ("<pad>", "<cls>", "<eoc>")] == [60_694, 60_695, 60_696]
    assert len(vocabulary.genes) == 60_694
    assert np.array_equal(vocabulary.columns(vocabulary.genes[:50]), np.arange(50))

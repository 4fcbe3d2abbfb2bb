"""All that needs scvi-tools is in this module, so that its import is paid once."""

import dataclasses
import hashlib
import importlib.util
import json
import logging

import numpy as np
import pandas as pd
import pytest

from cytolabe.errors import (
    IntegrityError,
    LeakageError,
    ModelFailedError,
    RefusedError,
    UnmeasuredGeneError,
    UnreadableInputError,
    UsageError,
)
from cytolabe.models import scvi_training
from cytolabe.models.baselines.probes import fit_probe
from cytolabe.models.extras import import_extra
from cytolabe.models.posterior import POSTERIOR_NAME, load_posterior
from cytolabe.models.precomputed import read_precomputed
from cytolabe.models.protocols import DescribedEmbedder, Embedder, FittedEmbedder, QueryMapper
from cytolabe.models.scvi import ScviEmbedder, cells_table
from cytolabe.models.scvi_files import SCVI_KIND, load_scvi, save_scvi
from cytolabe.models.scvi_training import divide_cells, minibatch_size
from cytolabe.models.stored import MODEL_CARD_NAME, WEIGHTS_NAME
from cytolabe.provenance import cells_digest
from cytolabe.records import Protocol

pytestmark = [pytest.mark.models]

TINY = ScviEmbedder(max_epochs=3, query_epochs=2, n_hidden=16, n_latent=4)


@pytest.fixture(autouse=True, scope="module")
def _scvi_tools():
    if not all(importlib.util.find_spec(module) for module in ("scvi", "torch", "safetensors")):
        pytest.skip("the extra [models] is not installed")
    import_extra("scvi")


@pytest.fixture
def fitted(make_train, make_query):
    return TINY.fit(make_train(), query=make_query(batches=("new1", "new2")), seed=5)


def test_same_seed_gives_the_same_bits(fitted, make_train, make_query):
    query = make_query(batches=("new1", "new2"))
    again = TINY.fit(make_train(), query=query, seed=5)
    assert fitted.embed(query).tobytes() == again.embed(query).tobytes()
    assert fitted.notes == again.notes


def test_another_seed_gives_another_embedding(fitted, make_train):
    other = TINY.fit(make_train(), query=None, seed=6)
    assert not np.allclose(fitted.embed(make_train()), other.embed(make_train()))


def test_types_are_apart_after_a_short_training(make_train, make_query, query_truth):
    train, query = make_train(), make_query()
    fitted = ScviEmbedder(max_epochs=40, n_latent=5).fit(train, query=query, seed=0)
    output = fit_probe("knn", fitted.embed(train), train.labels, seed=0).predict_probability(fitted.embed(query))
    predicted = np.array(output.classes, dtype=object)[output.probability.argmax(axis=1)]
    assert (predicted == query_truth(60)).mean() > 0.8


def test_labels_do_not_move_the_embedding(make_train):
    train = make_train()
    unlabelled = dataclasses.replace(train, labels=np.full(150, "", dtype=object))
    first = TINY.fit(train, query=None, seed=0).embed(train)
    second = TINY.fit(unlabelled, query=None, seed=0).embed(train)
    assert first.tobytes() == second.tobytes()


def test_mapping_the_query_leaves_training_cells_where_they_were(fitted, make_train):
    """Surgery may fit the weights of new batches only; otherwise the query would reshape the reference."""
    reference = TINY.fit(make_train(), query=None, seed=5)
    np.testing.assert_allclose(fitted.embed(make_train()), reference.embed(make_train()), atol=1e-6)


@pytest.mark.parametrize("batches", [("b1",), ("b1", "b2")], ids=["one batch", "two batches"])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_cells_of_known_batches_among_the_query_move_nothing(make_train, make_query, batches, n_layers):
    model = dataclasses.replace(TINY, n_layers=n_layers)
    train = make_train(batches=batches)
    mixed = make_query(dataset_id="lab1", batches=("b1", "new1"))
    mixed = dataclasses.replace(mixed, cell_ids=np.array([f"q:{name}" for name in mixed.cell_ids], dtype=object))
    trained = model.fit(train, query=None, seed=5)
    mapped = model.map_query(trained, mixed, seed=5)
    assert mapped.batches[-1] == "lab1|new1"
    np.testing.assert_allclose(mapped.embed(train), trained.embed(train), atol=1e-6)
    known = (mixed.technical["batch"] == "b1").to_numpy()
    np.testing.assert_allclose(mapped.embed(mixed)[known], trained_only(trained, mixed, known), atol=1e-6)


def trained_only(fitted, view, chosen):
    """Return what the model says of some cells of a view before anything was mapped."""
    part = dataclasses.replace(
        view, cell_ids=view.cell_ids[chosen], counts=view.counts[chosen],
        technical=view.technical[chosen].reset_index(drop=True),
    )  # fmt: skip
    return fitted.embed(part)


def test_mapping_onto_a_model_of_one_batch_leaves_its_cells_where_they_were(make_train, make_query):
    """One batch has no weight in the network; a random one for it would move every training cell."""
    train, query = make_train(batches=("b1",)), make_query(batches=("new1", "new2"))
    trained = TINY.fit(train, query=None, seed=5)
    mapped = TINY.map_query(trained, query, seed=5)
    np.testing.assert_allclose(mapped.embed(train), trained.embed(train), atol=1e-6)
    again = TINY.map_query(mapped, make_query(20, batches=("new3",)), seed=5)
    np.testing.assert_allclose(again.embed(train), trained.embed(train), atol=1e-6)


def test_another_query_needs_no_second_training_and_leaves_the_first_fit_alone(fitted, make_train, make_query):
    assert isinstance(TINY, QueryMapper)
    query, other = make_query(batches=("new1", "new2")), make_query(20, batches=("new3",))
    trained = TINY.fit(make_train(), query=None, seed=5)
    before = trained.notes
    TINY.map_query(trained, other, seed=5)
    mapped = TINY.map_query(trained, query, seed=5)
    assert mapped.embed(query).tobytes() == fitted.embed(query).tobytes()
    assert (mapped.notes, mapped.scopes) == (fitted.notes, fitted.scopes)
    assert (trained.notes, trained.batches) == (before, ("lab1|b1", "lab1|b2"))
    # Surgery holds the old weights fast: they were trained all the same, and the new batches bring weights of their own.
    assert mapped.network_size.n_trained == mapped.network_size.n_parameters > trained.network_size.n_parameters
    with pytest.raises(UnmeasuredGeneError):
        TINY.map_query(trained, dataclasses.replace(query, genes=query.genes[::-1]), seed=5)


def test_training_without_step_metrics_is_the_training_of_scvi_tools(make_train, monkeypatch):
    train = make_train()
    ours = TINY.fit(train, query=None, seed=1).embed(train)
    monkeypatch.setattr(scvi_training, "_terse_plan", lambda: import_extra("scvi.train").TrainingPlan)
    assert TINY.fit(train, query=None, seed=1).embed(train).tobytes() == ours.tobytes()


def test_an_early_stop_prints_nothing_and_no_table_outlives_its_use(make_train, capfd):
    """What scvi-tools prints on an early stop would end up in the JSON of a command."""
    fits = [dataclasses.replace(TINY, max_epochs=40, patience=1).fit(make_train(), query=None, seed=n) for n in (0, 1)]
    assert any("best of at most 40 epochs" in note for note in fits[0].notes)
    assert capfd.readouterr().out == ""
    kept = import_extra("scvi").model.SCVI._setup_adata_manager_store
    assert len(kept) <= 1
    # The first model still answers after the second one was made.
    assert np.isfinite(fits[0].embed(make_train())).all()


def test_mapping_does_change_the_query(make_train, make_query):
    query = make_query(batches=("new",))
    short = dataclasses.replace(TINY, query_epochs=1).fit(make_train(), query=query, seed=0)
    long = dataclasses.replace(TINY, query_epochs=8).fit(make_train(), query=query, seed=0)
    assert not np.allclose(short.embed(query), long.embed(query))


def test_values_that_are_not_finite_are_no_embedding(fitted, make_train, monkeypatch):
    monkeypatch.setattr(
        "cytolabe.models.scvi_training.posterior_mean", lambda _model, table: np.full((len(table.batch), 4), np.nan)
    )
    with pytest.raises(ModelFailedError, match="scVI gave values that are not finite for 150 of 150 cells"):
        fitted.embed(make_train())


def test_unseen_batch_without_a_query_is_refused(make_train, make_query):
    fitted = TINY.fit(make_train(), query=None, seed=0)
    with pytest.raises(RefusedError, match=r"1 batch.*lab0\|new"):
        fitted.embed(make_query(batches=("new",)))


def test_query_of_known_batches_fits_nothing(make_train, make_query):
    query = make_query(dataset_id="lab1", cell_ids=np.array([f"lab1:q{c}" for c in range(60)], dtype=object))
    fitted = TINY.fit(make_train(), query=query, seed=0)
    assert "scvi/query" not in {scope.step for scope in fitted.scopes}
    assert any("nothing was fitted on the query" in note for note in fitted.notes)


def test_scopes_keep_training_and_query_apart(fitted, make_train, make_query):
    digest_of_step = {scope.step: scope.cells_digest for scope in fitted.scopes}
    assert digest_of_step["scvi/weights"] == cells_digest(make_train().cell_ids)
    assert digest_of_step["scvi/epochs"] == cells_digest(make_train().cell_ids)
    assert digest_of_step["scvi/query"] == cells_digest(make_query().cell_ids)
    assert isinstance(TINY, Embedder)
    assert isinstance(fitted, FittedEmbedder)


def test_cell_on_both_sides_is_leakage(make_train):
    with pytest.raises(LeakageError):
        TINY.fit(make_train(), query=make_train(), seed=0)


def test_query_with_other_genes_is_refused(fitted, make_query):
    query = make_query()
    with pytest.raises(UnmeasuredGeneError):
        fitted.embed(dataclasses.replace(query, genes=query.genes[1:], counts=query.counts[:, 1:]))


def test_cells_without_counts_lie_at_the_training_mean(make_train, make_query, without_counts):
    train, query = make_train(), make_query(20, batches=("new",))
    train = dataclasses.replace(train, counts=without_counts(train.counts, [0, 1]))
    query = dataclasses.replace(query, counts=without_counts(query.counts, [3]))
    fitted = TINY.fit(train, query=query, seed=0)
    embedding = fitted.embed(query)
    np.testing.assert_array_equal(embedding[3], fitted.mean_embedding)
    assert any("1 of 20 cells have no counts" in note for note in fitted.notes)
    assert any("2 training cells have no counts" in note for note in fitted.notes)


def test_count_beyond_float32_is_refused(make_train):
    train = make_train()
    train.counts.data[0] = 2**24 + 1
    with pytest.raises(RefusedError, match="largest count is 16777217"):
        TINY.fit(train, query=None, seed=0)


def test_only_the_most_variable_training_genes_are_read(make_train, make_query):
    fitted = dataclasses.replace(TINY, n_top_genes=20).fit(make_train(), query=None, seed=0)
    assert len(fitted.columns) == 20
    assert fitted.embed(make_train()).shape == (150, 4)


def test_nothing_is_written_or_printed_and_no_global_generator_is_touched(
    make_train, make_query, tmp_path, monkeypatch, capfd, caplog
):
    monkeypatch.chdir(tmp_path)
    torch = import_extra("torch")
    # scvi-tools' own way to a seed would reseed the generators of numpy and Python for everybody else in the process.
    reseeded = []
    monkeypatch.setattr("numpy.random.seed", lambda *seeds: reseeded.append(seeds))
    monkeypatch.setattr("random.seed", lambda *seeds: reseeded.append(seeds))
    torch_before, n_threads = torch.random.get_rng_state().numpy().tobytes(), torch.get_num_threads()
    level = logging.getLogger("lightning.pytorch").level
    TINY.fit(make_train(), query=make_query(), seed=0)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert reseeded == []
    assert torch.random.get_rng_state().numpy().tobytes() == torch_before
    assert torch.get_num_threads() == n_threads
    assert logging.getLogger("lightning.pytorch").level == level


def test_epochs_stop_when_the_validation_persons_gain_nothing(make_train):
    fitted = ScviEmbedder(max_epochs=60, patience=1, n_hidden=8, n_latent=2).fit(make_train(), query=None, seed=0)
    (best,) = [note for note in fitted.notes if note.startswith("best of at most 60 epochs")]
    assert int(best.rsplit(" ", 1)[1]) < 60


@pytest.mark.parametrize(("n_cells", "expected"), [(20, 32), (1000, 100), (5000, 500), (10**6, 512)])
def test_small_data_sets_keep_ten_steps_per_epoch(n_cells, expected):
    assert minibatch_size(n_cells) == expected


def test_validation_leaves_out_whole_persons():
    persons = np.array([f"p{cell % 7}" for cell in range(140)], dtype=object)
    fit_rows, validation_rows, note = divide_cells(persons, np.full(140, "b", dtype=object), seed=3)
    assert set(persons[fit_rows]).isdisjoint(persons[validation_rows])
    assert sorted([*fit_rows, *validation_rows]) == list(range(140))
    assert "training person(s)" in note


def test_person_who_holds_a_batch_alone_stays_in_training():
    """A batch without training cells would have no weights."""
    persons = np.array(["p0"] * 20 + ["p1"] * 20 + ["p2"] * 60, dtype=object)
    batches = np.array(["own"] * 20 + ["shared"] * 80, dtype=object)
    for seed in range(10):
        fit_rows, _, _ = divide_cells(persons, batches, seed=seed)
        assert set(batches[fit_rows]) == {"own", "shared"}


@pytest.mark.parametrize("persons", [["p0"] * 50, ["unknown"] * 50, ["p0"] * 25 + ["unknown"] * 25])
def test_without_two_known_persons_cells_choose_the_epochs_and_it_is_said(persons):
    batches = np.array(["a"] * 49 + ["b"], dtype=object)
    fit_rows, validation_rows, note = divide_cells(np.array(persons, dtype=object), batches, seed=0)
    assert "not persons" in note
    assert len(validation_rows) == 4
    assert 49 in fit_rows


def test_stored_model_gives_the_same_embedding(fitted, make_train, make_query, tmp_path):
    query = make_query(batches=("new1", "new2"))
    save_scvi(fitted, tmp_path / "model")
    loaded = load_scvi(tmp_path / "model")
    assert loaded.embed(query).tobytes() == fitted.embed(query).tobytes()
    assert loaded.embed(make_train()).tobytes() == fitted.embed(make_train()).tobytes()
    assert (loaded.scopes, loaded.notes, loaded.genes) == (fitted.scopes, fitted.notes, fitted.genes)


def test_a_stored_posterior_is_the_embedding_of_the_reference_without_its_counts(make_train, make_query, tmp_path, without_counts):  # fmt: skip
    train = make_train()
    train = dataclasses.replace(train, counts=without_counts(train.counts, [7]))
    fitted = TINY.fit(train, query=None, seed=5)
    save_scvi(fitted, tmp_path, reference=train)
    found = load_posterior(tmp_path, SCVI_KIND)
    assert found.mean.tobytes() == fitted.embed(train).tobytes()
    assert found.cell_ids.tolist() == train.cell_ids.tolist()
    # What scvi-tools itself keeps of these cells when it minifies a model.
    table = cells_table(train, columns=fitted.columns, batches=fitted.batches)
    with scvi_training.quiet_session(0):
        mean, variance = fitted.model.get_latent_representation(scvi_training.cells_anndata(table), return_dist=True)
    filled = np.arange(150) != 7
    np.testing.assert_allclose(found.variance[filled], variance, rtol=1e-5)
    np.testing.assert_allclose(found.mean[filled], mean, atol=1e-5)
    assert found.has_counts.tolist() == filled.tolist()
    assert (found.variance[filled] > 0).all()
    # The file is an embedding that a study reads, and a query is mapped beside it by the weights alone.
    assert read_precomputed(tmp_path / POSTERIOR_NAME).embed(train).tobytes() == found.mean.tobytes()
    query = make_query(batches=("new1",))
    mapped = TINY.map_query(load_scvi(tmp_path), query, seed=5)
    assert mapped.embed(query).tobytes() == TINY.map_query(fitted, query, seed=5).embed(query).tobytes()
    np.testing.assert_allclose(mapped.embed(train), found.mean, atol=1e-6)


def test_a_posterior_of_other_cells_a_changed_one_and_none_are_refused(make_train, make_query, tmp_path):
    fitted = TINY.fit(make_train(), query=None, seed=5)
    with pytest.raises(UsageError, match="60 cells are not those that the model was trained on"):
        save_scvi(fitted, tmp_path / "other", reference=make_query())
    save_scvi(fitted, tmp_path / "bare")
    assert not (tmp_path / "bare" / POSTERIOR_NAME).exists()
    with pytest.raises(UsageError, match="without the posterior"):
        load_posterior(tmp_path / "bare", SCVI_KIND)
    save_scvi(fitted, tmp_path / "kept", reference=make_train())
    (tmp_path / "kept" / POSTERIOR_NAME).write_bytes((tmp_path / "kept" / POSTERIOR_NAME).read_bytes() + b" ")
    with pytest.raises(IntegrityError, match="names sha256:"):
        load_posterior(tmp_path / "kept", SCVI_KIND)
    (tmp_path / "kept" / POSTERIOR_NAME).unlink()
    with pytest.raises(UnreadableInputError, match="says that it has one"):
        load_posterior(tmp_path / "kept", SCVI_KIND)


def test_stored_model_is_safetensors_json_and_a_card(fitted, tmp_path):
    card = save_scvi(fitted, tmp_path / "model")
    assert save_scvi(fitted, tmp_path / "model") == card
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert names == sorted([MODEL_CARD_NAME, SCVI_KIND.description_name, WEIGHTS_NAME])
    json.loads((tmp_path / "model" / SCVI_KIND.description_name).read_bytes())
    told = json.loads((tmp_path / "model" / MODEL_CARD_NAME).read_bytes())
    weights = "sha256:" + hashlib.sha256((tmp_path / "model" / WEIGHTS_NAME).read_bytes()).hexdigest()
    assert told["card"]["weights_digest"] == card.weights_digest == weights
    assert (card.name, card.scopes, card.protocol) == ("scvi", fitted.scopes, Protocol.SELF_SUPERVISED)
    assert set(told["artifact"]) == {"layer", "pooling", "precision", "details"}
    assert set(told["artifact"]["details"]) == {"weights", "dictionary.genes", "max_length", "seed"}
    assert told["artifact"]["details"]["seed"] == "5"


def test_an_embedding_says_the_digest_that_the_card_of_its_model_has(fitted, tmp_path):
    assert isinstance(fitted, DescribedEmbedder)
    card = save_scvi(fitted, tmp_path)
    loaded = load_scvi(tmp_path)
    assert loaded.facts == fitted.facts
    assert loaded.facts.details["weights"] == card.weights_digest


def test_one_changed_byte_of_the_weights_is_an_integrity_error(fitted, tmp_path):
    save_scvi(fitted, tmp_path)
    content = bytearray((tmp_path / WEIGHTS_NAME).read_bytes())
    content[-1] ^= 1
    (tmp_path / WEIGHTS_NAME).write_bytes(content)
    with pytest.raises(IntegrityError, match=rf"{WEIGHTS_NAME} has the digest .*, expected was sha256:.*Take the file"):
        load_scvi(tmp_path)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"genes": lambda genes: [genes[1], genes[0], *genes[2:]]}, "scvi.json: genes has the digest .*; the card expects"),
        ({"batches": lambda batches: batches[::-1]}, "scvi.json: the description has the digest .*; the card expects"),
    ],
)  # fmt: skip
def test_genes_or_a_description_of_another_order_are_refused_although_every_weight_fits(fitted, tmp_path, part, told):
    save_scvi(fitted, tmp_path)
    path = tmp_path / SCVI_KIND.description_name
    said = json.loads(path.read_bytes())
    path.write_text(json.dumps({**said, **{name: change(said[name]) for name, change in part.items()}}))
    with pytest.raises(IntegrityError, match=f"{told}.*fit the model again"):
        load_scvi(tmp_path)


def test_a_folder_without_card_or_with_that_of_another_model_is_refused(fitted, tmp_path):
    save_scvi(fitted, tmp_path)
    path = tmp_path / MODEL_CARD_NAME
    whole = json.loads(path.read_bytes())
    path.write_text(json.dumps({**whole, "card": {**whole["card"], "name": "scanvi"}}))
    with pytest.raises(IntegrityError, match=f"{MODEL_CARD_NAME} is the card of 'scanvi'; expected was that of 'scvi'"):
        load_scvi(tmp_path)
    other_cells = {**whole["card"], "scopes": whole["card"]["scopes"][1:]}
    path.write_text(json.dumps({**whole, "card": other_cells}))
    with pytest.raises(IntegrityError, match=f"{MODEL_CARD_NAME} names other cells that the model was fitted on"):
        load_scvi(tmp_path)
    no_details = {**whole, "artifact": {**whole["artifact"], "details": None}}
    for garbled in ({**whole, "format": "other"}, {**whole, "card": {}}, [], no_details):
        path.write_text(json.dumps(garbled))
        with pytest.raises(UnreadableInputError, match=MODEL_CARD_NAME):
            load_scvi(tmp_path)
    path.write_text("[" * 100_000)
    with pytest.raises(UnreadableInputError, match=MODEL_CARD_NAME):
        load_scvi(tmp_path)
    path.unlink()
    with pytest.raises(UnreadableInputError, match=f"{MODEL_CARD_NAME} is missing; expected was a card.*fit the model"):
        load_scvi(tmp_path)


def test_weights_that_do_not_fit_the_network_are_refused_and_not_skipped(fitted, tmp_path, sign_again):
    save_scvi(fitted, tmp_path)
    said = json.loads((tmp_path / SCVI_KIND.description_name).read_bytes())
    sign_again(tmp_path, SCVI_KIND.description_name, {**said, "settings": {**said["settings"], "n_hidden": 17}})
    with pytest.raises(IntegrityError, match=r"do not fit the .* of the network"):
        load_scvi(tmp_path)
    sign_again(tmp_path, SCVI_KIND.description_name, {name: said[name] for name in said if name != "batches"})
    with pytest.raises(UnreadableInputError, match=r"scvi\.json lacks or garbles a part .*batches"):
        load_scvi(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": "other"}', b'{"format": "cytolabe-scvi-1"}'])
def test_description_that_is_no_description_or_an_older_one_is_unreadable(tmp_path, content):
    (tmp_path / SCVI_KIND.description_name).write_bytes(content)
    with pytest.raises(UnreadableInputError, match=r"scvi\.json"):
        load_scvi(tmp_path)


def test_table_of_training_holds_no_label_and_no_person(make_train):
    table = cells_table(make_train(), columns=np.arange(60), batches=("lab1|b1", "lab1|b2"))
    assert {field.name for field in dataclasses.fields(table)} == {"counts", "genes", "batch"}
    assert isinstance(table.batch, pd.Categorical)

"""An scVI trained on one side of a split: what it saw, that it opens for cells of another atlas, and what a file may say."""

import numpy as np
import pytest

from cytolabe.apply.views import query_view, train_view
from cytolabe.audit.fit_scopes import check_fit_scopes
from cytolabe.errors import ConflictError, IntegrityError, RefusedError, UnmeasuredGeneError, UsageError
from cytolabe.flow.pretrain_scvi import pretrain_scvi, read_scvi_training
from cytolabe.flow.splits import embed_fold, shared_genes
from cytolabe.flow.training_files import TrainingOrder
from cytolabe.models.registry import make_model
from cytolabe.provenance import cells_digest
from cytolabe.split import read_split

pytestmark = pytest.mark.models

CONFIG = """
n_latent = 4
n_hidden = 8

[training]
max_epochs = 2
"""


@pytest.fixture(scope="module")
def split(needs, two_labs_split):
    needs("scvi", "torch", "safetensors")
    return two_labs_split


def read(folder, text=CONFIG):
    (folder / "small.toml").write_text(text)
    return read_scvi_training(folder / "small.toml")


@pytest.fixture(scope="module")
def trained(two_labs, split, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    order = TrainingOrder(split=split, fold="1", seed=3, out=folder / "model")
    return folder / "model", pretrain_scvi(two_labs, read(folder), order)


def views_of(snapshot, split, genes):
    """Return the two sides of fold 1."""
    fold = read_split(split, snapshot).folds[0]
    empty = np.full(fold.train_rows.shape, "", dtype=object)
    train = train_view(snapshot, np.sort(fold.train_rows), genes=genes, labels=empty)
    return train, query_view(snapshot, np.sort(fold.test_rows), genes=genes)


def test_it_names_its_training_cells_so_that_another_split_is_found_out(trained, two_labs, split):
    out, document = trained
    card = make_model("scvi", checkpoint=out, expected=document["weights"]).card
    assert card.weights_digest == document["weights"]
    ids = two_labs.cells["cell_id"].to_numpy(dtype=object)
    for number, fold in enumerate(read_split(split, two_labs).folds):
        digest = cells_digest(ids[fold.train_rows].tolist())
        assert bool(check_fit_scopes(card.scopes, allowed={digest: "training cells"})) == (number == 1)
    assert (document["n_cells"], document["n_genes"], document["n_dims"]) == (60, 200, 4)
    assert document["latent_posterior"] is None
    assert not (out / "posterior.parquet").exists()


def test_opened_it_maps_the_query_as_a_fit_that_was_never_stored(trained, two_labs, split, tmp_path):
    genes = shared_genes(two_labs, np.arange(120))
    train, query = views_of(two_labs, split, genes)
    fitted = read(tmp_path).fit(train, query=query, seed=3)
    opened = make_model("scvi", checkpoint=trained[0]).fit(train, query=query, seed=3)
    np.testing.assert_allclose(opened.embed(query), fitted.embed(query), atol=1e-5)
    np.testing.assert_allclose(opened.embed(train), fitted.embed(train), atol=1e-5)
    assert [scope.step for scope in opened.scopes] == [scope.step for scope in fitted.scopes]


def test_a_file_that_asks_for_it_keeps_the_posterior_of_the_training_cells_and_no_other(two_labs, split, tmp_path):
    order = TrainingOrder(split=split, fold="1", seed=3, out=tmp_path / "model")
    document = pretrain_scvi(two_labs, read(tmp_path, "latent_posterior = true\n" + CONFIG), order)
    assert document["latent_posterior"] == str(tmp_path / "model" / "posterior.parquet")
    genes = shared_genes(two_labs, np.arange(120))
    train, query = views_of(two_labs, split, genes)
    reference = make_model("precomputed", path=tmp_path / "model" / "posterior.parquet").fit(train, query=None, seed=3)
    fitted = make_model("scvi", checkpoint=tmp_path / "model").fit(train, query=None, seed=3)
    assert reference.embed(train).tobytes() == fitted.embed(train).tobytes()
    with pytest.raises(RefusedError, match="60 of 60 cells"):
        reference.embed(query)
    with pytest.raises(UsageError, match="latent_posterior is 1"):
        read(tmp_path, "latent_posterior = 1")


def test_cells_without_a_gene_that_it_reads_are_refused_and_those_with_more_are_not(trained, two_labs, split):
    genes = shared_genes(two_labs, np.arange(120))
    train, query = views_of(two_labs, split, genes[10:])
    with pytest.raises(
        UnmeasuredGeneError, match=f"10 of 200 genes that the model reads were not measured here: {genes[0]}"
    ):
        make_model("scvi", checkpoint=trained[0]).fit(train, query=query, seed=3)
    more = shared_genes(two_labs, read_split(split, two_labs).folds[0].train_rows)
    wide, _ = views_of(two_labs, split, genes)
    narrow = make_model("scvi", checkpoint=trained[0]).fit(wide, query=None, seed=3)
    fold = read_split(split, two_labs).folds[0]
    view = query_view(two_labs, np.sort(fold.train_rows), genes=more)
    np.testing.assert_allclose(narrow.over(more).embed(view), narrow.embed(wide), atol=1e-6)


def test_genes_in_another_order_and_batches_of_the_training_side_that_it_never_saw_change_nothing_that_was_learned(two_labs, split, tmp_path):  # fmt: skip
    genes = shared_genes(two_labs, np.arange(120))
    train, _query = views_of(two_labs, split, genes)
    fitted = read(tmp_path).fit(train, query=None, seed=3)
    from cytolabe.models.scvi_files import save_scvi  # noqa: PLC0415 - needs torch

    save_scvi(fitted, tmp_path / "model")
    turned, _ = views_of(two_labs, split, genes[::-1])
    opened = make_model("scvi", checkpoint=tmp_path / "model").fit(turned, query=None, seed=3)
    np.testing.assert_allclose(opened.embed(turned), fitted.embed(train), atol=1e-5)
    # As for an atlas of other data sets: what is called training there brings batches of its own.
    other = train_view(two_labs, np.arange(60), genes=genes, labels=np.full(60, "", dtype=object))
    mapped = make_model("scvi", checkpoint=tmp_path / "model").fit(other, query=None, seed=3)
    assert set(mapped.batches) > set(fitted.batches)
    np.testing.assert_allclose(mapped.embed(train), fitted.embed(train), atol=1e-5)


def test_what_came_from_the_folder_was_trained_by_no_fit_and_no_seed(trained, two_labs, split):
    model = make_model("scvi", checkpoint=trained[0])
    assert model.card.n_seeds == 1
    train, query = views_of(two_labs, split, shared_genes(two_labs, np.arange(120)))
    before, mapped = model.fit(train, query=None, seed=3), model.fit(train, query=query, seed=3)
    assert before.network_size.n_trained == 0
    n_new = mapped.network_size.n_parameters - before.network_size.n_parameters
    assert mapped.network_size.n_trained == n_new > 0


def test_the_command_that_embeds_opens_it(trained, two_labs, split, tmp_path):
    document, _ = embed_fold(
        two_labs, model="scvi", split_file=split, fold_id="1", seed=3, out=tmp_path / "x.parquet",
        checkpoint=trained[0],
    )  # fmt: skip
    assert (document["n_cells"], document["n_dims"]) == (120, 4)


def test_other_weights_and_options_that_would_change_nothing_are_refused(trained):
    with pytest.raises(IntegrityError, match=r"sha256:0 was expected"):
        make_model("scvi", checkpoint=trained[0], expected="sha256:0")
    with pytest.raises(UsageError, match="n_latent: a checkpoint is not trained again"):
        make_model("scvi", checkpoint=trained[0], n_latent=7)
    with pytest.raises(UsageError, match="give checkpoint, too"):
        make_model("scvi", expected="sha256:0")


def test_a_used_folder_and_a_file_that_means_nothing_are_refused(trained, two_labs, split, tmp_path):
    with pytest.raises(ConflictError, match="holds a model already"):
        pretrain_scvi(two_labs, read(tmp_path), TrainingOrder(split=split, fold="1", seed=3, out=trained[0]))
    with pytest.raises(UsageError, match="n_layer"):
        read(tmp_path, "n_layer = 2")
    with pytest.raises(UsageError, match="n_latent = 0 means nothing"):
        read(tmp_path, "n_latent = 0")
    with pytest.raises(UsageError, match="no table"):
        read(tmp_path, "training = 3")

import dataclasses

import numpy as np
import pytest

from cytolabe.errors import RefusedError, UnmeasuredGeneError
from cytolabe.models.baselines.probes import fit_probe
from cytolabe.models.harmony import HarmonyIntegrator
from cytolabe.models.protocols import Embedder, FittedEmbedder, Integrator, QueryMapper
from cytolabe.models.symphony import Reference, SymphonyEmbedder, batch_effects, cluster_shares
from cytolabe.provenance import cells_digest

pytest.importorskip("harmonypy")
pytestmark = pytest.mark.models

N_DIMS = 6


def drawn_reference(rng, n_clusters=4):
    """Return centers that lie apart, as a reference of 50 cells in each cluster."""
    centers = rng.normal(size=(n_clusters, N_DIMS)) * 8
    return Reference(sizes=np.full(n_clusters, 50.0), sums=50 * centers), centers


def drawn_query(rng, centers, *, n_cells=200):
    return centers[rng.integers(len(centers), size=n_cells)] + rng.normal(size=(n_cells, N_DIMS)) * 0.5


def mapped_by_the_paper(components, batches, reference):
    """Map a query as the formulas are printed: one cluster after the other, with the whole design matrix."""
    centers = reference.sums / np.linalg.norm(reference.sums, axis=1)[:, None]
    levels = sorted(set(batches.tolist()))
    design = np.array([[1.0] * len(batches), *([float(b == level) for b in batches] for level in levels)])
    ridge = np.diag([0.0] + [1.0] * len(levels))
    corrected = components.copy()
    unit = components / np.linalg.norm(components, axis=1)[:, None]
    shares = np.exp(-2 * (1 - unit @ centers.T) / 0.1)
    shares = shares / shares.sum(axis=1)[:, None]
    for cluster, center_sum in enumerate(reference.sums):
        weighted = design * shares[:, cluster]
        left = weighted @ design.T + ridge
        left[0, 0] += reference.sizes[cluster]
        right = weighted @ components
        right[0] += center_sum
        effect = np.linalg.inv(left) @ right
        effect[0] = 0
        corrected -= (effect.T @ weighted).T
    return corrected


def mapped(components, batches, reference):
    """Map a query as the embedder does."""
    effects, shares = batch_effects(components, batches, reference), cluster_shares(components, reference.centers)
    return components - np.array([share @ effects[batch] for share, batch in zip(shares, batches, strict=True)])


@pytest.mark.parametrize("n_batches", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_a_query_is_mapped_as_the_formulas_are_printed(seed, n_batches):
    rng = np.random.default_rng(seed)
    reference, centers = drawn_reference(rng)
    batches = np.array([f"b{number}" for number in rng.integers(n_batches, size=200)], dtype=object)
    components = drawn_query(rng, centers) + (batches == "b0")[:, None] * rng.normal(size=N_DIMS)
    np.testing.assert_allclose(
        mapped(components, batches, reference), mapped_by_the_paper(components, batches, reference), atol=1e-9
    )


def test_what_a_batch_adds_is_taken_away_and_a_batch_that_adds_nothing_stays():
    rng = np.random.default_rng(5)
    reference, centers = drawn_reference(rng)
    plain = drawn_query(rng, centers, n_cells=400)
    shift = rng.normal(size=N_DIMS) * 1.5
    batches = np.array(["moved", "still"] * 200, dtype=object)
    moved = batches == "moved"
    found = mapped(plain + moved[:, None] * shift, batches, reference)
    off = np.linalg.norm(found - plain, axis=1)
    assert off[moved].mean() < 0.25 * np.linalg.norm(shift)
    assert off[~moved].mean() < 0.1 * np.linalg.norm(shift)


def test_shares_of_a_cell_sum_to_one_and_a_cell_without_direction_has_none():
    rng = np.random.default_rng(2)
    reference, centers = drawn_reference(rng)
    components = np.concatenate([drawn_query(rng, centers, n_cells=9), np.zeros((1, N_DIMS))])
    shares = cluster_shares(components, reference.centers)
    np.testing.assert_allclose(shares.sum(axis=1), [1] * 9 + [0])
    # Scale is of no matter: only the direction counts.
    np.testing.assert_allclose(cluster_shares(7 * components, reference.centers), shares, atol=1e-9)


def test_a_cluster_that_nobody_is_in_moves_nobody():
    rng = np.random.default_rng(3)
    reference, centers = drawn_reference(rng)
    empty = Reference(sizes=np.append(reference.sizes, 0.0), sums=np.vstack([reference.sums, np.zeros(N_DIMS)]))
    away = centers[:1].repeat(20, axis=0) + rng.normal(size=(20, N_DIMS)) * 0.1
    batches = np.full(20, "b", dtype=object)
    np.testing.assert_allclose(mapped(away, batches, empty), mapped(away, batches, reference), atol=1e-3)


def test_training_cells_are_where_harmony_of_them_alone_puts_them(make_train, make_query):
    train = make_train()
    alone = HarmonyIntegrator(n_dims=8).integrate(train, query=None, seed=3).embed(train)
    fitted = SymphonyEmbedder(n_dims=8).fit(train, query=make_query(), seed=3)
    assert fitted.embed(train).tobytes() == alone.tobytes()


def test_a_mapped_query_is_named_by_its_neighbors_in_the_reference(make_train, make_query, query_truth):
    train, query = make_train(), make_query()
    fitted = SymphonyEmbedder(n_dims=8).fit(train, query=query, seed=0)
    output = fit_probe("knn", fitted.embed(train), train.labels, seed=0).predict_probability(fitted.embed(query))
    predicted = np.array(output.classes, dtype=object)[output.probability.argmax(axis=1)]
    assert (predicted == query_truth(60)).mean() > 0.8


def test_the_reference_does_not_move_with_the_query_and_the_order_of_cells_is_of_no_matter(make_train, make_query):
    train, query = make_train(), make_query(20)
    model = SymphonyEmbedder(n_dims=8)
    fitted = model.fit(train, query=None, seed=0)
    with_query = model.map_query(fitted, query, seed=0)
    assert with_query.embed(train).tobytes() == fitted.embed(train).tobytes()
    assert with_query.embed(query).tobytes() == model.fit(train, query=query, seed=0).embed(query).tobytes()
    rows = np.random.default_rng(0).permutation(20)
    turned = dataclasses.replace(
        query, cell_ids=query.cell_ids[rows], counts=query.counts[rows], technical=query.technical.iloc[rows]
    )
    np.testing.assert_allclose(
        model.map_query(fitted, turned, seed=0).embed(query), with_query.embed(query), atol=1e-10
    )


def test_cells_of_a_batch_that_was_not_mapped_are_refused_and_others_of_a_mapped_one_are_not(make_train, make_query):
    train, query = make_train(), make_query(30)
    first = dataclasses.replace(
        query, cell_ids=query.cell_ids[:20], counts=query.counts[:20], technical=query.technical.iloc[:20]
    )
    model = SymphonyEmbedder(n_dims=8)
    fitted = model.fit(train, query=None, seed=0)
    with pytest.raises(RefusedError, match=r"batch\(es\) were not mapped: lab"):
        fitted.embed(query)
    assert np.isfinite(model.map_query(fitted, first, seed=0).embed(query)).all()


def test_a_cell_without_counts_stays_at_the_training_mean(make_train, make_query, without_counts):
    query = make_query(20)
    query = dataclasses.replace(query, counts=without_counts(query.counts, [4]))
    embedding = SymphonyEmbedder().fit(make_train(), query=query, seed=0).embed(query)
    assert np.isfinite(embedding).all()
    assert (embedding[4] == 0).all()


def test_scopes_name_the_reference_and_the_query_apart(make_train, make_query):
    train, query = make_train(), make_query()
    fitted = SymphonyEmbedder().fit(train, query=query, seed=0)
    digest_of_step = {scope.step: scope.cells_digest for scope in fitted.scopes}
    assert digest_of_step["symphony/reference"] == cells_digest(train.cell_ids)
    assert digest_of_step["symphony/query"] == cells_digest(query.cell_ids)
    assert isinstance(SymphonyEmbedder(), Embedder)
    assert not isinstance(SymphonyEmbedder(), Integrator)
    assert isinstance(SymphonyEmbedder(), QueryMapper)
    assert isinstance(fitted, FittedEmbedder)


def test_other_genes_and_a_reference_of_one_batch_are_refused(make_train, make_query):
    query = make_query()
    fitted = SymphonyEmbedder().fit(make_train(), query=None, seed=0)
    other = dataclasses.replace(query, genes=query.genes[:-1], counts=query.counts[:, :-1])
    with pytest.raises(UnmeasuredGeneError):
        SymphonyEmbedder().map_query(fitted, other, seed=0)
    with pytest.raises(RefusedError, match="all 150 cells are of one batch"):
        SymphonyEmbedder().fit(make_train(batches=("b1",)), query=None, seed=0)

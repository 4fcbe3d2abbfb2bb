import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from cytolabe.errors import LeakageError, ModelFailedError, RefusedError
from cytolabe.models.baselines.pca import PcaEmbedder
from cytolabe.models.baselines.probes import fit_probe
from cytolabe.models.extras import import_extra
from cytolabe.models.harmony import HarmonyIntegrator
from cytolabe.models.protocols import Embedder, FittedEmbedder, Integrator, QueryView
from cytolabe.provenance import cells_digest

pytest.importorskip("harmonypy")
pytestmark = pytest.mark.models


def test_two_runs_are_equal_to_the_last_bit(make_train, make_query):
    train, query = make_train(), make_query()
    first = HarmonyIntegrator(n_dims=8).integrate(train, query=query, seed=7).embed(query)
    second = HarmonyIntegrator(n_dims=8).integrate(train, query=query, seed=7).embed(query)
    assert first.tobytes() == second.tobytes()


def test_it_reads_nothing_that_a_query_view_lacks(make_train, make_query):
    train, query = make_train(), make_query()
    bare = QueryView(cell_ids=train.cell_ids, counts=train.counts, genes=train.genes, technical=train.technical)
    first = HarmonyIntegrator().integrate(bare, query=query, seed=0).embed(bare)
    second = HarmonyIntegrator().integrate(train, query=query, seed=0).embed(train)
    assert first.tobytes() == second.tobytes()


def test_correction_keeps_the_types_and_moves_the_batches(make_train, make_query, query_truth):
    train, query = make_train(), make_query()
    fitted = HarmonyIntegrator(n_dims=8).integrate(train, query=query, seed=0)
    plain = PcaEmbedder(n_dims=8).fit(train, query=None, seed=0)
    assert not np.allclose(fitted.embed(query), plain.embed(query))
    output = fit_probe("knn", fitted.embed(train), train.labels, seed=0).predict_probability(fitted.embed(query))
    predicted = np.array(output.classes, dtype=object)[output.probability.argmax(axis=1)]
    assert (predicted == query_truth(60)).mean() > 0.8


def test_answer_is_keyed_by_cell_and_not_by_position(make_train, make_query):
    train, query = make_train(), make_query(20)
    fitted = HarmonyIntegrator().integrate(train, query=query, seed=0)
    rows = np.arange(20)[::-1]
    turned = dataclasses.replace(
        query, cell_ids=query.cell_ids[rows], counts=query.counts[rows], technical=query.technical.iloc[rows]
    )
    np.testing.assert_array_equal(fitted.embed(query)[rows], fitted.embed(turned))


def test_cell_that_was_not_integrated_is_refused(make_train, make_query):
    fitted = HarmonyIntegrator().integrate(make_train(), query=make_query(), seed=0)
    with pytest.raises(RefusedError, match="5 of 5 cells were not integrated"):
        fitted.embed(make_query(5, dataset_id="lab9"))


def test_one_batch_is_refused_with_the_reason(make_train):
    with pytest.raises(RefusedError, match="all 150 cells are of one batch"):
        HarmonyIntegrator().integrate(make_train(batches=("b1",)), query=None, seed=0)


def test_cell_on_both_sides_is_leakage(make_train):
    train = make_train()
    with pytest.raises(LeakageError):
        HarmonyIntegrator().integrate(train, query=train, seed=0)


def test_scope_of_the_integration_holds_the_query_too(make_train, make_query):
    train, query = make_train(), make_query()
    fitted = HarmonyIntegrator().integrate(train, query=query, seed=0)
    digest_of_step = {scope.step: scope.cells_digest for scope in fitted.scopes}
    assert digest_of_step["harmony"] == cells_digest([*train.cell_ids, *query.cell_ids])
    assert digest_of_step["pca/components"] == cells_digest(train.cell_ids)
    assert fitted.batch_key == ("dataset_id", "batch")
    assert isinstance(HarmonyIntegrator(), Integrator)
    assert not isinstance(HarmonyIntegrator(), Embedder)
    assert isinstance(fitted, FittedEmbedder)


def test_cell_without_counts_stays_at_the_training_mean(make_train, make_query, without_counts):
    query = make_query(20)
    query = dataclasses.replace(query, counts=without_counts(query.counts, [4]))
    fitted = HarmonyIntegrator().integrate(make_train(), query=query, seed=0)
    embedding = fitted.embed(query)
    assert np.isfinite(embedding).all()
    assert (embedding[4] == 0).all()
    assert any("1 of 20 cells have no counts" in note for note in fitted.notes)


def test_rounds_used_up_are_said(make_train, make_query):
    fitted = HarmonyIntegrator(max_iterations=1).integrate(make_train(), query=make_query(), seed=0)
    assert any("all 1 rounds" in note for note in fitted.notes)


def test_values_that_are_not_finite_are_no_embedding(make_train, make_query, monkeypatch):
    run = import_extra("harmonypy").run_harmony

    def broken(*arguments, **options):
        result = run(*arguments, **options)
        return SimpleNamespace(Z_corr=result.Z_corr * np.nan, R=result.R, objective_harmony=result.objective_harmony)

    monkeypatch.setattr("harmonypy.run_harmony", broken)
    with pytest.raises(ModelFailedError, match="Harmony gave values that are not finite"):
        HarmonyIntegrator().integrate(make_train(), query=make_query(), seed=0)

"""A study whose model gives every cell nearly one vector says so among its findings."""

import dataclasses

import numpy as np

from cytolabe.config.study import ModelSpec, Study
from cytolabe.flow.study import run_study
from cytolabe.ingest.sources import find_sources
from cytolabe.models import registry
from cytolabe.models.cards import CARDS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flat:
    """A model that gives every cell nearly the same vector, whatever its counts."""

    card = dataclasses.replace(CARDS["pca"], name="flat")
    notes = ()
    scopes = ()

    def fit(self, train, *, query, seed):
        return self

    def embed(self, view):
        noise = np.random.default_rng(view.counts.shape[0]).normal(size=(view.counts.shape[0], 4))
        return np.array([3.0, -1.0, 2.0, 0.5]) + 1e-4 * noise


def test_a_collapsed_embedding_is_a_finding_of_the_study_and_another_model_is_not(two_lab_files, tmp_path, monkeypatch):
    monkeypatch.setitem(registry._REGISTRY, "flat", registry._Entry(options=Flat, make=Flat))
    study = Study(
        name="small", n_seeds=1, gene_policies=("intersection",), ceilings=False,
        models=(ModelSpec(name="flat+knn"), ModelSpec(name="pca+knn")),
    )  # fmt: skip
    evidence = run_study(study, tmp_path / "out", sources=find_sources([two_lab_files])[0])
    (found,) = [finding for finding in evidence.findings if finding.code == "W-MODEL-02"]
    assert found.where == "flat"
    assert found.n_affected == found.n_total == 2

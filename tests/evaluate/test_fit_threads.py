"""A fit of a study has one thread, so that processes that share the study do not wait for each other's, unless a user says how many."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from cytolabe.evaluate import evaluate_study, fitting
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import AnnotatorOutput
from cytolabe.models.scopes import fit_scope

_LOADED_LATE = """
import sys
from cytolabe.evaluate.fitting import _on_few_threads
assert "torch" not in sys.modules
with _on_few_threads("scgpt_scratch"):
    import torch
    assert torch.get_num_threads() == 1, torch.get_num_threads()
"""


def numbers_of_threads():
    return {library["num_threads"] for library in threadpool_info()}


@dataclasses.dataclass(frozen=True)
class Looking:
    """An annotator that writes down on how many threads it is fitted, and on how many it answers."""

    seen: list
    card: object = dataclasses.replace(CARDS["majority"], name="looking")
    scopes: tuple = ()
    notes: tuple = ()
    classes: tuple = ()

    def fit(self, train, *, query, seed):
        self.seen.append(numbers_of_threads())
        scope = fit_scope("majority", train.cell_ids)
        return dataclasses.replace(self, classes=tuple(sorted(set(train.labels.tolist()))), scopes=(scope,))

    def predict(self, query):
        self.seen.append(numbers_of_threads())
        n = len(self.classes)
        return AnnotatorOutput(classes=self.classes, probability=np.full((len(query.cell_ids), n), 1 / n))


@pytest.mark.parametrize(("asked", "expected"), [("", {1}), ("2", {2})], ids=["nobody says", "a user says two"])
def test_a_fit_has_one_thread_unless_the_user_says_how_many(simulated_study, monkeypatch, asked, expected):
    seen = []
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr(fitting, "make_model", lambda _, **__: Looking(seen))
    study = simulated_study(models=("majority",))
    with threadpool_limits(2):
        evaluate_study(study.snapshot, **study.arguments())
    assert seen
    assert set().union(*seen) == expected


@pytest.mark.models
def test_what_a_network_needs_is_loaded_before_its_threads_are_counted():
    pytest.importorskip("torch", reason="the [models] extra is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    found = subprocess.run(  # noqa: S603, PLW1510
        [sys.executable, "-W", "ignore", "-c", _LOADED_LATE], env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr

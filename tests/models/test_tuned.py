"""A network that starts from nothing, learns without labels and is then fine-tuned: where it starts, and what it was shown."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the [models] extra is not installed")
pytest.importorskip("transformers", reason="the [models] extra is not installed")

from cytolabe.errors import UsageError
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import NOT_CONVERGED, TunedAnnotator
from cytolabe.models.registry import make_model
from cytolabe.models.scgpt.source import ScgptScratchSource
from cytolabe.models.tuned import notes_of_start, start_fields
from cytolabe.records import Protocol

pytestmark = pytest.mark.models

START = {
    "geneformer": {"preset": "tiny", "panels": "flag", "n_steps": 3},
    "scgpt": {"preset": "tiny", "panels": "flag", "n_steps": 3, "max_length": 32, "ties": "mid"},
}
STILL = {"n_steps": 1, "learning_rate": 1e-12}
FAMILIES = ("geneformer", "scgpt")


def of_nothing(family):
    return {name: value for name, value in START[family].items() if name != "n_steps"}


def tuned(family, kind="scratch", **options):
    start = START[family] if kind == "scratch" else of_nothing(family)
    return make_model(f"{family}_{kind}_tuned", **{"start": start, **STILL, **options})


def trunk(fitted):
    """Return the weights that a fine-tuned network and what it starts from share, by name."""
    network = fitted.fitted.network if hasattr(fitted, "fitted") else fitted.model.network
    return {name: weight.detach().cpu().numpy().copy() for name, weight in network.state_dict().items()}


def of_start(started):
    network = getattr(started, "network", None) or started.model.network
    return {name: weight.detach().cpu().numpy().copy() for name, weight in network.state_dict().items()}


@pytest.fixture
def view(make_train):
    train = make_train(60)
    return make_train(60, labels=np.where(np.arange(60) % 4 == 0, "", train.labels).astype(object))


@pytest.mark.parametrize("kind", ["scratch", "random"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_fine_tuning_starts_from_a_copy_of_what_the_frozen_model_embeds_with(family, kind, view):
    model = tuned(family, kind)
    assert isinstance(model, TunedAnnotator)
    frozen = make_model(f"{family}_{kind}", **(START[family] if kind == "scratch" else of_nothing(family)))
    assert model.start == frozen
    started = frozen.fit(view, query=None, seed=3)
    before = of_start(started)
    fitted = model.tune(started, view, seed=3)
    shared = {name for name in trunk(fitted).keys() & before.keys() if not name.startswith("cls_decoder")}
    assert len(shared) > 20
    for name in shared:
        np.testing.assert_allclose(trunk(fitted)[name], before[name], atol=1e-6)
    moved = tuned(family, kind, n_steps=4, learning_rate=1e-2).tune(started, view, seed=3)
    assert any(np.abs(trunk(moved)[name] - before[name]).max() > 1e-3 for name in shared)
    for name, weight in of_start(started).items():
        np.testing.assert_array_equal(weight, before[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_in_two_steps_it_is_what_it_is_in_one_whatever_was_embedded_between(family, view, make_query):
    model, query = tuned(family, n_steps=3, learning_rate=1e-2), make_query(20)
    at_once = model.fit(view, query=None, seed=1)
    started = model.start.fit(view, query=None, seed=1)
    started.embed(query)
    in_two = model.tune(started, view, seed=1)
    np.testing.assert_array_equal(at_once.predict(query).probability, in_two.predict(query).probability)
    assert at_once.notes == in_two.notes
    assert at_once.scopes == in_two.scopes
    assert {scope.step: scope.n_cells for scope in in_two.scopes}[f"{family}/classes"] == 45
    assert {scope.n_cells for scope in in_two.scopes} == {45, 60}
    assert any(note.startswith(f"{NOT_CONVERGED} without labels") for note in in_two.notes)


@pytest.mark.parametrize("family", FAMILIES)
def test_its_words_are_fine_tuned_and_never_zero_shot_and_the_control_is_supervised(family):
    words = [tuned(family, kind).card.protocol for kind in ("scratch", "random")]
    assert words == [Protocol.FINE_TUNED, Protocol.SUPERVISED]
    for kind in ("scratch", "random"):
        card = CARDS[f"{family}_{kind}_tuned"]
        assert card.pretraining == ()
        assert card.n_seeds == CARDS[f"{family}_scratch"].n_seeds
        marked = tuned(family, kind, hierarchical=True)
        assert "coarse_labels" in marked.card.capabilities
        assert marked.learning.hierarchical


@pytest.mark.parametrize("family", FAMILIES)
def test_cells_are_read_alike_before_and_after_the_labels(family):
    model = tuned(family)
    assert model.learning.panels == model.start.learning.panels == "flag"
    if family == "scgpt":
        assert (model.learning.ties, model.learning.max_length) == ("mid", 32)


def test_a_wrong_start_is_told():
    with pytest.raises(
        UsageError, match=r"start has no option 'steps'\. Its options are those of geneformer_scratch: .*n_steps"
    ):
        make_model("geneformer_scratch_tuned", start={"steps": 3})
    with pytest.raises(UsageError, match="start has no option 'n_steps'"):
        make_model("scgpt_random_tuned", start={"n_steps": 3})
    with pytest.raises(UsageError, match="start must be a table"):
        start_fields("tiny", ScgptScratchSource, model="scgpt_scratch_tuned")
    with pytest.raises(UsageError, match=r"not from scratch\. Fine-tune it by scgpt_annotator"):
        make_model("scgpt_scratch_tuned", start={"checkpoint": "human"})
    with pytest.raises(UsageError, match="max_length = 9,999"):
        make_model("geneformer_random_tuned", max_length=9999)


def test_what_another_family_made_is_no_start(view):
    started = make_model("scgpt_random", **of_nothing("scgpt")).fit(view, query=None, seed=0)
    with pytest.raises(TypeError, match="starts from what geneformer_scratch made"):
        tuned("geneformer").tune(started, view, seed=0)
    other = make_model("geneformer_random", **of_nothing("geneformer")).fit(view, query=None, seed=0)
    with pytest.raises(TypeError, match="starts from what scgpt_scratch made"):
        tuned("scgpt").tune(other, view, seed=0)


def test_notes_say_which_training_they_are_of():
    told = notes_of_start(("trained for 3 steps", f"{NOT_CONVERGED}: the steps ran out first", "a panel: 60 genes"))
    assert told == ("without labels: trained for 3 steps", f"{NOT_CONVERGED} without labels: the steps ran out first")

import subprocess
import sys

import pytest

from cytolabe.errors import MissingExtraError, UsageError
from cytolabe.models.cards import CARDS
from cytolabe.models.protocols import TECHNICAL_COLUMNS, Embedder, Integrator
from cytolabe.models.registry import MODEL_NAMES, is_available, make_model, model_options
from cytolabe.records import UNKNOWN, FitOnQuery, Protocol


def test_every_model_has_a_card_under_its_own_name():
    assert tuple(CARDS) == MODEL_NAMES
    assert all(card.name == name for name, card in CARDS.items())


FROM_FILES = ("external", "geneformer", "geneformer_annotator", "precomputed", "scgpt")
"""Models whose card is that of a file."""


@pytest.mark.parametrize("name", [name for name in MODEL_NAMES if name not in FROM_FILES])
def test_made_model_carries_the_card_of_its_name(name):
    if not is_available(name)[0]:
        pytest.skip("extra not installed")
    assert make_model(name).card is CARDS[name]


def test_cards_read_technical_columns_only():
    assert all(set(card.inputs) <= set(TECHNICAL_COLUMNS) for card in CARDS.values())


def test_no_model_that_learns_here_claims_to_be_zero_shot_or_pretrained():
    learned = [card for name, card in CARDS.items() if name not in FROM_FILES]
    assert all(card.protocol is not Protocol.ZERO_SHOT and not card.pretraining for card in learned)


def test_exposure_of_a_file_is_unknown_and_never_clean():
    assert all(CARDS[name].pretraining == (UNKNOWN,) for name in FROM_FILES)


def test_models_that_meet_the_query_in_their_fit_say_so():
    assert CARDS["harmony"].fit_on_query is FitOnQuery.JOINT
    assert CARDS["scvi"].fit_on_query is FitOnQuery.UNLABELLED
    assert CARDS["scanvi"].fit_on_query is FitOnQuery.UNLABELLED
    assert CARDS["scgpt_integrator"].fit_on_query is FitOnQuery.UNLABELLED
    assert CARDS["pca"].fit_on_query is FitOnQuery.NONE


@pytest.mark.parametrize("name", [name for name in MODEL_NAMES if name not in FROM_FILES])
def test_a_joint_model_is_an_integrator_and_no_other_is(name):
    if not is_available(name)[0]:
        pytest.skip("extra not installed")
    model, is_joint = make_model(name), CARDS[name].fit_on_query is FitOnQuery.JOINT
    assert (isinstance(model, Integrator), isinstance(model, Embedder)) == (is_joint, not is_joint)
    assert ("integrate" in CARDS[name].capabilities) is is_joint


def test_unknown_model_is_answered_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean harmony"):
        make_model("harmonie")


def test_unknown_option_is_answered_with_the_nearest_one():
    with pytest.raises(UsageError, match="did you mean n_dims"):
        make_model("pca", n_dim=10)


def test_card_of_a_model_cannot_be_replaced_by_an_option():
    assert "card" not in model_options("pca")
    with pytest.raises(UsageError, match="no option 'card'"):
        make_model("pca", card=CARDS["majority"])


def test_missing_required_option_is_named():
    with pytest.raises(UsageError, match="path"):
        make_model("precomputed")


def test_missing_extra_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "harmonypy", None)
    assert is_available("harmony") == (False, "harmonypy is not installed. " + _REMEDY)
    with pytest.raises(MissingExtraError, match=r"pip install 'cytolabe\[models\]'"):
        make_model("harmony")


_REMEDY = "Install the extra: pip install 'cytolabe[models]'."


def test_registry_answers_without_importing_torch():
    code = (
        "import sys; from cytolabe.models.registry import MODEL_NAMES, is_available, make_model;"
        "[is_available(name) for name in MODEL_NAMES]; make_model('pca');"
        "sys.exit(any(m in sys.modules for m in ('torch', 'scvi', 'harmonypy', 'lightning', 'anndata', 'numba')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603

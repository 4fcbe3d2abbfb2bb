"""Models of other installed packages: found by name, imported when asked for, and their faults are theirs alone."""

import sys

import pytest

from cytolabe.errors import ModelFailedError, UsageError
from cytolabe.models.protocols import Annotator, Embedder, Integrator, QueryMapper
from cytolabe.models.registry import (
    MODEL_NAMES,
    card_named,
    is_available,
    make_model,
    model_options,
    offer_named,
    offered_names,
    refused_offers,
)
from cytolabe.provenance import digest_of


def test_a_model_of_another_package_is_made_with_its_options_and_a_card_that_names_the_package(
    install_package, make_train, make_query
):
    install_package("lab-models", "lab_mean = made_up_one:Mean", "made_up_one", version="2.1")
    assert offered_names() == ("lab_mean",)
    assert model_options("lab_mean") == ("n_genes",)
    assert is_available("lab_mean") == (True, "")
    model = make_model("lab_mean", n_genes=5)
    assert isinstance(model, Embedder | Annotator)
    assert not isinstance(model, QueryMapper)
    assert model.card == card_named("lab_mean")
    assert model.card.source == "lab-models 2.1; lab of B"
    assert model.fit(make_train(), query=None, seed=0).embed(make_query(8)).shape == (8, 5)
    with pytest.raises(UsageError, match="did you mean n_genes"):
        make_model("lab_mean", n_gene=5)
    with pytest.raises(UsageError, match="did you mean lab_mean"):
        make_model("lab_meen")


def test_another_version_or_other_code_is_another_card_or_digest(install_package, offered_code):
    install_package("lab-models", "lab_mean = made_up_two:Mean", "made_up_two", version="1.0")
    first, code = card_named("lab_mean"), offer_named("lab_mean").code
    install_package("lab-models", "lab_mean = made_up_two:Mean", "made_up_two", version="1.1")
    second = card_named("lab_mean")
    assert (first.source[:14], second.source[:14]) == ("lab-models 1.0", "lab-models 1.1")
    assert digest_of(first) != digest_of(second)
    assert offer_named("lab_mean").code == code
    changed = offered_code() + "\n# mended\n"
    install_package("lab-models", "lab_mean = made_up_two:Mean", "made_up_two", version="1.2", code=changed)
    assert offer_named("lab_mean").code != code


def test_a_model_that_maps_queries_still_does(install_package, offered_code, make_train, make_query):
    code = offered_code() + "\n    def map_query(self, fitted, query, *, seed):\n        return seed\n"
    install_package("lab-models", "lab_mean = made_up_mapper:Mean", "made_up_mapper", code=code)
    model = make_model("lab_mean")
    assert isinstance(model, QueryMapper)
    fitted = model.fit(make_train(), query=None, seed=0)
    assert model.map_query(fitted, make_query(), seed=7) == 7


def test_a_joint_method_is_an_integrator_and_no_embedder(install_package, offered_integrator, make_train, make_query):
    install_package("lab-models", "lab_joint = made_up_joint:Joint", "made_up_joint", code=offered_integrator())
    model = make_model("lab_joint", n_genes=5)
    assert isinstance(model, Integrator)
    assert not isinstance(model, Embedder | QueryMapper)
    fitted = model.integrate(make_train(), query=make_query(8), seed=0)
    assert fitted.embed(make_query(8)).shape == (8, 5)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        pytest.param("FitOnQuery.JOINT", "FitOnQuery.NONE", "fit_on_query = none", id="integrate, and a card that is not joint"),
        pytest.param("def integrate", "def fit", "fit_on_query = joint", id="a joint card, and fit"),
        pytest.param("FitOnQuery.JOINT", "FitOnQuery.UNLABELLED", "fit_on_query = unlabelled_query", id="a mapper's card"),
        pytest.param("source=", 'capabilities=("predict_labels",), source=', "an Integrator sees none", id="labels"),
        pytest.param("    def integrate", "    def fit(self): ...\n    def integrate", "both methods", id="both"),
    ],
)  # fmt: skip
def test_what_a_card_says_of_the_query_has_to_be_what_the_model_does(
    install_package, offered_integrator, old, new, word, request
):
    module = f"made_up_{abs(hash(request.node.callspec.id))}"
    install_package("lab-models", f"lab_joint = {module}:Joint", module, code=offered_integrator().replace(old, new))
    with pytest.raises(UsageError, match=r"lab-models 1\.0") as raised:
        make_model("lab_joint")
    assert word in str(raised.value)


def test_a_card_that_an_option_turns_is_a_failure(install_package, offered_integrator):
    code = offered_integrator() + (
        "    def __post_init__(self):\n        object.__setattr__(self, 'card', "
        "dataclasses.replace(self.card, fit_on_query=FitOnQuery.NONE))\n"
    )
    install_package("lab-models", "lab_joint = made_up_turned:Joint", "made_up_turned", code=code)
    with pytest.raises(ModelFailedError, match="made with a card that says fit_on_query = none"):
        make_model("lab_joint")


def test_a_name_of_ours_cannot_be_taken(install_package):
    install_package("thief", "pca = made_up_three:Mean\ntotalvi = made_up_three:Mean", "made_up_three")
    assert type(make_model("pca")).__name__ == "PcaEmbedder"
    assert offer_named("pca") is None
    assert offered_names() == ()
    assert {(offer.name, offer.told) for offer, _ in refused_offers()} == {
        ("pca", "thief 1.0"),
        ("totalvi", "thief 1.0"),
    }
    assert all("is a model of cytolabe" in why for _, why in refused_offers())
    assert "made_up_three" not in sys.modules


def test_a_name_that_two_packages_offer_is_nobodys(install_package):
    install_package("lab-one", "lab_mean = made_up_four:Mean", "made_up_four")
    install_package("lab-two", "lab_mean = made_up_five:Mean", "made_up_five")
    with pytest.raises(UsageError, match=r"lab-one 1\.0, lab-two 1\.0"):
        make_model("lab_mean")
    available, why = is_available("lab_mean")
    assert not available
    assert "remove one of them" in why
    assert not {"made_up_four", "made_up_five"} & set(sys.modules)


NOT_A_CARD = "import dataclasses\n@dataclasses.dataclass\nclass Mean:\n    n: int = 1\n    def fit(self): ...\n"


@pytest.mark.parametrize(
    ("code", "word"),
    [
        pytest.param("import no_such_library_anywhere", "no_such_library_anywhere", id="import fails"),
        pytest.param("raise SystemExit(3)", "SystemExit", id="import leaves"),
        pytest.param("Other = 1", "AttributeError", id="no such object"),
        pytest.param("Mean = 1", "no dataclass", id="no class"),
        pytest.param("import dataclasses\n@dataclasses.dataclass\nclass Mean:\n    n: int = 1\n", "no method fit(train, *, query, seed) and integrate", id="no fit"),
        pytest.param(NOT_A_CARD, "ModelCard", id="no card"),
        pytest.param(['name="lab_mean"', 'name="pca"'], "called 'pca'", id="card of another name"),
        pytest.param([", init=False\n    )", "\n    )"], "as an option", id="card by option"),
        pytest.param(['name="lab_mean"', 'name="lab_mean", capabilities=("fit",)'], "neither of", id="no capability"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_told_with_its_package_and_breaks_no_other(
    install_package, offered_code, code, word, request
):
    code = code if isinstance(code, str) else offered_code().replace(*code, 1)
    module = f"made_up_{abs(hash(request.node.callspec.id))}"
    install_package("broken-lab", f"lab_mean = {module}:Mean", module, code=code)
    install_package("good-lab", "good_mean = made_up_good:Mean", "made_up_good", code=offered_code("good_mean"))
    with pytest.raises(UsageError, match=r"broken-lab 1\.0") as raised:
        make_model("lab_mean")
    assert word in str(raised.value)
    available, why = is_available("lab_mean")
    assert not available
    assert word in why
    assert card_named("lab_mean") is None
    assert make_model("good_mean").card.name == "good_mean"
    assert all(make_model(name) for name in ("majority", "pca"))


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        pytest.param("[cytolabe.models]\nno value here\n", "entry_points.txt cannot be read", id="unreadable list"),
        pytest.param("[cytolabe.models]\nlab+knn = a:B\n", "begins with a letter", id="name with a probe"),
    ],
)
def test_an_entry_that_cannot_be_a_name_is_told_and_breaks_no_other(install_package, entries, word):
    install_package("broken-lab", entries)
    install_package("good-lab", "lab_mean = made_up_six:Mean", "made_up_six")
    ((offer, why),) = refused_offers()
    assert offer.told == "broken-lab 1.0"
    assert word in why
    assert make_model("lab_mean")


def test_a_model_that_cannot_be_made_is_a_failure_that_names_the_package(install_package):
    install_package("lab-models", "lab_mean = made_up_seven:Mean", "made_up_seven")
    with pytest.raises(ModelFailedError, match=r"lab-models 1\.0 cannot be made: ValueError: n_genes must"):
        make_model("lab_mean", n_genes=0)


def test_a_package_whose_models_nobody_asks_for_is_not_imported(install_package):
    install_package("lab-models", "lab_mean = made_up_eight:Mean", "made_up_eight")
    assert offered_names() == ("lab_mean",)
    assert make_model(MODEL_NAMES[0])
    assert "made_up_eight" not in sys.modules

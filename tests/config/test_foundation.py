"""The comparison of foundation models has its controls, whichever models are put into it."""

from pathlib import Path

import pytest

from cytolabe.config.recipe import read_study_on_recipe
from cytolabe.config.study import read_study
from cytolabe.models.cards import CARDS
from cytolabe.records import Protocol

STUDIES = Path(__file__).resolve().parents[2] / "studies"


def test_beside_each_network_from_scratch_stands_one_that_learned_nothing():
    names = [model.name for model in read_study(STUDIES / "foundation.toml", data=STUDIES).models]
    scratch = [name for name in names if name.endswith("_scratch")]
    assert scratch == ["geneformer_scratch", "scgpt_scratch"]
    for name in scratch:
        control = name.replace("_scratch", "_random")
        assert control in names
        assert (CARDS[name].protocol, CARDS[control].protocol) == (Protocol.SELF_SUPERVISED, Protocol.CONTROL)
    assert {"majority", "metadata_only", "hvg", "pca", "harmony", "scvi"} <= set(names)


def test_each_network_from_scratch_is_fine_tuned_as_well_beside_one_that_saw_nothing_without_labels():
    found = {model.name: model.options for model in read_study(STUDIES / "foundation.toml", data=STUDIES).models}
    for family in ("geneformer", "scgpt"):
        tuned, control = f"{family}_scratch_tuned", f"{family}_random_tuned"
        assert (CARDS[tuned].protocol, CARDS[control].protocol) == (Protocol.FINE_TUNED, Protocol.SUPERVISED)
        assert found[tuned].get("start", {}) == found[f"{family}_scratch"]
        assert found[control].get("start", {}) == found[f"{family}_random"]
        assert {name: value for name, value in found[tuned].items() if name != "start"} == {
            name: value for name, value in found[control].items() if name != "start"
        }


def test_few_labels_are_asked_on_both_axes():
    few = read_study(STUDIES / "foundation.toml", data=STUDIES).limited_labels
    assert few is not None
    assert few.cells_per_type == (1, 5, 10, 50)
    assert few.donors


def test_a_random_network_reads_what_the_one_that_learns_reads():
    for name in ("geneformer", "scgpt"):
        control, learned = CARDS[f"{name}_random"], CARDS[f"{name}_scratch"]
        assert (control.value_semantics, control.gene_ids) == (learned.value_semantics, learned.gene_ids)


def test_the_simulated_study_asks_the_same_models_and_labels_and_says_that_it_is_simulated():
    real, simulated = (
        read_study(STUDIES / f"{name}.toml", data=STUDIES) for name in ("foundation", "foundation_simulated")
    )
    assert simulated.models == real.models
    assert simulated.limited_labels == real.limited_labels
    assert len(simulated.datasets) == 3
    assert {dataset.manifest.label_origin for dataset in simulated.datasets} == {"simulated"}
    assert "SIMULATED" in simulated.title


@pytest.mark.parametrize("name", ["hlca_core", "tabula_sapiens", "aida_v2"])
def test_the_same_file_runs_unchanged_on_every_recipe(name):
    asked, given = (read_study(STUDIES / f"{one}.toml", data=STUDIES) for one in ("foundation", name))
    both = read_study_on_recipe(STUDIES / "foundation.toml", recipe=STUDIES / f"{name}.toml", data=STUDIES)
    assert (both.models, both.limited_labels) == (asked.models, asked.limited_labels)
    assert (both.datasets, both.levels, both.by) == (given.datasets, given.levels, given.by)
    # The recipe is of another organ, and no claim of the study speaks of the files that it names itself as if they were all.
    assert not [claim for claim in asked.claims if claim.startswith("Two labelled files")]

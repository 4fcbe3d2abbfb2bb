"""What is known of the hops of one source: its own attributes, its manifest, and the folder beside it."""

import pytest

from cytolabe.config.manifest import Manifest
from cytolabe.ingest.pipelines import declared_hops
from cytolabe.ingest.sources import SourceFile

from .conftest import write_matrix


@pytest.fixture
def matrix(tmp_path):
    return write_matrix(
        tmp_path / "a.h5", chemistry_description="Single Cell 3' v3", library_ids=["pbmc_a"], software_version="7.1.0"
    )


def source(path, **said):
    return SourceFile(path=path, manifest=Manifest(**said), dataset_id="a")


def test_a_matrix_of_cell_ranger_brings_its_hops_without_a_word_of_the_manifest(matrix):
    found = declared_hops(source(matrix), is_tenx_h5=True)
    assert found.words == {
        "alignment": "Cell Ranger 7.1.0",
        "kit": "chemistry Single Cell 3' v3",
        "library": "library ids pbmc_a",
        "reference": "genome GRCh38",
    }
    assert {state for hop, state in found.states.items() if hop != "reads"} == {"declared"}
    assert (found.states["reads"], found.findings) == ("unknown", ())


def test_words_of_the_manifest_go_before_those_of_the_file_where_they_agree(matrix):
    found = declared_hops(source(matrix, kit="10x 3' v3", reads="SRR1"), is_tenx_h5=True)
    assert (found.words["kit"], found.words["reads"]) == ("10x 3' v3", "SRR1")


def test_a_manifest_that_names_another_version_than_the_file_is_told(matrix):
    found = declared_hops(source(matrix, alignment="Cell Ranger 3.0.2"), is_tenx_h5=True)
    assert [finding.code for finding in found.findings] == ["W-PIPELINE-04"]
    assert found.states["alignment"] == "unknown"
    assert "alignment" not in found.words


def test_an_attribute_that_names_no_version_is_told_and_nothing_of_the_file_is_used(tmp_path):
    path = write_matrix(tmp_path / "a.h5", software_version="unknown build", library_ids=["x"])
    found = declared_hops(source(path), is_tenx_h5=True)
    assert [finding.code for finding in found.findings] == ["W-PIPELINE-02"]
    assert found.words == {}


def test_nothing_said_is_unknown_on_every_hop(tmp_path):
    found = declared_hops(source(tmp_path / "a.h5ad"))
    assert set(found.states.values()) == {"unknown"}
    assert (found.words, found.evidence, found.findings) == ({}, (), ())

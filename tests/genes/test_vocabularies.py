"""Vocabularies of models: what is read, and how much of a data set they cover."""

import json
import pathlib

import numpy as np
import pytest

from cytolabe.errors import UnreadableInputError, UsageError
from cytolabe.genes import align_features, load_reference
from cytolabe.genes.vocabularies import coverage_of, read_vocabulary

MODELS = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data" / "models"
HUMAN = load_reference()
CD4, CD3D, CD8A = "ENSG00000010610", "ENSG00000167286", "ENSG00000153563"


def vocabulary(tmp_path, names):
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps({name: token for token, name in enumerate(names)}), encoding="utf-8")
    return read_vocabulary(path)


def test_names_are_compared_by_gene_and_special_tokens_are_none(tmp_path):
    found = vocabulary(tmp_path, ["<pad>", "CD4", CD8A, "KIAA1522"])
    assert found.names == ("CD4", CD8A, "KIAA1522")
    assert found.genes(HUMAN) == {CD4, CD8A, HUMAN.primary.ids_of["NHSL3"][0]}


def test_coverage_is_told_of_genes_and_of_counts_without_spike_ins(tmp_path):
    genes = vocabulary(tmp_path, ["CD4"]).genes(HUMAN)
    alignment, _ = align_features([CD4, CD3D, "nothing", "ERCC-00002"], np.array([60, 20, 20, 900]), reference=HUMAN)
    found = coverage_of(alignment, genes)
    assert (found.n_genes, found.n_covered, found.genes_covered_fraction) == (2, 1, 0.5)
    assert found.counts_covered_fraction == pytest.approx(0.6)
    everything = coverage_of(alignment, frozenset(HUMAN.ids))
    assert everything.genes_covered_fraction == 1.0
    assert everything.counts_covered_fraction == pytest.approx(alignment.genes_mapped_fraction_of_counts)


@pytest.mark.parametrize("content", [b"[1, 2]", b"{}", b"{", b"\x80\x04K\x01."])
def test_what_is_no_vocabulary_is_refused(tmp_path, content):
    path = tmp_path / "vocab"
    path.write_bytes(content)
    with pytest.raises(UnreadableInputError, match="vocab"):
        read_vocabulary(path)


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.json"):
        read_vocabulary(tmp_path / "nowhere.json")


@pytest.mark.skipif(not MODELS.exists(), reason="needs the real vocabularies beside the checkout")
@pytest.mark.parametrize(
    ("name", "n_names", "least"),
    [
        ("geneformer_token_dictionary.pkl", 25_424, 0.86),
        ("scgpt_default_gene_vocab.json", 48_289, 0.60),
        ("scgpt_default_census_vocab.json", 60_691, 0.90),
    ],
)
def test_real_vocabularies_lead_to_genes(name, n_names, least):
    found = read_vocabulary(MODELS / name)
    assert len(found.names) == pytest.approx(n_names, abs=3)
    assert len(found.genes(HUMAN)) >= least * len(found.names)

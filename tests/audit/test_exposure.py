"""Unknown exposure is never called clean: `in` by what is known, `out` by dated samples only."""

import re
from dataclasses import replace
from datetime import date

import pytest

from cytolabe.audit.exposure import exposure_of, exposure_to_ledger
from cytolabe.models.cards import CARDS, precomputed_card
from cytolabe.models.pretraining import corpora, corpora_of
from cytolabe.records import DatasetRecord, FitOnQuery, MatrixKind, ModelCard, Protocol

CARD = ModelCard(
    name="scgpt-whole-human", title="", gene_ids="", value_semantics="", capabilities=(), protocol=Protocol.ZERO_SHOT,
    fit_on_query=FitOnQuery.NONE, unit_of_inference="cell", determinism="", licence="", source="",
    pretraining=("scgpt-whole-human",),
)  # fmt: skip


def record(**said: str) -> DatasetRecord:
    title = said.pop("title", "a data set")
    return DatasetRecord(
        dataset_id="d", title=title, source_digest="", matrix="X", matrix_kind=MatrixKind.UMI, n_cells=1, n_features=1,
        n_nonzero=1, organism="Homo sapiens", study="s", declared=said,
    )  # fmt: skip


def judged(card: ModelCard, **said: str) -> tuple[str, str]:
    (found,) = exposure_of(card, {"d": 7}, train=[], records={"d": record(**said)})
    assert found.n_cells == 7
    return found.status, found.evidence


@pytest.mark.parametrize(
    ("collected", "status"),
    [("", "unknown"), ("2023-07-14", "unknown"), ("2023", "unknown"), ("2022-01-01", "unknown"), ("2023-07-15", "out")],
)
def test_only_samples_that_are_dated_after_the_corpus_are_out(collected, status):
    found, evidence = judged(CARD, collected=collected, date="2026-01-01")
    assert found == status
    assert "2023-07-14" in evidence


def test_a_corpus_without_a_date_makes_nothing_out():
    card = replace(CARD, name="scGPT_CP", pretraining=("scgpt-continual-pretrained",))
    assert judged(card, collected="2026-01-01")[0] == "unknown"


@pytest.mark.parametrize(
    "said", [{"title": "Tabula Sapiens - Lung"}, {"doi": "10.1126/science.abl4896"},
             {"collection": "https://cellxgene.cziscience.com/collections/e5f58829-1a66-40b5-a624-9046778e74f5"}],
)  # fmt: skip
def test_tabula_sapiens_is_in_the_continually_pretrained_scgpt_with_its_labels(said):
    status, evidence = judged(replace(CARD, pretraining=("scgpt-continual-pretrained",)), **said)
    assert status == "in"
    assert "its labels were used (cell types of Tabula Sapiens)" in evidence


def test_tabula_sapiens_is_unknown_to_the_whole_human_scgpt_and_not_clean():
    assert judged(CARD, title="Tabula Sapiens")[0] == "unknown"


def test_a_data_set_on_the_list_of_a_card_is_in():
    assert judged(replace(CARD, pretraining=("d",)), collected="2026-01-01")[0] == "in"


def test_the_name_of_a_file_can_convict_it_and_never_acquit_it():
    card = precomputed_card("scGPT_CP", capability="embed_cells", weights_digest="sha256:1")
    assert judged(card, title="tabula sapiens")[0] == "in"
    other = precomputed_card("geneformer-v1-10m", capability="embed_cells", weights_digest="sha256:1")
    assert [corpus.corpus_id for corpus in corpora_of(other)] == ["genecorpus-30m"]
    assert judged(other, collected="2026-01-01")[0] == "unknown"


def test_what_is_trained_here_is_out_whatever_it_is_called():
    card = replace(CARD, name="geneformer-v1-10m", protocol=Protocol.SUPERVISED, pretraining=())
    assert judged(card)[0] == "out"


def test_what_made_its_start_here_and_was_then_fine_tuned_is_out_and_any_other_fine_tuned_model_has_a_history():
    made_here = CARDS["geneformer_scratch_tuned"]
    assert made_here.protocol is Protocol.FINE_TUNED
    assert judged(made_here)[0] == "out"
    assert judged(replace(made_here, weights_digest="sha256:a"))[0] == "unknown"
    assert judged(replace(made_here, capabilities=("predict_labels", "fit")))[0] == "unknown"
    assert judged(replace(made_here, pretraining=("d",)))[0] == "in"


@pytest.mark.parametrize(
    ("model", "corpus"),
    [("Geneformer-V1-10M", "genecorpus-30m"), ("gf-12L-95M-i4096_CLcancer", "genecorpus-95m-cancer"),
     ("Geneformer_V2_316M", "genecorpus-104m"), ("scGPT_human", "scgpt-whole-human"), ("UCE-33L", "uce-ima"),
     ("scgpt_whole_human+knn", "scgpt-whole-human"), ("scvi_census_2023-12-15", "census-scvi-2023-12-15")],
)  # fmt: skip
def test_a_corpus_is_found_by_the_name_of_a_model_however_it_is_spelled(model, corpus):
    assert [one.corpus_id for one in corpora_of(replace(CARD, name=model, pretraining=()))] == [corpus]


@pytest.mark.parametrize("model", ["geneformer", "scgpt", "pca"])
def test_a_name_that_several_weights_share_is_none_of_them(model):
    assert corpora_of(replace(CARD, name=model, pretraining=())) == ()


def test_every_entry_of_the_ledger_has_a_source_and_dates_that_are_dates():
    names: list[str] = []
    for corpus in corpora().values():
        assert corpus.sources
        assert all(source.url.startswith("https://") and source.says for source in corpus.sources)
        assert corpus.rule
        assert not corpus.not_after or date.fromisoformat(corpus.not_after) >= date(2021, 6, 1)
        assert re.fullmatch(r"(\d{4}(-\d\d){0,2})?", corpus.stated)
        assert not corpus.not_after or corpus.stated[: len(corpus.stated)] <= corpus.not_after
        assert all(member.words == tuple(word.lower() for word in member.words) for member in corpus.members)
        assert not any(member.with_labels for member in corpus.members) or corpus.labels
        names += corpus.models
    assert len(names) == len(set(names))


def test_every_published_corpus_is_asked_of_every_data_set():
    found = exposure_to_ledger({"d": 3, "e": 4}, {"d": record(title="Tabula Sapiens"), "e": record()})
    assert len(found) == 2 * len(corpora())
    assert {(one.model, one.dataset_id) for one in found if one.status == "in"} == {("scgpt-continual-pretrained", "d")}
    assert {one.status for one in found} == {"in", "unknown"}

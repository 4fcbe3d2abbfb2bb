"""Several modalities in one network: tokens of each, one <cls>, and an embedding that reads them all."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.sparse import csr_matrix

torch = pytest.importorskip("torch", reason="the [models] extra is not installed")

from cytolabe.errors import UnmeasuredGeneError, UsageError  # noqa: E402
from cytolabe.models.omics import Measured, OmicsCells  # noqa: E402
from cytolabe.models.scgpt.checkpoint import load_scgpt, save_scgpt  # noqa: E402
from cytolabe.models.scgpt.omics import extended, fit_omics, joined  # noqa: E402
from cytolabe.models.scgpt.source import Learning  # noqa: E402
from cytolabe.models.scgpt.tokens import ScgptTokenizer  # noqa: E402
from cytolabe.models.scgpt.vocabulary import read_scgpt_vocabulary  # noqa: E402
from cytolabe.records import Protocol  # noqa: E402

pytestmark = pytest.mark.models

LEARNING = Learning(preset="tiny", n_steps=4, learning_rate=3e-3, warm_up=1, ties="mid")
RNA, PROTEIN = tuple(f"GENE{n}" for n in range(20)), ("GENE3", "CD3", "CD19")


def omics(n_cells=40, *, seed=0, n_batches=2):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n_cells)
    rna = rng.poisson(0.7 + kind[:, None] * (np.arange(20) < 5), (n_cells, 20))
    protein = rng.poisson(5 + 40 * np.stack([kind, kind, 1 - kind], axis=1))
    return OmicsCells(
        cell_ids=np.array([f"c{n}" for n in range(n_cells)], dtype=object),
        modalities={
            "rna": Measured(counts=csr_matrix(rna), features=RNA),
            "protein": Measured(counts=csr_matrix(protein), features=PROTEIN, prefix="p_"),
        },
        batches=np.arange(n_cells) % n_batches,
        persons=np.array([f"p{n % 4}" for n in range(n_cells)], dtype=object),
    )


def test_tokens_of_all_modalities_stand_behind_one_cls_with_bins_of_their_own():
    cells = omics()
    names = {name: n for n, name in enumerate((*RNA, *cells.modalities["protein"].names))}
    vocabulary = read_scgpt_vocabulary(json.dumps(names).encode(), where="vocab.json")
    parts = [
        ScgptTokenizer(vocabulary=vocabulary, genes=one.names, ties="lower").tokenize(
            one.counts, cell_ids=cells.cell_ids, seed=0
        )
        for one in cells.modalities.values()
    ]
    whole, codes = joined(parts)
    assert (whole.lengths == parts[0].lengths + parts[1].lengths - 1).all()
    for cell in range(40):
        own = slice(whole.bounds[cell], whole.bounds[cell + 1])
        pieces = [
            (
                part.genes[part.bounds[cell] + 1 : part.bounds[cell + 1]],
                part.values[part.bounds[cell] + 1 : part.bounds[cell + 1]],
            )
            for part in parts
        ]
        assert whole.genes[own].tolist() == [vocabulary.tokens["<cls>"], *pieces[0][0], *pieces[1][0]]
        assert whole.values[own].tolist() == [-2, *pieces[0][1], *pieces[1][1]]
        assert codes[own].tolist() == [1, *[2] * len(pieces[0][0]), *[3] * len(pieces[1][0])]


def test_both_modalities_move_the_embedding_and_others_cells_do_not():
    cells = omics()
    fitted = fit_omics(cells, LEARNING, seed=0)
    whole = fitted.embed(cells)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
    for name in ("rna", "protein"):
        less = dataclasses.replace(
            cells.modalities[name], counts=csr_matrix(cells.modalities[name].counts.shape, dtype=np.int64)
        )
        without = dataclasses.replace(cells, modalities={**cells.modalities, name: less})
        assert np.abs(fitted.embed(without) - whole).max() > 1e-2
    one = OmicsCells(
        cell_ids=cells.cell_ids[7:8],
        modalities={k: dataclasses.replace(m, counts=m.counts[7:8]) for k, m in cells.modalities.items()},
        batches=cells.batches[7:8],
        persons=cells.persons[7:8],
    )
    np.testing.assert_allclose(fitted.embed(one)[0], whole[7], atol=1e-6)
    assert [(scope.step, scope.n_cells) for scope in fitted.scopes] == [("scgpt/omics", 40)]
    assert fitted.model.origin.protocol is Protocol.SELF_SUPERVISED


def test_masked_counts_of_all_modalities_are_learned():
    quick = dataclasses.replace(LEARNING, n_steps=40, check_every=20)
    fitted = fit_omics(omics(80, n_batches=1), quick, seed=0)
    assert fitted.model.config.n_batches == 0
    assert any("best at step 40" in note for note in fitted.notes)


def test_two_passes_of_a_cell_are_contrasted_where_it_is_asked():
    cells, quick = omics(), dataclasses.replace(LEARNING, n_steps=2)
    plain, off, on = (fit_omics(cells, quick, seed=0, **told).embed(cells) for told in ({}, {"contrast": 0.0}, {"contrast": 10.0}))  # fmt: skip
    np.testing.assert_array_equal(plain, off)
    assert np.abs(plain - on).max() > 1e-4


def test_only_rows_of_known_genes_are_inherited_from_a_checkpoint(tmp_path):
    first = fit_omics(omics(n_batches=1), LEARNING, seed=0)
    save_scgpt(first.model, tmp_path)
    base = load_scgpt(tmp_path)
    more = extended(base, ("peak1", "GENE4", "peak2"), seed=3, fields={})
    assert len(more.vocabulary) == len(base.vocabulary) + 2
    assert more.vocabulary.tokens["peak1"] == len(base.vocabulary)
    old, new = (model.network.state_dict() for model in (base, more))
    assert torch.equal(new["encoder.embedding.weight"][: len(base.vocabulary)], old["encoder.embedding.weight"])
    name = "transformer_encoder.layers.0.linear1.weight"
    assert not torch.equal(new[name], old[name])
    assert more.vocabulary.digest != base.vocabulary.digest
    tuned = fit_omics(omics(), dataclasses.replace(LEARNING, checkpoint=tmp_path), seed=1)
    assert tuned.model.origin.protocol is Protocol.FINE_TUNED
    assert [scope.step for scope in tuned.scopes] == ["scgpt/omics", "scgpt/omics"]


def test_features_of_one_name_need_a_prefix_and_cells_have_to_be_the_same():
    cells = omics()
    bare = dataclasses.replace(cells.modalities["protein"], prefix="")
    with pytest.raises(UsageError, match="'GENE3'"):
        dataclasses.replace(cells, modalities={**cells.modalities, "protein": bare})
    with pytest.raises(UsageError, match="protein: counts are"):
        dataclasses.replace(
            cells, modalities={"protein": dataclasses.replace(bare, counts=cells.modalities["protein"].counts[:3])}
        )
    with pytest.raises(UsageError, match="No modality"):
        fit_omics(dataclasses.replace(cells, modalities={}), LEARNING, seed=0)


def test_other_features_than_those_of_the_fit_are_refused():
    cells = omics()
    fitted = fit_omics(cells, dataclasses.replace(LEARNING, n_steps=1), seed=0)
    with pytest.raises(UnmeasuredGeneError, match="protein"):
        fitted.embed(dataclasses.replace(cells, modalities={"rna": cells.modalities["rna"]}))

"""What scGPT reads of a cell: bins by the rule of the original, and nothing that another cell could move."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.errors import NotRawCountsError, UsageError
from cytolabe.genes import load_reference
from cytolabe.models.scgpt import vocabulary as vocabularies
from cytolabe.models.scgpt.tokens import ScgptTokenizer
from cytolabe.models.scgpt.vocabulary import read_scgpt_vocabulary

NAMES = [f"GENE{number}" for number in range(30)]
VOCABULARY = read_scgpt_vocabulary(json.dumps({name: n for n, name in enumerate(NAMES)}).encode(), where="vocab.json")
PAD, CLS = VOCABULARY.tokens["<pad>"], VOCABULARY.tokens["<cls>"]


def tokenizer(genes=NAMES, **changes):
    return ScgptTokenizer(vocabulary=VOCABULARY, genes=tuple(genes), **changes)


def cells_of(found):
    """Return (genes, values) of each cell."""
    pairs = zip(found.bounds[:-1], found.bounds[1:], strict=True)
    return [(found.genes[a:b].tolist(), found.values[a:b].tolist()) for a, b in pairs]


def ids(n_cells):
    return [f"lab:cell{number}" for number in range(n_cells)]


@settings(deadline=None, max_examples=60)
@given(rng=st.integers(0, 2**32 - 1), n_bins=st.integers(3, 60), ties=st.sampled_from(["lower", "mid", "random"]))
def test_values_are_the_quantile_bins_of_the_genes_that_the_vocabulary_has(rng, n_bins, ties):
    counts = np.random.default_rng(rng).poisson(1.5, (5, 33))
    genes = [*NAMES, "OTHER1", "OTHER2", "OTHER3"]
    found = cells_of(tokenizer(genes, n_bins=n_bins, ties=ties).tokenize(csr_matrix(counts), cell_ids=ids(5), seed=3))
    for row, (tokens, values) in zip(counts[:, :30], found, strict=True):
        expressed = np.flatnonzero(row)
        assert tokens == [CLS, *expressed.tolist()]
        assert values[0] == -2
        if not len(expressed):
            continue
        edges = np.quantile(row[expressed], np.linspace(0, 1, n_bins - 1))
        left, right = np.digitize(row[expressed], edges), np.digitize(row[expressed], edges, right=True)
        low = np.minimum(right + 1, left)
        if ties == "random":
            assert (low <= values[1:]).all()
            assert (values[1:] <= left).all()
        else:
            assert values[1:] == (low if ties == "lower" else (low + left) // 2).tolist()


@settings(deadline=None, max_examples=40)
@given(rng=st.integers(0, 2**32 - 1), max_length=st.sampled_from([2, 7, 15, 1200]))
def test_a_cell_has_the_same_tokens_in_any_order_chunk_company_and_panel(rng, max_length):
    rng = np.random.default_rng(rng)
    counts, names = rng.poisson(1.0, (12, 30)), np.array(ids(12))
    together = cells_of(tokenizer(max_length=max_length).tokenize(csr_matrix(counts), cell_ids=names, seed=5))
    order, columns = rng.permutation(12), rng.permutation(30)
    moved = tokenizer([NAMES[c] for c in columns], max_length=max_length)
    found = cells_of(moved.tokenize(csr_matrix(counts[order][:, columns]), cell_ids=names[order], seed=5))
    assert found == [together[cell] for cell in order]
    wide = tokenizer([*NAMES, "OTHER"], max_length=max_length)
    more = np.hstack([counts[3:5], rng.poisson(9.0, (2, 1))])
    assert cells_of(wide.tokenize(csr_matrix(more), cell_ids=names[3:5], seed=5)) == together[3:5]
    assert all(len(tokens) <= max_length for tokens, _ in together)


def test_a_long_cell_is_sampled_after_binning_and_evenly():
    counts = csr_matrix(np.tile(np.arange(1, 31), (3000, 1)))
    rule = tokenizer(max_length=11, ties="lower")
    found = rule.tokenize(counts, cell_ids=ids(3000), seed=1)
    whole = dict(zip(*cells_of(tokenizer(ties="lower").tokenize(counts[:1], cell_ids=ids(1), seed=1))[0], strict=True))
    assert (found.lengths == 11).all()
    genes, values = found.genes.reshape(3000, 11)[:, 1:], found.values.reshape(3000, 11)[:, 1:]
    assert (values == np.vectorize(whole.get)(genes)).all()
    assert (np.abs(np.bincount(genes.ravel(), minlength=30) - 1000) < 6 * np.sqrt(3000 / 3 * 2 / 3)).all()
    other = rule.tokenize(counts, cell_ids=ids(3000), seed=2)
    assert (other.genes != found.genes).mean() > 0.5


def test_zeros_are_tokens_where_a_task_keeps_them():
    counts = csr_matrix(np.array([[0] * 29 + [4], [0] * 30]))
    found = cells_of(tokenizer(keeps_zeros=True, cls_value=0).tokenize(counts, cell_ids=ids(2), seed=0))
    assert found[0][0] == [CLS, *range(30)]
    assert found[0][1][:-1] == [0.0] * 30
    assert found[0][1][-1] > 0
    assert found[1][1] == [0.0] * 31
    assert [len(cell[0]) for cell in cells_of(tokenizer().tokenize(counts, cell_ids=ids(2), seed=0))] == [2, 1]


def test_minibatches_hold_each_cell_once_with_its_tokens_and_a_width_of_its_own():
    counts = csr_matrix(np.random.default_rng(0).poisson(0.8, (40, 30)))
    found = tokenizer().tokenize(counts, cell_ids=ids(40), seed=0)
    seen = {}
    for minibatch in found.by_length(tokens_per_minibatch=200):
        assert minibatch.genes.size <= 200
        for row, genes, values, padding in zip(
            minibatch.rows, minibatch.genes, minibatch.values, minibatch.padding, strict=True
        ):
            assert row not in seen
            seen[row] = (genes[~padding].tolist(), values[~padding].tolist())
            assert (genes[padding] == PAD).all()
            assert (values[padding] == -2).all()
            assert not padding[0]
            assert len(genes) - (~padding).sum() < 32
    assert [seen[row] for row in range(40)] == cells_of(found)


def test_values_that_are_no_counts_are_refused():
    with pytest.raises(NotRawCountsError, match="hand in raw counts"):
        tokenizer().tokenize(csr_matrix(np.full((1, 30), 0.7)), cell_ids=ids(1), seed=0)


def test_a_vocabulary_that_knows_none_of_the_genes_is_refused():
    with pytest.raises(UsageError, match=r"None of 1 genes .*'ENSG00000141510'"):
        tokenizer(["ENSG00000141510"])


def test_two_columns_of_one_gene_are_refused():
    named = read_scgpt_vocabulary(json.dumps({"TP53": 0, "CD3D": 1}).encode(), where="vocab.json")
    with pytest.raises(UsageError, match="TP53, ENSG00000141510 are one gene"):
        ScgptTokenizer(
            vocabulary=named, genes=("TP53", "CD3D", "ENSG00000141510"), reference=load_reference("Homo sapiens")
        )


def test_a_vocabulary_is_led_to_the_ids_of_a_reference_once_however_many_data_sets_are_read(monkeypatch):
    human, mouse = load_reference(), load_reference("Mus musculus")
    genes = sorted(human.protein_coding)[:20]
    symbols = {human.primary.symbols[gene]: number for number, gene in enumerate(genes)}
    found = read_scgpt_vocabulary(json.dumps(symbols).encode(), where="vocab.json")
    asked, whole = [], vocabularies.align_features

    def counted(*words, reference):
        asked.append(reference.organism)
        return whole(*words, reference=reference)

    monkeypatch.setattr(vocabularies, "align_features", counted)
    assert found.columns(genes, human).tolist() == found.columns(genes[::-1], human).tolist()[::-1] == list(range(20))
    assert set(found.columns(genes, mouse).tolist()) == {-1}
    assert asked == ["Homo sapiens", "Mus musculus"]


def test_symbols_of_the_vocabulary_are_led_to_the_ids_of_an_atlas_old_names_too():
    named = read_scgpt_vocabulary(json.dumps({"TP53": 0, "SEPT9": 1, "CD3D": 2}).encode(), where="vocab.json")
    ids_of = ("ENSG00000167286", "ENSG00000184640", "ENSG00000141510", "ENSG00000139618")  # CD3D, SEPTIN9, TP53, BRCA2
    rule = ScgptTokenizer(vocabulary=named, genes=ids_of, reference=load_reference("Homo sapiens"))
    assert rule.tokens.tolist() == [2, 1, 0, -1]
    assert rule.lost == ("ENSG00000139618",)


@pytest.mark.parametrize(("shape", "n_ids"), [((2, 29), 2), ((2, 30), 3)])
def test_counts_of_other_genes_or_cells_are_refused(shape, n_ids):
    with pytest.raises(UsageError):
        tokenizer().tokenize(csr_matrix(np.ones(shape, dtype=np.int64)), cell_ids=ids(n_ids), seed=0)
    with pytest.raises(UsageError, match="no room"):
        tokenizer(max_length=1)

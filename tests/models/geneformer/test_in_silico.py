"""Perturbed cells against lists of Python, and a planted effect among genes that have none."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import UsageError
from cytolabe.models.geneformer.in_silico import (
    cosine,
    deleted,
    goal_shift,
    null_test,
    overexpressed,
    perturbed,
)
from cytolabe.models.geneformer.tokenizer import TokenizedCells
from cytolabe.models.registry import make_model

GENES = [f"ENSG{number:011d}" for number in range(300)]


def cells_of(known, *, n_positions=12, n_cells=50, seed=0):
    rng = np.random.default_rng(seed)
    frame = known.bounds is not None
    tokens, lists = np.full((n_cells, n_positions), known.pad, dtype=np.int32), []
    for cell in range(n_cells):
        n_genes = int(rng.integers(0, n_positions - (1 if frame else -1)))
        genes = [known.tokens[GENES[place]] for place in rng.permutation(20)[:n_genes]]
        one = [known.bounds[0], *genes, known.bounds[1]] if frame else genes
        tokens[cell, : len(one)] = one
        lists.append(one)
    return TokenizedCells(tokens=tokens, lengths=np.array([len(one) for one in lists])), lists


def rows_of(cells):
    return [row[:length].tolist() for row, length in zip(cells.tokens, cells.lengths, strict=True)]


@pytest.mark.parametrize("second", [True, False])
def test_a_deleted_gene_is_gone_and_an_overexpressed_one_is_first(make_dictionaries, second):
    known = make_dictionaries(second=second)
    cells, lists = cells_of(known)
    token = known.tokens[GENES[3]]
    assert any(token in one for one in lists)
    assert any(len(one) == 12 and token not in one for one in lists)
    assert rows_of(deleted(cells, GENES[3], dictionaries=known)) == [[t for t in one if t != token] for one in lists]
    expected = []
    for one in lists:
        genes = [t for t in (one[1:-1] if second else one) if t != token]
        framed = [*[known.bounds[0], token, *genes][:11], known.bounds[1]] if second else [token, *genes][:12]
        expected.append(framed)
    made = overexpressed(cells, GENES[3], dictionaries=known)
    assert rows_of(made) == expected
    assert all((row[length:] == known.pad).all() for row, length in zip(made.tokens, made.lengths, strict=True))


@pytest.mark.parametrize("second", [True, False])
def test_genes_of_a_combination_are_gone_together_or_first_in_their_order(make_dictionaries, second):
    known = make_dictionaries(second=second)
    cells, lists = cells_of(known)
    pair, tokens = (GENES[7], GENES[3]), [known.tokens[GENES[7]], known.tokens[GENES[3]]]
    assert rows_of(deleted(cells, pair, dictionaries=known)) == [[t for t in one if t not in tokens] for one in lists]
    expected = []
    for one in lists:
        genes = [t for t in (one[1:-1] if second else one) if t not in tokens]
        framed = [*[known.bounds[0], *tokens, *genes][:11], known.bounds[1]] if second else [*tokens, *genes][:12]
        expected.append(framed)
    assert rows_of(overexpressed(cells, pair, dictionaries=known)) == expected
    with pytest.raises(UsageError, match="one twice"):
        deleted(cells, (GENES[3], GENES[3]), dictionaries=known)


def test_a_gene_without_a_token_and_a_special_token_are_refused(make_dictionaries):
    known = make_dictionaries()
    for gene in ("ENSG09999999999", "<cls>"):
        with pytest.raises(UsageError, match="no token"):
            deleted(cells_of(known)[0], gene, dictionaries=known)


def test_a_shift_is_towards_the_goal_and_nothing_moved_is_one():
    rng = np.random.default_rng(0)
    before, goal = rng.normal(size=(20, 6)), rng.normal(size=6)
    assert cosine(before, 3 * before) == pytest.approx(1)
    assert (goal_shift(before, before + goal, goal) > 0).all()
    assert (goal_shift(before, before - goal, goal) < 0).all()
    assert goal_shift(before, before, goal) == pytest.approx(0)


def test_a_planted_effect_is_found_and_genes_without_one_are_not():
    rng = np.random.default_rng(0)
    null = rng.normal(0.95, 0.02, 2000)
    effects = {gene: rng.normal(0.95, 0.02, 60) for gene in GENES[:40]}
    effects["planted"] = rng.normal(0.9, 0.02, 60)
    rows = null_test(effects, null)
    assert [row.gene for row in rows if row.q_value < 0.05] == ["planted"]
    ranked = sorted((row.p_value, place) for place, row in enumerate(rows))
    adjusted, lowest = {}, 1.0
    for rank, (p, place) in reversed(list(enumerate(ranked, start=1))):
        lowest = min(lowest, p * len(ranked) / rank)
        adjusted[place] = lowest
    assert [row.q_value for row in rows] == pytest.approx([adjusted[place] for place in range(len(rows))])
    with pytest.raises(UsageError, match="Leave it out"):
        null_test({"empty": np.array([])}, null)


@pytest.mark.models
@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("kind", ["delete", "overexpress"])
def test_cells_are_perturbed_where_it_changes_something_and_the_gene_itself_is_left_out_of_means(
    folder, make_train, pooling, kind
):
    counts = csr_matrix(np.random.default_rng(0).poisson(0.1, (40, 300)), dtype=np.int64)
    train = make_train(40, counts=counts, genes=tuple(GENES))
    model = make_model("geneformer", checkpoint=folder, panels="flag", pooling=pooling).fit(train, query=None, seed=0)
    cells = model.tokenizer.tokenize(counts)
    token = model.checkpoint.dictionaries.tokens[GENES[5]]
    found = perturbed(model, cells, GENES[5], kind=kind)
    has_gene = np.flatnonzero((cells.tokens == token).any(axis=1))
    assert 0 < len(has_gene) < 40
    assert found.rows.tolist() == (has_gene.tolist() if kind == "delete" else list(range(40)))
    moved = np.abs(found.before - found.after).max(axis=1) > 1e-5
    is_first = cells.tokens[found.rows, 1] == token
    assert moved.tolist() == ([True] * len(moved) if kind == "delete" else (~is_first).tolist())
    plain = model.embed(train)[found.rows]
    differs = np.abs(plain - found.before).max(axis=1) > 1e-4
    assert (found.rows[differs].tolist() == has_gene.tolist()) if pooling == "mean" else not differs.any()


@pytest.mark.models
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_deleted_pair_concerns_cells_that_have_both_and_known_vectors_change_nothing(folder, make_train, pooling):
    counts = csr_matrix(np.random.default_rng(0).poisson(0.1, (40, 300)), dtype=np.int64)
    train = make_train(40, counts=counts, genes=tuple(GENES))
    model = make_model("geneformer", checkpoint=folder, panels="flag", pooling=pooling).fit(train, query=None, seed=0)
    cells, pair = model.tokenizer.tokenize(counts), (GENES[5], GENES[6])
    tokens = [model.checkpoint.dictionaries.tokens[one] for one in pair]
    has = [(cells.tokens == token).any(axis=1) for token in tokens]
    found = perturbed(model, cells, pair, kind="delete")
    assert found.rows.tolist() == np.flatnonzero(has[0] & has[1]).tolist()
    known = perturbed(model, cells, pair, kind="delete", before=model.embed_tokens(cells))
    np.testing.assert_allclose(known.before, found.before, atol=1e-5)
    one_by_one = deleted(deleted(cells, pair[0], dictionaries=model.checkpoint.dictionaries), pair[1], dictionaries=model.checkpoint.dictionaries)  # fmt: skip
    left_out = tokens if pooling == "mean" else ()
    np.testing.assert_allclose(found.after, model.embed_tokens(one_by_one, left_out=left_out)[found.rows], atol=1e-5)

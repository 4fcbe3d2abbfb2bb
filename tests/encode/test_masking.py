"""Hidden tokens: the shares of the published training, and chance that knows its cell."""

import numpy as np
import pytest

from cytolabe.encode.keyed import keys_of
from cytolabe.encode.masking import NOT_CHOSEN, masked_tokens

GENES = np.arange(4, 1004)


def cells(n_cells=400, n_positions=120, seed=0):
    tokens = np.random.default_rng(seed).integers(4, 1004, (n_cells, n_positions))
    tokens[:, 0], tokens[:, -11], tokens[:, -10:] = 2, 3, 0
    return tokens, keys_of([f"lab:c{number}" for number in range(n_cells)])


def hide(tokens, keys, **changes):
    return masked_tokens(tokens, cell_keys=keys, **{"genes": GENES, "mask": 1, "seed": 5, "epoch": 0, **changes})


def test_shares_are_those_of_the_published_training_and_special_tokens_stay():
    tokens, keys = cells()
    hidden, asked = hide(tokens, keys)
    is_gene = tokens > 3
    is_asked = asked != NOT_CHOSEN
    assert not is_asked[~is_gene].any()
    assert (hidden[~is_asked] == tokens[~is_asked]).all()
    assert (asked[is_asked] == tokens[is_asked]).all()
    n = is_gene.sum()
    assert is_asked.sum() / n == pytest.approx(0.15, abs=4 * np.sqrt(0.15 * 0.85 / n))
    chosen, became = tokens[is_asked], hidden[is_asked]
    spread = 4 * 0.5 / np.sqrt(len(chosen))
    assert (became == 1).mean() == pytest.approx(0.8, abs=spread)
    replaced = (became != 1) & (became != chosen)
    assert replaced.mean() == pytest.approx(0.1, abs=spread)
    assert np.isin(became[replaced], GENES).all()
    # A replacement is any gene: 600 or so draws from a thousand hit many of them.
    assert len(set(became[replaced])) > 0.3 * replaced.sum()


def test_a_cell_is_hidden_alike_in_any_order_and_company():
    tokens, keys = cells()
    order = np.random.default_rng(1).permutation(400)[:37]
    together, alone = hide(tokens, keys), hide(tokens[order, :80], keys[order])
    assert (alone[0] == together[0][order, :80]).all()
    assert (alone[1] == together[1][order, :80]).all()


@pytest.mark.parametrize("change", [{"seed": 6}, {"epoch": 1}])
def test_another_seed_or_epoch_hides_other_genes(change):
    tokens, keys = cells()
    first, other = hide(tokens, keys)[1] != NOT_CHOSEN, hide(tokens, keys, **change)[1] != NOT_CHOSEN
    both = (first & other).sum() / first.sum()
    assert both == pytest.approx(0.15, abs=0.03)


def test_cells_of_equal_counts_are_hidden_apart():
    tokens, keys = cells()
    tokens[:] = tokens[0]
    asked = hide(tokens, keys)[1] != NOT_CHOSEN
    assert (asked[0] != asked[1]).any()
    assert asked.mean(axis=0)[1:-11] == pytest.approx(0.15, abs=0.1)

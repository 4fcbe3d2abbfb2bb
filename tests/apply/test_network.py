"""Features of genes over parts that measure different genes, by a model that is a stub: no network is needed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.apply.network import CellPart, NetworkPlan, network_features
from cytolabe.errors import RefusedError, UsageError
from cytolabe.models.gene_features import AttentionRule
from cytolabe.models.protocols import AttendedCell, QueryView

COUNTS = {"one": ("ABC", [[1, 1, 0], [2, 0, 5]]), "other": ("CDE", [[3, 0, 1], [0, 0, 4], [0, 0, 1]])}


@dataclass(frozen=True)
class Stub:
    """A model that knows all genes but E; the state of a gene is its count, and it attends to all genes of the cell alike."""

    genes: tuple[str, ...] = ()
    n_layers: int = 1
    notes: tuple[str, ...] = ("a stub",)
    gene_rows: str = "numbers"
    scopes = ()

    def over(self, genes, *, handed, seed):
        return Stub(tuple(genes))

    def embed(self, view):
        pytest.fail("features of genes ask for no embedding of cells")

    @property
    def known_genes(self):
        return tuple(gene for gene in self.genes if gene != "E")

    def embed_genes(self, genes):
        return np.array([[ord(gene)] for gene in genes], dtype=np.float32)

    def n_cells_reading(self, view):
        return np.asarray((view.counts[:, : len(self.known_genes)] > 0).sum(axis=0)).ravel()

    def attended(self, view, *, layer) -> Iterator[AttendedCell]:
        for row in view.counts.toarray():
            places = np.flatnonzero(row[: len(self.known_genes)])
            nothing = np.zeros((1, len(places), 1))
            yield AttendedCell(places=places, states=row[places, None].astype(float), queries=nothing, keys=nothing)


def part(name, upstream=None):
    genes, counts = COUNTS[name]
    ids = np.array([f"{name}:{row}" for row in range(len(counts))], dtype=object)
    view = QueryView(cell_ids=ids, counts=csr_matrix(counts), genes=tuple(genes), technical=pd.DataFrame())
    return CellPart(name=name, genes=tuple(genes), upstream_fraction_of_counts=upstream, blocks=lambda: iter([view]))


def test_parts_are_joined_by_gene_and_what_no_part_measures_together_is_missing():
    plan = NetworkPlan(genes=("C", "A", "B", "D"), attention=AttentionRule(measure="raw"))
    found = network_features([part("one"), part("other")], Stub(), plan, panels="flag")
    assert found.means.n_cells.tolist() == [2, 2, 1, 0]
    np.testing.assert_array_equal(found.means.states[:, 0], [4, 1.5, 1, np.nan])
    np.testing.assert_array_equal(found.input_rows[:, 0], [67, 65, 66, 68])
    nan = np.nan
    np.testing.assert_array_equal(
        found.means.attention, [[0.75, 0.5, nan, nan], [0.5, 0.5, 0.5, nan], [nan, 0.5, 0.5, nan], [nan] * 4]
    )
    assert found.n_cells == 5
    assert found.notes == ("one: a stub", "other: a stub")


def test_the_most_frequent_genes_are_counted_over_all_parts_and_ties_go_by_name():
    plan = NetworkPlan(n_most_frequent=2)
    assert network_features([part("one"), part("other")], Stub(), plan, panels="flag").genes == ("A", "C")
    assert network_features([part("other"), part("one")], Stub(), plan, panels="flag").genes == ("A", "C")


def test_what_was_subset_and_what_cannot_be_read_is_refused():
    plan = NetworkPlan(genes=("C",))
    with pytest.raises(RefusedError, match=r"one: it measures 3 genes.*R3"):
        network_features([part("one")], Stub(), plan)
    wide = CellPart(name="wide", genes=tuple(f"G{n}" for n in range(6000)), upstream_fraction_of_counts=0.3, blocks=lambda: iter([]))  # fmt: skip
    with pytest.raises(RefusedError, match="only 30% of the declared total"):
        network_features([wide], Stub(), plan)
    with pytest.raises(UsageError, match="1 of 2 genes are read nowhere here, for example E"):
        network_features([part("other")], Stub(), NetworkPlan(genes=("C", "E")), panels="flag")
    with pytest.raises(UsageError, match="layers 1 to 1"):
        network_features([part("one")], Stub(), NetworkPlan(genes=("C",), layer=2), panels="flag")
    with pytest.raises(UsageError, match="no cell to read"):
        network_features([], Stub(), plan)
    with pytest.raises(UsageError, match="Name genes, or say how many"):
        NetworkPlan()

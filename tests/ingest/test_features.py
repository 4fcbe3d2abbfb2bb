import numpy as np
import pandas as pd
import pytest

from cytolabe.genes import load_reference
from cytolabe.ingest.features import choose_features, kinds_of_features
from cytolabe.ingest.tables import ContributedTable

HUMAN = load_reference()
IDS = tuple(sorted(HUMAN.protein_coding))[:60]
SYMBOLS = tuple(HUMAN.symbol_of(gene_id) for gene_id in IDS)
COUNTER = tuple(map(str, range(60)))


def chosen(names, **columns):
    table = ContributedTable(names=tuple(names), columns=pd.DataFrame(columns, dtype=object))
    features, findings = choose_features(table, "var")
    return features, {finding.code: finding for finding in findings}


@pytest.mark.parametrize("column", ["GeneNames", "Symbol", "features", "0"])
def test_symbols_beside_a_counter_win_whatever_their_column_is_called(column):
    features, findings = chosen(COUNTER, **{column: SYMBOLS})
    assert features == SYMBOLS
    assert column in findings["N-FEATURE-01"].where


def test_a_column_of_other_texts_names_no_gene():
    assert chosen(COUNTER, chromosome=["chr1"] * 60)[0] == COUNTER


@pytest.mark.parametrize("column", ["Ensembl_ID", "GeneID", "whatever"])
def test_ids_beside_symbols_win_with_or_without_a_version(column):
    ids = tuple(f"{gene_id}.7" for gene_id in IDS)
    assert chosen(SYMBOLS, **{column: ids})[0] == ids


def test_ids_of_another_organism_are_orthologs_not_names():
    assert chosen(SYMBOLS, mouse_ortholog=[f"ENSMUSG{i:011d}" for i in range(60)])[0] == SYMBOLS


def test_ids_in_another_order_than_the_symbols_are_refused():
    _, findings = chosen(SYMBOLS, gene_ids=(*IDS[1:], IDS[0]))
    assert findings["E-FEATURE-05"].n_affected == 60
    assert f"{SYMBOLS[0]} beside {IDS[1]}" in findings["E-FEATURE-05"].examples
    assert "E-FEATURE-05" not in chosen(SYMBOLS, gene_ids=IDS)[1]


def test_types_of_features_are_said_where_the_file_says_them():
    kinds = np.array(["Gene Expression", "Antibody Capture"], dtype=object)
    assert kinds_of_features(pd.DataFrame({"feature_types": kinds})) == tuple(kinds)
    assert kinds_of_features(pd.DataFrame({"name": kinds})) == ()

"""The tokenizer against the published rule, written plainly one cell at a time from its description."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import IntegrityError, NotRawCountsError, RefusedError, UnreadableInputError, UsageError
from cytolabe.models.geneformer.dictionaries import Dictionaries, read_dictionaries
from cytolabe.models.geneformer.tokenizer import GeneformerTokenizer

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "models"
FILES = ("geneformer_token_dictionary.pkl", "geneformer_gene_median_dictionary.pkl")


def gene(number):
    return f"ENSG{number:011d}"


def dictionaries(n_genes=40, *, second=False, collapse=None):
    specials = ["<pad>", "<mask>"] + (["<cls>", "<eos>"] if second else [])
    names = [*specials, *(gene(number) for number in range(n_genes))]
    medians = np.random.default_rng(0).choice([0.5, 1.0, 2.5], n_genes)
    return Dictionaries(
        tokens={name: number for number, name in enumerate(names)},
        medians={gene(number): float(median) for number, median in enumerate(medians)},
        collapse=collapse,
        digests={},
    )


def by_the_original(dense, totals, known, genes, *, length):
    """The rule of the reference page for one generation; numpy's default sort, and no kernel."""
    keep = [column for column, name in enumerate(genes) if name in known.tokens]
    tokens = np.array([known.tokens[genes[column]] for column in keep])
    medians = np.array([known.medians[genes[column]] for column in keep])
    found = []
    for row, total in zip(dense[:, keep], totals, strict=True):
        values = row / total * 10_000 / medians
        nonzero = np.nonzero(values)[0]
        ranked = tokens[nonzero][np.argsort(-values[nonzero])]
        if known.bounds is None:
            found.append(ranked[:length])
        else:
            found.append(np.concatenate([[known.bounds[0]], ranked[: length - 2], [known.bounds[1]]]))
    return found


def n_equal(cells, expected):
    rows = zip(cells.tokens, cells.lengths, expected, strict=True)
    return sum(np.array_equal(row[:length], wanted) for row, length, wanted in rows)


def planted_cells(n_cells, n_genes, *, rate, seed=2):
    """Overdispersed counts of cells of unequal depth: many ties, cells shorter and longer than the cut."""
    rng = np.random.default_rng(seed)
    mean = rate * rng.uniform(0.05, 1.5, (n_cells, 1)) * np.exp(rng.normal(0, 1, n_genes))
    return rng.negative_binomial(0.3, 0.3 / (0.3 + mean))


@pytest.mark.skipif(not (REAL / FILES[0]).exists(), reason="the published dictionaries are not here")
def test_a_thousand_cells_have_the_tokens_of_the_original_rule_with_the_published_dictionaries():
    known = read_dictionaries(*(REAL / name for name in FILES))
    assert (len(known.tokens), known.bounds, known.max_length) == (25_426, None, 2048)
    genes = [*known.genes[:7_000], *(f"ENSG9{number:010d}" for number in range(500))]
    genes = [genes[place] for place in np.random.default_rng(1).permutation(len(genes))]
    dense = planted_cells(1000, len(genes), rate=0.8)
    totals = dense.sum(axis=1)
    expected = by_the_original(dense, totals, known, genes, length=2048)
    assert max(map(len, expected)) == 2048 > min(map(len, expected))
    tokenizer = GeneformerTokenizer(dictionaries=known, genes=genes)
    assert n_equal(tokenizer.tokenize(csr_matrix(dense), compat="original"), expected) == 1000
    assert len(tokenizer.lost) == 500


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("length", [3, 12, 60])
def test_both_generations_cut_and_frame_cells_as_the_original_does(second, length):
    known, genes = dictionaries(second=second), [gene(number) for number in range(45)]
    dense = planted_cells(200, 45, rate=1.0)
    dense[0] = 0
    totals = dense.sum(axis=1) + 5
    tokenizer = GeneformerTokenizer(dictionaries=known, genes=genes, max_length=length, panels="flag")
    found = tokenizer.tokenize(csr_matrix(dense), totals=totals, compat="original")
    assert n_equal(found, by_the_original(dense, totals, known, genes, length=length)) == 200
    assert (found.tokens[np.arange(length) >= found.lengths[:, None]] == 0).all()


def test_ties_go_by_token_whatever_the_order_of_the_columns():
    known, genes = dictionaries(), [gene(number) for number in range(40)]
    dense = np.minimum(planted_cells(100, 40, rate=1.0), 2)
    order = np.random.default_rng(3).permutation(40)
    here = GeneformerTokenizer(dictionaries=known, genes=genes, panels="flag").tokenize(csr_matrix(dense))
    there = GeneformerTokenizer(dictionaries=known, genes=[genes[place] for place in order], panels="flag")
    np.testing.assert_array_equal(there.tokenize(csr_matrix(dense[:, order])).tokens, here.tokens)


def test_ids_of_one_gene_are_summed_and_the_total_counts_what_is_dropped():
    collapse = {"OLD": gene(1), gene(1): gene(1), gene(0): gene(0), "ELSEWHERE": "ENSG_NOT_A_TOKEN"}
    known = dictionaries(second=True, collapse=collapse)
    genes = ["old", f"{gene(1)}.7", gene(0), gene(2), "ELSEWHERE"]
    tokenizer = GeneformerTokenizer(dictionaries=known, genes=genes, panels="flag")
    assert tokenizer.targets == (gene(1), gene(0))
    assert (tokenizer.lost, tokenizer.n_versioned) == ((gene(2), "ELSEWHERE"), 1)
    summed = csr_matrix(np.array([[30, 30, 40, 5, 5]]))
    alone = GeneformerTokenizer(dictionaries=dictionaries(second=True), genes=[gene(1), gene(0)], panels="flag")
    expected = alone.tokenize(csr_matrix(np.array([[60, 40]])))
    np.testing.assert_array_equal(tokenizer.tokenize(summed).tokens, expected.tokens)


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan, np.inf])
def test_values_that_are_no_counts_are_refused(value):
    tokenizer = GeneformerTokenizer(dictionaries=dictionaries(), genes=[gene(0), gene(1)], panels="flag")
    with pytest.raises(NotRawCountsError, match="1 of 2 values"):
        tokenizer.tokenize(csr_matrix(np.array([[1.0, value]])))


def test_cells_of_a_panel_and_foreign_ids_are_refused():
    with pytest.raises(RefusedError, match="measures 40 genes"):
        GeneformerTokenizer(dictionaries=dictionaries(), genes=[gene(number) for number in range(40)])
    with pytest.raises(UsageError, match="None of 2 columns"):
        GeneformerTokenizer(dictionaries=dictionaries(), genes=["CD4", "CD8A"], panels="flag")
    with pytest.raises(UsageError, match="no room"):
        GeneformerTokenizer(dictionaries=dictionaries(second=True), genes=[gene(0)], max_length=2, panels="flag")


def test_a_vocabulary_that_is_off_by_one_or_lacks_medians_is_refused():
    known = dictionaries(3)
    shifted = {name: token + (token > 2) for name, token in known.tokens.items()}
    with pytest.raises(UnreadableInputError, match="each of 0 to 4 must occur once"):
        Dictionaries(tokens=shifted, medians=known.medians, digests={})
    with pytest.raises(UnreadableInputError, match="1 of 3 genes with a token have no positive median"):
        Dictionaries(tokens=known.tokens, medians=dict(known.medians) | {gene(1): 0.0}, digests={})
    without = {name: number for number, name in enumerate(["<pad>", gene(0)])}
    with pytest.raises(UnreadableInputError, match="special tokens"):
        Dictionaries(tokens=without, medians=known.medians, digests={})


def test_a_dictionary_of_another_digest_and_a_pickle_that_calls_are_refused(tmp_path):
    tokens, medians = tmp_path / "tokens.json", tmp_path / "medians.json"
    tokens.write_text('{"<pad>": 0, "<mask>": 1, "ENSG1": 2}')
    medians.write_text('{"ENSG1": 1.5}')
    assert read_dictionaries(tokens, medians).genes == ("ENSG1",)
    with pytest.raises(IntegrityError, match=r"tokens\.json has the digest"):
        read_dictionaries(tokens, medians, expected={"tokens": "sha256:0"})
    # Protocol 2: {"ENSG1": os.getcwd()}, written by hand because no test may write a pickle.
    hostile = tmp_path / "hostile.pkl"
    hostile.write_bytes(b"\x80\x02}X\x05\x00\x00\x00ENSG1cos\ngetcwd\n)Rs.")
    with pytest.raises(UnreadableInputError, match=r"would call os\.getcwd"):
        read_dictionaries(tokens, hostile)


def test_names_that_are_no_genes_and_files_that_were_subset_do_not_pass_for_a_transcriptome():
    known = dictionaries(6_000)
    genes = [gene(number) for number in range(6_000)]
    GeneformerTokenizer(dictionaries=known, genes=genes)
    with pytest.raises(RefusedError, match="5,000"):
        GeneformerTokenizer(dictionaries=known, genes=[*genes[:4_000], *(f"antibody {n}" for n in range(2_000))])
    with pytest.raises(RefusedError, match="30%"):
        GeneformerTokenizer(dictionaries=known, genes=genes, upstream_fraction_of_counts=0.3)
    flagged = GeneformerTokenizer(dictionaries=known, genes=genes[:900], panels="flag")
    assert "900 genes" in flagged.flag

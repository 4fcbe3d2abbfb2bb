import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cytolabe.ingest.counts import find_counts
from cytolabe.ingest.h5ad import open_h5ad
from cytolabe.records import HopState, MatrixKind, Severity


def proof_of(path, **declared):
    with open_h5ad(path) as source:
        return find_counts(source, **declared)


def codes(proof):
    return [finding.code for finding in proof.findings]


def scaled(counts, target=1e4):
    values = counts.toarray().astype(float)
    return values / values.sum(axis=1, keepdims=True) * target


def test_sums_are_those_of_the_whole_matrix(write, make_adata, counts):
    proof = proof_of(write(make_adata(counts)))
    assert (proof.matrix, proof.kind, proof.state) == ("X", MatrixKind.UMI, HopState.VERIFIED)
    np.testing.assert_array_equal(proof.cell_totals, counts.toarray().sum(axis=1))
    np.testing.assert_array_equal(proof.cell_genes, (counts.toarray() > 0).sum(axis=1))
    np.testing.assert_array_equal(proof.feature_totals, counts.toarray().sum(axis=0))
    assert proof.n_nonzero == np.count_nonzero(counts.toarray())
    assert not proof.findings


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.integers(0, 39),
    column=st.integers(0, 59),
    value=st.sampled_from([0.5, 1.0019583, -1.0, np.nan, np.inf, 2.0**60]),
)
def test_one_wrong_value_anywhere_is_found_and_named(write, make_adata, counts, *, row, column, value):
    dense = counts.toarray().astype(np.float64)
    dense[row, column] = value
    proof = proof_of(write(make_adata(csr_matrix(dense))))
    assert proof.matrix == ""
    (finding,) = proof.findings
    assert finding.code == "E-COUNTS-01"
    assert finding.n_affected == 1
    assert f"cell cell{row}, gene ENSG{column:011d}" in finding.message


def test_stored_zeros_are_no_counts(write, make_adata, counts):
    dense = counts.toarray()
    dense[0, 0] = 7
    padded = csr_matrix(dense)
    padded.data[3] = 0
    proof = proof_of(write(make_adata(padded)))
    assert proof.n_nonzero == np.count_nonzero(padded.toarray())
    np.testing.assert_array_equal(proof.cell_genes, (padded.toarray() > 0).sum(axis=1))


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        pytest.param(lambda c: np.log1p(scaled(c)), "log1p of values scaled to 10,000", id="log1p of CP10K"),
        pytest.param(scaled, "scaled to 10,000 per cell, not logged", id="CP10K"),
        pytest.param(lambda c: np.log1p(c.toarray()), "logarithms", id="logged counts"),
        pytest.param(lambda c: c.toarray() - c.toarray().mean(axis=0), "z-scores", id="centered"),
    ],
)
def test_a_refused_matrix_is_described(write, make_adata, counts, *, transform, words):
    proof = proof_of(write(make_adata(csr_matrix(transform(counts)))))
    (finding,) = proof.findings
    assert (finding.code, finding.severity) == ("E-COUNTS-01", Severity.ERROR)
    assert words in finding.message
    assert "layers['counts']" in finding.remedy


@pytest.mark.parametrize("rounding", [np.ceil, np.round])
def test_rounded_normalized_values_do_not_pass_as_counts(write, make_adata, counts, *, rounding):
    proof = proof_of(write(make_adata(csr_matrix(rounding(scaled(counts))))))
    assert (proof.matrix, codes(proof)) == ("", ["E-COUNTS-02"])


@pytest.mark.parametrize("rounding", [np.ceil, np.round])
def test_rounding_of_real_counts_never_passes_in_silence(write, make_adata, real, *, rounding):
    for name in ("kang18_muscat", "zheng17_sorted_mudan", "kolodziejczyk15_mesc_scmerge"):
        with open_h5ad(real / f"{name}.h5ad") as source:
            values = source.read_cells(source.matrices[0], start=0, stop=200)
        proof = proof_of(write(make_adata(csr_matrix(rounding(scaled(values))))))
        assert codes(proof) == ["E-COUNTS-02"], name


def test_multiplied_counts_are_no_counts(write, make_adata, counts):
    assert codes(proof_of(write(make_adata(counts * 3)))) == ["E-COUNTS-02"]


def test_totals_that_hardly_vary_are_a_warning(write, make_adata):
    even = np.random.default_rng(0).poisson(1.0, size=(60, 400))
    assert codes(proof_of(write(make_adata(csr_matrix(even.astype(np.float32)))))) == ["W-COUNTS-11"]


def test_the_counts_layer_is_found_behind_normalized_values(write, make_adata, counts):
    adata = make_adata(csr_matrix(np.log1p(scaled(counts))))
    adata.layers["counts"] = counts
    proof = proof_of(write(adata))
    assert proof.matrix == "layers/counts"
    assert [(one.name, one.verdict) for one in proof.candidates] == [("layers/counts", "counts"), ("X", "not_integer")]


def test_raw_comes_before_x(write, make_adata, counts):
    adata = make_adata(counts)
    adata.raw = adata.copy()
    adata = adata[:, :20].copy()
    proof = proof_of(write(adata))
    assert (proof.matrix, len(proof.feature_totals)) == ("raw/X", 60)
    assert codes(proof) == ["N-COUNTS-04"]


def test_two_matrices_that_differ_are_a_finding_with_the_first_place(write, make_adata, counts):
    adata = make_adata(counts)
    other = counts.copy()
    other.data[5] += 1
    adata.layers["spliced"] = other
    proof = proof_of(write(adata))
    assert (proof.matrix, codes(proof)) == ("X", ["W-COUNTS-03"])
    assert proof.findings[0].n_affected == 1
    assert "matrix = 'layers/spliced'" in proof.findings[0].remedy


@pytest.mark.parametrize("name", ["layers/spliced", "spliced", "layers['spliced']"])
def test_a_declared_matrix_is_used_and_proven(write, make_adata, counts, *, name):
    adata = make_adata(counts)
    adata.layers["spliced"] = counts * 1.0
    assert proof_of(write(adata), declared=name).matrix == "layers/spliced"
    adata.layers["spliced"] = counts * 0.5
    assert codes(proof_of(write(adata), declared=name)) == ["E-COUNTS-01"]


def test_a_declared_matrix_that_is_not_there_is_an_error(plain):
    proof = proof_of(plain, declared="layers/cuonts")
    assert (proof.matrix, codes(proof)) == ("", ["E-COUNTS-09"])


def test_float32_beyond_its_integers_is_flagged(write, make_adata, counts):
    dense = counts.toarray()
    dense[0, 0] = 2**24 + 1
    assert "W-COUNTS-06" in codes(
        proof_of(write(make_adata(csr_matrix(dense.astype(np.float32)))), declared_kind="reads")
    )
    exact = proof_of(write(make_adata(csr_matrix(dense.astype(np.int64)))), declared_kind="reads")
    assert "W-COUNTS-06" not in codes(exact)


def test_reads_are_reads_only_when_declared(real):
    path = real / "kolodziejczyk15_mesc_scmerge.h5ad"
    assert proof_of(path).kind is MatrixKind.UNKNOWN
    assert codes(proof_of(path)) == ["W-COUNTS-07"]
    assert proof_of(path, declared_kind="reads").kind is MatrixKind.READS
    assert codes(proof_of(path, declared_kind="umi")) == ["W-COUNTS-07"]


def test_recovered_counts_are_never_verified(real):
    for name in ("pbmc3k_clustifyr", "pbmc_10x_3tech_symphony", "norman19_mcfaline23_perturbench"):
        proof = proof_of(real / f"{name}.h5ad")
        assert (proof.matrix, proof.state) == ("X", HopState.RECOVERED)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("liver_bcells_cxg", "E-COUNTS-01", "log1p of values scaled to 1,500 per cell"),
        ("beeline_mdc_tfs500", "E-COUNTS-01", "logarithms"),
        ("pancreas_xin16_scclassify", "E-COUNTS-01", "CIZ1 = 1.47987"),
        ("puram17_headneck_chetah", "E-COUNTS-01", "logarithms"),
        ("cell_lines_harmony_pcs", "E-COUNTS-10", "no matrix"),
    ],
)
def test_real_files_without_counts_are_refused_with_the_cause(real, name, code, *, words):
    proof = proof_of(real / f"{name}.h5ad")
    assert (proof.matrix, codes(proof)) == ("", [code])
    assert words in proof.findings[0].message


@pytest.mark.parametrize(
    "name",
    [
        "kang18_muscat",
        "pbmc_5k10k_citeseq_scvi",
        "mouse_brain_merfish_cxg",
        "baccin20_mouse_bm_tapseq",
        "datlinger17_cropseq_jurkat",
        "pbmc4k_scdcc_anon",
    ],
)
def test_real_raw_counts_are_verified(real, name):
    proof = proof_of(real / f"{name}.h5ad")
    assert (proof.matrix, proof.state, codes(proof)) == ("X", HopState.VERIFIED, [])


def big_counts(seed=0, n_cells=60, n_genes=800):
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(0.0, 0.5, size=(n_cells, 1))
    return rng.poisson(depth * rng.gamma(0.4, 2.5, size=(1, n_genes))).astype(float)


def to_total(counts, target):
    return counts / counts.sum(axis=1, keepdims=True) * target


MEDIAN = float(np.median(big_counts().sum(axis=1)))
NO_COUNTS = {
    "scaled to 10,000 and rounded": np.rint(to_total(big_counts(), 1e4)),
    "scaled to 10,000 and rounded up": np.ceil(to_total(big_counts(), 1e4)),
    "scaled to the median and rounded down": np.floor(to_total(big_counts(), MEDIAN * 1.2)),
    "scaled to the median and rounded up": np.ceil(to_total(big_counts(), MEDIAN)),
    "scaled, rounded and cut down to a third of the genes": np.rint(to_total(big_counts(), 1e4))[:, ::3],
    "which genes were seen": (big_counts() > 0).astype(float),
    "logarithms rounded": np.rint(np.log1p(to_total(big_counts(n_genes=2500), 1e4))),
}


@pytest.mark.parametrize("name", NO_COUNTS, ids=list(NO_COUNTS))
def test_integers_that_are_no_counts_are_refused(write, make_adata, name):
    proof = proof_of(write(make_adata(csr_matrix(NO_COUNTS[name]))))
    assert (proof.matrix, codes(proof)) == ("", ["E-COUNTS-02"])


def test_five_rounded_cells_are_enough_to_see_it(write, make_adata):
    proof = proof_of(write(make_adata(csr_matrix(np.rint(big_counts()[:5] * 1.7)))))
    assert codes(proof) == ["E-COUNTS-02"]
    assert "skipped" in proof.findings[0].message


@pytest.mark.parametrize("seed", range(5))
def test_counts_of_any_depth_are_counts(write, make_adata, seed):
    for counts in (big_counts(seed), big_counts(seed) * 1.0, big_counts(seed)[:, :30], big_counts(seed)[:3]):
        assert proof_of(write(make_adata(csr_matrix(counts)), f"{seed}.h5ad")).matrix == "X"


def test_counts_of_the_real_files_skip_no_small_value(real):
    names = (
        "kang18_muscat",
        "norman19_mcfaline23_perturbench",
        "kolodziejczyk15_mesc_scmerge",
        "baccin20_mouse_bm_tapseq",
    )
    assert [proof_of(real / f"{name}.h5ad").matrix for name in names] == ["X"] * len(names)


def test_half_precision_counts_are_read_and_those_it_cannot_tell_apart_are_named(write, make_adata, counts, edit):
    dense = counts.toarray()
    dense[0, 0] = 4000
    path = write(make_adata(dense))
    with edit(path) as file:
        del file["X"]
        file["X"] = dense.astype("float16")
    proof = proof_of(path)
    assert proof.matrix == "X"
    assert "2^11 in float16" in {f.code: f.message for f in proof.findings}["W-COUNTS-06"]


def test_a_file_without_cells_says_so(write, make_adata, counts):
    proof = proof_of(write(make_adata(counts)[:0].copy()))
    assert codes(proof) == ["E-COUNTS-10"]
    assert "no cells" in proof.findings[0].message


def test_a_matrix_that_cannot_be_read_is_named_where_counts_are_missed(plain, edit):
    with edit(plain) as file:
        file["X"].attrs["encoding-type"] = "coo_matrix"
    proof = proof_of(plain)
    assert "X (see W-MATRIX-05)" in proof.findings[0].message


def test_one_damaged_value_does_not_make_counts_look_like_scores(write, make_adata):
    counts = big_counts()
    counts[3, 3] = -1
    proof = proof_of(write(make_adata(csr_matrix(counts))))
    assert "few values were damaged" in proof.findings[0].message

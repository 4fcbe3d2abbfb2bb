"""Alignment: each route, each loss, the laws of the shares, and the real files."""

import dataclasses
import pathlib
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.genes import align_features, guess_organism, load_reference, shipped_organisms
from cytolabe.records import Severity

SHARED = pathlib.Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"
HUMAN = load_reference()
CD4, CD3D, CD8A = "ENSG00000010610", "ENSG00000167286", "ENSG00000153563"


def align(features, totals=None, *, aliases=None, reference=HUMAN):
    weights = np.ones(len(features)) if totals is None else np.asarray(totals)
    return align_features(features, weights, reference=reference, aliases=aliases)


def codes(findings):
    return {finding.code for finding in findings}


def padded(*features):
    """Put features among plain human ones, so that the release vote and the organism are settled."""
    return [*features, *(HUMAN.symbol_of(g) for g in sorted(HUMAN.protein_coding)[1000:1400] if g in HUMAN)]


@pytest.mark.parametrize(
    ("feature", "gene", "status"),
    [
        (CD4, CD4, "exact"),
        (f"{CD4}.12", CD4, "version_stripped"),
        ("CD4", CD4, "symbol"),
        ("KIAA1522", HUMAN.primary.ids_of["NHSL3"][0], "renamed"),
        (f"CD4_{CD4}", CD4, "composite"),
        (f"{CD4}_CD4", CD4, "composite"),
        ("C12ORF57", HUMAN.primary.ids_of["C12orf57"][0], "case_folded"),
        ("HLA.DRA", HUMAN.primary.ids_of["HLA-DRA"][0], "symbol"),
        ("GRCh38_CD4", CD4, "symbol"),
        (f"hg19___{CD4}", CD4, "exact"),
        ("mm10___Cd4", "", "unknown"),
        ("ERCC-00002", "", "spike_in"),
        ("MATR3", "", "ambiguous"),
        ("RP11-206L10.999", "", "unknown"),
        ("RP11-206L10.2", "ENSG00000228327", "renamed"),
        ("1-Mar", "", "unknown"),
        (min(HUMAN.retired), "", "retired"),
        ("CD4.1", "", "unknown"),
    ],
)
def test_a_feature_leads_to(feature, gene, status):
    alignment, _ = align(padded(feature))
    assert (alignment.gene_ids[0], alignment.status[0]) == (gene, status)


def test_a_composite_follows_its_id_and_reports_the_contradiction():
    alignment, findings = align(padded(f"CD8A_{CD4}"))
    assert alignment.gene_ids[0] == CD4
    assert next(f for f in findings if f.code == "W-GENES-05").examples == (f"CD8A_{CD4}",)


def test_a_composite_with_an_older_symbol_of_its_gene_is_no_contradiction():
    gene = HUMAN.primary.ids_of["NHSL3"][0]
    assert "W-GENES-05" not in codes(align(padded(f"KIAA1522_{gene}"))[1])


def test_the_release_that_explains_most_symbols_is_asked_first():
    newest, oldest = HUMAN.primary, HUMAN.releases[-1]
    moved = next(
        symbol
        for symbol, ids in sorted(oldest.ids_of.items())
        if len(ids) == 1 and ids[0] in HUMAN and len(newest.ids_of.get(symbol, ())) == 1
        and newest.ids_of[symbol] != ids and ids[0] in HUMAN.protein_coding
    )  # fmt: skip
    old_names = [s for s in sorted(oldest.ids_of) if s not in newest.ids_of and "." not in s][:300]
    new_names = [s for s in sorted(newest.ids_of) if s not in oldest.ids_of and "." not in s][:300]
    as_old, _ = align([moved, *old_names])
    as_new, _ = align([moved, *new_names])
    assert as_old.gene_ids[0] == oldest.ids_of[moved][0]
    assert as_new.gene_ids[0] == newest.ids_of[moved][0]


def of_release(name):
    return next(release for release in HUMAN.releases if release.name == name)


def named_by(release, *features, n_names=9000):
    """Put features among names of one release, so that it wins the vote."""
    names = dict.fromkeys(symbol for _, symbol in sorted(release.symbols.items()) if symbol)
    return [*features, *(name for name in names if name not in features)][:n_names]


def test_a_symbol_is_followed_to_a_younger_id_and_not_to_a_gene_that_was_there_already():
    old = of_release("GRCh37")
    moved = next(
        symbol
        for symbol, ids in sorted(old.ids_of.items())
        if all(gene not in HUMAN for gene in ids) and len(HUMAN.primary.ids_of.get(symbol, ())) == 1
        and HUMAN.primary.ids_of[symbol][0] in old.symbols
    )  # fmt: skip
    gone = next(s for s, ids in sorted(old.ids_of.items()) if len(ids) == 1 and ids[0] not in HUMAN
                and all(s not in release.ids_of for release in HUMAN.releases[:-1]))  # fmt: skip
    alignment, findings = align(named_by(old, "CCL3", moved, gone))
    assert (alignment.gene_ids[0], alignment.status[0]) == (HUMAN.primary.ids_of["CCL3"][0], "symbol")
    assert alignment.status[1:3] == ("retired", "retired")
    assert "N-GENES-03" in codes(findings)


def test_a_retired_id_is_never_followed():
    assert align(["ENSG00000006075", CD4])[0].status[0] == "retired"  # CCL3 on GRCh37


def test_of_several_genes_without_protein_the_one_that_bears_the_name_today_is_taken():
    assert len(of_release("24").ids_of["MALAT1"]) > 1
    alignment, _ = align(named_by(of_release("24"), "MALAT1"))
    assert alignment.gene_ids[0] == "ENSG00000251562"


def test_names_that_are_numbered_anew_are_believed_of_their_own_release_only():
    old, other = of_release("34"), of_release("28")
    shifted = next(
        symbol for symbol, ids in sorted(old.ids_of.items())
        if symbol[:2] == "AC" and len(ids) == 1 and ids[0] in HUMAN and other.ids_of.get(symbol, ids) != ids
    )  # fmt: skip
    exact, _ = align(named_by(old, shifted, n_names=40_000))
    assert exact.annotation == "34"
    assert exact.gene_ids[0] == old.ids_of[shifted][0]
    without = dataclasses.replace(HUMAN, releases=tuple(r for r in HUMAN.releases if r is not old))
    near, _ = align(named_by(old, shifted, n_names=40_000), reference=without)
    assert near.status[0] == "ambiguous"


@pytest.mark.parametrize("held_out", ["44", "34", "28", "24", "GRCh37"])
def test_names_of_a_release_that_is_not_shipped_rarely_lead_to_a_wrong_gene(held_out):
    old = of_release(held_out)
    without = dataclasses.replace(HUMAN, releases=tuple(r for r in HUMAN.releases if r is not old))
    names = [symbol for symbol, ids in sorted(old.ids_of.items()) if len(ids) == 1][::7]
    alignment, _ = align(names, reference=without)
    truth = [old.ids_of[name][0] for name in names]
    wrong = sum(found != true for found, true in zip(alignment.gene_ids, truth, strict=True) if found and true in HUMAN)
    assert wrong <= 0.005 * len(names)


def test_names_of_a_committee_are_believed_only_among_names_of_genes():
    assert align(padded("TACTILE"))[0].gene_ids[0] == HUMAN.primary.ids_of["CD96"][0]
    assert align(padded("TACTILE"))[0].status[0] == "alias"
    assert align([f"gene{number}" for number in range(300)])[0].measured_genes == ()


def test_the_annotation_of_ids_is_found_and_that_of_symbols_is_called_a_guess():
    old = of_release("28")
    by_id, findings = align(sorted(old.symbols))
    assert (by_id.annotation, by_id.annotation_evidence) == ("28", "ids")
    assert "N-GENES-13" in codes(findings)
    by_symbol, findings = align(named_by(old, n_names=40_000))
    assert (by_symbol.annotation, by_symbol.annotation_evidence) == ("28", "symbols")
    assert "guessed" in next(f for f in findings if f.code == "N-GENES-01").message


def test_releases_that_explain_the_names_equally_well_are_a_tie():
    alignment, _ = align([CD4, CD3D, CD8A])
    assert alignment.annotation == "48|44|38|34|28|24|GRCh37"
    assert align(["gene1", "gene2"])[0].annotation == "unknown"


def test_features_that_name_one_gene_by_id_are_summed():
    alignment, findings = align([CD4, f"{CD4}.2", "ENSG00000182378.15", "ENSG00000182378.15_PAR_Y", CD3D])
    assert alignment.status == ("summed", "summed", "summed", "summed", "exact")
    assert alignment.measured_genes == tuple(sorted({CD4, CD3D, "ENSG00000182378"}))
    assert "N-GENES-08" in codes(findings)


def test_two_symbols_of_one_gene_are_never_summed():
    alignment, _ = align(padded("KIAA1522", "NHSL3"))
    assert alignment.status[:2] == ("ambiguous", "symbol")
    alignment, _ = align(padded("CD4", CD4))
    assert alignment.status[:2] == ("ambiguous", "exact")
    alignment, _ = align(padded("CD4", "CD4"))
    assert alignment.status[:2] == ("ambiguous", "ambiguous")


def test_copies_numbered_by_make_unique_are_ambiguous_with_the_first_of_their_name():
    for copy in ("CD4-1", "CD4.1"):
        alignment, findings = align(padded("CD4", copy, "CD3D"))
        assert alignment.status[:3] == ("ambiguous", "ambiguous", "symbol")
        assert "N-GENES-04" in codes(findings)


def test_a_symbol_with_a_number_of_its_own_is_no_copy():
    alignment, _ = align(padded("NKX2-1", "HLA-DRB1"))
    assert alignment.status[:2] == ("symbol", "symbol")


def test_an_alias_leads_where_the_user_says_but_never_overrules_a_current_symbol():
    aliases = {"GNB2L1": "RACK1", "CD4": CD8A, "LOSTGENE1": CD3D}
    alignment, findings = align(padded("GNB2L1", "CD4", "LOSTGENE1"), aliases=aliases)
    assert alignment.status[:3] == ("alias", "symbol", "alias")
    assert alignment.gene_ids[:3] == (HUMAN.primary.ids_of["RACK1"][0], CD4, CD3D)
    assert "W-GENES-12" not in codes(findings)


def test_an_alias_that_leads_nowhere_is_reported():
    alignment, findings = align(padded("GNB2L1"), aliases={"GNB2L1": "NOSUCHGENE"})
    assert alignment.status[0] == "unknown"
    assert next(f for f in findings if f.code == "W-GENES-12").examples == ("GNB2L1",)


def test_a_successor_of_a_retired_id_comes_from_the_user_only():
    retired = min(HUMAN.retired)
    assert align([retired, CD3D])[0].status[0] == "retired"
    assert align([retired, CD3D], aliases={retired: CD4})[0].gene_ids[0] == CD4


def test_spike_ins_stand_outside_of_the_mapped_share():
    alignment, findings = align([CD4, "ERCC-00002", "gene7"], totals=[60, 100, 40])
    assert alignment.genes_mapped_fraction_of_counts == pytest.approx(0.6)
    assert alignment.count_fraction == pytest.approx((0.3, 0.5, 0.2))
    assert {"N-GENES-11", "N-GENES-10"} <= codes(findings)


def test_spreadsheet_dates_are_reported_and_not_guessed():
    alignment, findings = align(padded("1-Mar", "Sep-04"))
    assert alignment.gene_ids[:2] == ("", "")
    wrecked = next(f for f in findings if f.code == "W-GENES-06")
    assert (wrecked.n_affected, wrecked.severity) == (2, Severity.WARNING)


def test_a_mouse_file_against_the_human_reference_is_an_error_and_maps_nothing_by_case():
    mouse = load_reference("Mus musculus")
    features = [mouse.symbol_of(g) for g in sorted(mouse.protein_coding)[:2000] if g in mouse]
    alignment, findings = align(features)
    error = next(f for f in findings if f.code == "E-GENES-07")
    assert error.severity is Severity.ERROR
    assert "Mus musculus" in error.remedy
    assert alignment.genes_mapped_fraction_of_counts < 0.05
    assert "E-GENES-07" not in codes(align(features, reference=mouse)[1])


def test_upper_cased_mouse_symbols_are_not_taken_for_human_ones():
    mouse = load_reference("Mus musculus")
    features = [mouse.symbol_of(g).upper() for g in sorted(mouse.protein_coding)[:2000] if g in mouse]
    assert "E-GENES-07" in codes(align(features)[1])


def test_a_mixture_of_species_is_a_warning():
    mouse = load_reference("Mus musculus")
    assert "W-GENES-07" in codes(align([*HUMAN.ids[:300], *mouse.ids[:100]])[1])


def test_human_symbols_raise_no_alarm_beyond_the_route():
    _, findings = align(padded())
    assert codes(findings) == {"N-GENES-01"}
    assert "48" in findings[0].message


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_shares_add_up_and_no_gene_is_invented(data):
    pool = [*HUMAN.ids[:30], "CD4", "CD3D", "MATR3", "ERCC-00002", "KIAA1522", "gene1", *sorted(HUMAN.retired)[:5]]
    features = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=25))
    totals = data.draw(st.lists(st.integers(0, 100), min_size=len(features), max_size=len(features)))
    alignment, _ = align(features, totals)
    assert len(alignment.gene_ids) == len(alignment.status) == len(alignment.count_fraction) == len(features)
    assert all(not gene or gene in HUMAN for gene in alignment.gene_ids)
    assert 0.0 <= alignment.genes_mapped_fraction_of_counts <= 1.0
    assert sum(alignment.count_fraction) == pytest.approx(1.0 if sum(totals) else 0.0)
    mapped = [gene for gene, status in zip(alignment.gene_ids, alignment.status, strict=True) if status != "summed"]
    named = [gene for gene in mapped if gene]
    assert len(named) == len(set(named)), "only summed features may share a gene"


@settings(deadline=None, max_examples=25)
@given(order=st.permutations(["CD4", "CD3D", "MATR3", "KIAA1522", "NHSL3", CD8A, "TBCE", "TBCE-1", "ERCC-00002"]))
def test_the_order_of_features_changes_nothing(order):
    expected, _ = align(sorted(order))
    alignment, _ = align(order)
    as_table = dict(zip(expected.features, zip(expected.gene_ids, expected.status, strict=True), strict=True))
    found = dict(zip(alignment.features, zip(alignment.gene_ids, alignment.status, strict=True), strict=True))
    assert found == as_table


def test_no_counts_and_no_features_give_zero_shares():
    assert align(["CD4"], [0])[0].genes_mapped_fraction_of_counts == 0.0
    alignment, findings = align([])
    assert (alignment.features, findings) == ((), ())


def test_wrong_totals_are_refused():
    with pytest.raises(ValueError, match="2 feature totals were given for 1 features"):
        align(["CD4"], [1, 2])
    with pytest.raises(ValueError, match="negative or non-finite"):
        align(["CD4"], [-1.0])


def n_calls(work):
    """Return how many functions of Python a piece of work calls: what grows with it, on any machine."""
    found = []
    sys.setprofile(lambda frame, event, _: found.append(1) if event == "call" else None)
    try:
        work()
    finally:
        sys.setprofile(None)
    return len(found)


def test_ten_times_the_features_are_at_most_ten_times_the_work():
    features = [HUMAN.symbol_of(gene_id) for gene_id in HUMAN.ids[:5_000]]
    align(features[:10])  # what is read once is read
    few, many = (n_calls(lambda n=n: align(features[:n])) for n in (500, 5_000))
    assert many <= 11 * few


REAL = {
    "kang18_harmony_stim_ctrl": (0.997, "GRCh37", {"N-GENES-01"}),
    "kang18_muscat": (0.998, "GRCh37", {"N-GENES-01", "N-GENES-03"}),
    "pbmc3k_clustifyr": (0.997, "GRCh37", {"N-GENES-01"}),
    "pbmc_10x_3tech_symphony": (0.999, "24", {"N-GENES-01"}),
    "zheng17_sorted_mudan": (0.995, "GRCh37", {"N-GENES-01"}),
    "zheng17_pbmc_donorA_mudan": (0.995, "GRCh37", {"N-GENES-01"}),
    "pbmc_5k10k_citeseq_scvi": (0.998, "28", {"N-GENES-09"}),
    "puram17_headneck_chetah": (0.977, "GRCh37", {"N-GENES-01", "N-GENES-10"}),
    "datlinger17_cropseq_jurkat": (0.976, "44", {"N-GENES-01"}),
    "tian19_cell_lines": (0.990, "28", {"N-GENES-03", "N-GENES-13"}),
    "tian19_cellmix": (0.997, "28", {"N-GENES-11", "N-GENES-13"}),
    "liver_bcells_cxg": (0.998, "38|34|28", {"N-GENES-03", "N-GENES-13"}),
    "mouse_brain_merfish_cxg": (0.999, "M33|M27|M25", {"N-GENES-03"}),
    "baccin20_mouse_bm_tapseq": (0.967, "M25", {"N-GENES-01"}),
    "kolodziejczyk15_mesc_scmerge": (0.999, "M37|M33|M27|M25", {"N-GENES-11"}),
    "beeline_mdc_tfs500": (0.910, "M25", {"N-GENES-09"}),
    "pbmc4k_scdcc_anon": (0.0, "unknown", {"N-GENES-10"}),
}
"""Least share of the counts that maps, annotation, and findings."""


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real files beside the checkout")
@pytest.mark.parametrize("name", sorted(REAL))
def test_real_files_keep_their_counts(name):
    least, release, expected = REAL[name]
    with h5py.File(SHARED / f"{name}.h5ad") as file:
        features = [feature.decode() for feature in file["var"]["_index"][:]]
        matrix = file["X"]
        if isinstance(matrix, h5py.Group):
            totals = np.bincount(matrix["indices"][:], weights=matrix["data"][:], minlength=len(features))
        else:
            totals = matrix[:].sum(axis=0)
    organism = guess_organism(features)
    reference = load_reference(organism if organism in shipped_organisms() else "Homo sapiens")
    alignment, findings = align(features, np.maximum(totals, 0), reference=reference)
    assert least <= alignment.genes_mapped_fraction_of_counts <= min(1.0, least + 0.01)
    assert alignment.annotation == release
    assert expected <= codes(findings)
    assert not any(finding.severity is Severity.ERROR for finding in findings)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the real files beside the checkout")
def test_muscat_composites_are_parsed():
    with h5py.File(SHARED / "kang18_muscat.h5ad") as file:
        features = [feature.decode() for feature in file["var"]["_index"][:]]
    composites = [i for i, feature in enumerate(features) if "ENSG" in feature]
    alignment, _ = align(features)
    assert len(composites) == 91
    # Five carry ids of alternative GRCh37 contigs, which are retired: their symbol must not win.
    assert sum(alignment.status[i] == "composite" for i in composites) == 86
    assert all(alignment.status[i] in {"composite", "retired"} for i in composites)


@settings(deadline=None, max_examples=25)
@given(
    numbers=st.lists(st.integers(0, len(HUMAN.ids) - 1), min_size=1, max_size=20, unique=True),
    version=st.integers(1, 30),
)
def test_an_id_leads_to_its_gene_with_and_without_its_version(numbers, version):
    ids = [HUMAN.ids[number] for number in numbers]
    plain, _ = align(ids)
    versioned, _ = align([f"{gene_id}.{version}" for gene_id in ids])
    assert versioned.gene_ids == plain.gene_ids == tuple(ids)
    assert align(plain.gene_ids)[0].gene_ids == plain.gene_ids

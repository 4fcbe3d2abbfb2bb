"""scGPT over RNA with proteins or peaks of one file: the same reading and floors as totalVI, and what it cannot say."""

import importlib.util
import json
from pathlib import Path

import anndata
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csr_matrix
from typer.testing import CliRunner

from cytolabe.cli.main import app
from cytolabe.errors import RefusedError, UsageError
from cytolabe.flow import omics_scgpt
from cytolabe.flow.omics import embed_omics
from cytolabe.flow.omics_file import AskedOmics, read_omics
from cytolabe.flow.omics_hidden import regression
from cytolabe.flow.omics_integration import Embedded, integration_of
from cytolabe.genes.reference import load_reference
from cytolabe.models.scgpt.checkpoint import load_scgpt, save_scgpt
from cytolabe.models.scgpt.learning import started
from cytolabe.models.scgpt.omics import FittedOmics, fit_omics
from cytolabe.models.scgpt.source import Learning
from cytolabe.models.totalvi import FittedTotalvi
from cytolabe.records import Protocol

needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="the extra [models] is not installed")

QUICK = {"preset": "tiny", "n_steps": 4, "check_every": 2, "warm_up": 1, "panels": "flag", "n_top_genes": 60}
PLACES = [f"chr1-{100 * k + 1}-{100 * k + 90}" for k in range(40)]


def asked(**changes):
    return AskedOmics(**{"proteins": "adt", "batch": "batch", "kind": "scgpt", "options": QUICK, **changes})


def labelled(table):
    table.obs["called"] = np.where(np.arange(table.n_obs) % 2, "B", "T")


def with_peaks(table, *, binary=True):
    """Give each kind of cell peaks of its own, sparse, with places in uns."""
    labelled(table)
    rng = np.random.default_rng(5)
    kind = np.arange(table.n_obs) % 2
    is_own = np.where(kind[:, None] == 0, np.arange(40) < 20, np.arange(40) >= 20)
    counts = rng.poisson(0.1 + 1.4 * is_own)
    table.obsm["atac"] = csr_matrix(np.minimum(counts, 1) if binary else counts)
    table.uns["peak_names"] = np.array(PLACES)


@needs_torch
@pytest.mark.models
def test_hidden_proteins_are_told_in_bins_beside_the_floors_of_totalvi_and_a_random_network(make_cite_file, tmp_path):
    path, out = make_cite_file(change=labelled), tmp_path / "e.parquet"
    words = ["omics", str(path), "--proteins", "adt", "--batch", "batch", "--person", "donor", "--label", "called"]
    said = [word for name, value in QUICK.items() for word in ("--option", f"{name}={value}")]
    words += ["--hold-out", "two", "--model-kind", "scgpt", *said, "-o", str(out)]
    found = CliRunner().invoke(app, [*words, "--json"])
    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert (document["model"], document["protocol"], document["checkpoint"]) == ("scgpt", "self_supervised", None)
    assert (document["n_train"], document["n_held_out"], document["n_cells"]) == (80, 80, 160)
    assert (document["n_genes"], document["n_proteins"], document["n_peaks"]) == (60, 3, 0)
    # No weight moves for the library, so nothing of it was fitted on; what both sides share is told all the same.
    assert (document["fit_on_query"], document["status"], document["n_shared_persons"]) == ("none", "QUALIFIED", 4)
    of = {row["protein"]: row for row in document["proteins"]}
    assert list(of) == ["CD3", "CD19", "isotype"]
    # What four steps teach is nothing; the floors stand, on counts and on bins.
    assert of["CD3"]["regression_r"] > 0.8
    assert of["CD3"]["mean_bin_error"] > of["CD3"]["regression_bin_error"]
    assert {"scgpt_r", "random_r", "scgpt_bin_r", "random_bin_r", "scgpt_bin_error", "random_bin_error"} < set(
        of["CD3"]
    )
    assert "scgpt_error" not in of["CD3"]
    assert any("no counts: r is beside measured log counts" in note for note in document["notes"])
    assert any("QUALIFIED(panel)" in note for note in document["notes"])
    cells, _ = read_omics(path, asked())
    first, second = (cells.take(np.flatnonzero(cells.batches == name)) for name in ("one", "two"))
    known, truth = (np.log1p(side.modalities["protein"].counts.toarray()) for side in (first, second))
    floor = regression(first, second, known)
    assert of["CD3"]["regression_r"] == pytest.approx(np.corrcoef(floor[:, 0], truth[:, 0])[0, 1])
    rows = {row["name"]: row for row in document["integration"]["rows"]}
    assert list(rows) == [
        "control: none", "control: shuffled", "control: cell types", "scgpt", "control: random weights",
    ]  # fmt: skip
    assert rows["scgpt"]["protocol"] == "self_supervised"
    assert rows["scgpt"]["weights"] == document["weights"] != rows["control: random weights"]["weights"]
    assert rows["control: random weights"]["weights"].startswith("sha256:")
    assert rows["control: none"]["weights"] is None
    assert rows["control: cell types"]["avg_bio"] > rows["control: shuffled"]["avg_bio"]
    assert document["integration"]["status"] == "QUALIFIED"
    assert document["findings"] == []
    table = pq.read_table(out)
    assert table.num_rows == 160
    assert {b"model": b"scgpt", b"weights": document["weights"].encode()}.items() <= table.schema.metadata.items()
    shown = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "again.parquet")])
    assert "r scGPT" in shown.stdout
    assert (tmp_path / "again.parquet").read_bytes() == out.read_bytes()


def nearly_one_vector(fitted, cells):
    noise = np.random.default_rng(0).normal(size=(len(cells.cell_ids), 4))
    return (np.array([3.0, -1.0, 2.0, 0.5]) + 1e-4 * noise).astype(np.float32)


@pytest.mark.models
@pytest.mark.parametrize(
    ("kind", "fitted", "extra"), [("scgpt", FittedOmics, "torch"), ("totalvi", FittedTotalvi, "scvi")]
)
def test_an_embedding_that_holds_nothing_is_a_finding_of_either_kind(
    make_cite_file, tmp_path, monkeypatch, kind, fitted, extra
):
    if not importlib.util.find_spec(extra):
        pytest.skip("the extra [models] is not installed")
    monkeypatch.setattr(fitted, "embed", nearly_one_vector)
    options = QUICK if kind == "scgpt" else {"n_hidden": 8, "n_latent": 4, "max_epochs": 1}
    words = [
        "omics",
        str(make_cite_file(change=labelled)),
        "--proteins",
        "adt",
        "--batch",
        "batch",
        "--model-kind",
        kind,
    ]
    words += [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
    found = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "e.parquet"), "--json"])
    assert found.exit_code == 0, found.stderr
    (finding,) = json.loads(found.stdout)["findings"]
    assert (finding["code"], finding["where"], finding["severity"]) == ("W-MODEL-02", kind, "warning")
    if kind == "scgpt":
        shown = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "again.parquet")])
        assert "W-MODEL-02 scgpt: the embedding collapsed: all 160 cells looked at have one vector" in shown.stdout


@needs_torch
@pytest.mark.models
def test_the_contrast_of_two_passes_is_an_option_and_reaches_the_training(make_cite_file, tmp_path, monkeypatch):
    path, weighed = make_cite_file(), []

    def told(*words, contrast, **named):
        weighed.append(contrast)
        return fit_omics(*words, contrast=contrast, **named)

    monkeypatch.setattr(omics_scgpt, "fit_omics", told)
    plain, off, on = (
        embed_omics(path, asked(options={**QUICK, "n_steps": 2, **more}), out=tmp_path / f"{number}.parquet")[0]
        for number, more in enumerate(({}, {"contrast": 0}, {"contrast": 10}))
    )
    assert weighed == [0.0, 0.0, 10.0]
    assert plain["weights"] == off["weights"] != on["weights"]


@needs_torch
@pytest.mark.models
def test_a_checkpoint_of_symbols_is_led_to_the_ids_of_the_file(make_cite_file, tmp_path):
    reference, path = load_reference(), make_cite_file()
    genes = sorted(reference.protein_coding)[:300]
    symbols = [reference.primary.symbols[gene] for gene in genes[:90]]
    save_scgpt(started(Learning(preset="tiny"), symbols, seed=0, fields={}), tmp_path / "checkpoint")
    n_known = int((load_scgpt(tmp_path / "checkpoint").vocabulary.columns(genes, reference) >= 0).sum())
    assert n_known > 80
    options = {**QUICK, "n_top_genes": 200, "checkpoint": str(tmp_path / "checkpoint")}
    document, _ = embed_omics(path, asked(options=options), out=tmp_path / "e.parquet")
    assert document["protocol"] == "fine_tuned"
    assert document["checkpoint"] == options["checkpoint"]
    # A gene that the vocabulary lacks is not read: it would be a row that learned nothing.
    assert document["n_genes"] == n_known
    assert any(f"{300 - n_known} of 300 genes are not in the vocabulary" in note for note in document["notes"])
    assert any("not asked, because no library was held out" in note for note in document["notes"])
    assert (document["proteins"], document["fit_on_query"], document["status"]) == ([], None, None)


@needs_torch
@pytest.mark.models
@pytest.mark.parametrize("binary", [True, False])
def test_peaks_are_a_modality_of_their_own_read_as_counts_or_as_open(make_cite_file, tmp_path, binary):
    path = make_cite_file(change=lambda table: with_peaks(table, binary=binary))
    want = asked(proteins="", peaks="atac", label="called", options={**QUICK, "n_top_peaks": 30})
    document, _ = embed_omics(path, want, out=tmp_path / "e.parquet")
    assert (document["n_peaks"], document["n_proteins"], document["n_genes"]) == (30, 0, 60)
    assert any("30 of 40 peaks are read" in note for note in document["notes"])
    # Random bins of zeros and ones would be amounts that nobody measured.
    assert any("peak has no value but 0 and 1" in note for note in document["notes"]) is binary
    ties = pq.read_schema(tmp_path / "e.parquet").metadata[b"ties.peak"]
    assert ties == (b"mid" if binary else b"random")
    both, _ = embed_omics(path, asked(peaks="atac"), out=tmp_path / "both.parquet")
    assert (both["n_peaks"], both["n_proteins"]) == (40, 3)


def test_peaks_are_named_by_their_places_and_by_nothing_else(make_cite_file):
    places = {
        "chr1:1-60": "chr1:1-60", "chr1-1-70": "chr1:1-70", "chrX_0100_600": "chrX:100-600", "1:5-9": "1:5-9",
        "GL000194.1:10-20": "GL000194.1:10-20", "chrUn_KI270742v1-1-20": "chrUn_KI270742v1:1-20",
    }  # fmt: skip
    wrong = ["CD3", "chr1:600-100", "chr1:100", "peak17", ""]

    def named(names):
        def change(table):
            with_peaks(table)
            table.uns["peak_names"] = np.array([*names, *PLACES[len(names) :]], dtype=object)

        return change

    want = asked(proteins="", peaks="atac")
    cells, _ = read_omics(make_cite_file(change=named(places)), want)
    assert cells.modalities["peak"].features[: len(places) + 1] == (*places.values(), "chr1:601-690")
    with pytest.raises(UsageError, match=r"5 of 40 peaks are named otherwise .*first 'CD3'.*chr1:100-600"):
        read_omics(make_cite_file(change=named(wrong), name="wrong"), want)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "multivi"}, "--model-kind multivi: there are totalvi, scgpt"),
        ({"kind": "totalvi", "options": {}, "peaks": "atac"}, "Peaks are read by --model-kind scgpt"),
        ({"kind": "totalvi", "options": {}, "proteins": ""}, "totalVI reads RNA and proteins"),
        ({"proteins": ""}, "Name the counts beside RNA"),
        ({"peaks": "atac", "held_out": "two"}, "--hold-out with --peaks"),
        ({"save": Path("somewhere")}, "--save goes with totalVI alone"),
        ({"model": Path("somewhere")}, "--model goes with totalVI alone"),
        ({"options": {"n_step": 3}}, "--option n_step: scgpt knows .*n_steps"),
        ({"options": {"preset": "huge"}}, "--option preset=huge: one of tiny, small, base"),
        ({"options": {"n_steps": 0}}, "n_steps=0: a number above 0 is needed, a whole one"),
        ({"options": {"learning_rate": "fast"}}, "learning_rate=fast: a number above 0"),
        ({"options": {"contrast": -1}}, "contrast=-1: a number of 0 or more"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_a_file_is_read(changes, told, tmp_path):
    with pytest.raises(UsageError, match=told):
        embed_omics(tmp_path / "absent.h5ad", asked(**changes), out=tmp_path / "e.parquet")


def test_a_panel_and_values_that_are_no_counts_are_refused(make_cite_file, tmp_path):
    path = make_cite_file(change=with_peaks)
    with pytest.raises(RefusedError, match=r"300 genes.*rule R3.*panels=flag"):
        embed_omics(path, asked(options={"preset": "tiny"}), out=tmp_path / "e.parquet")

    def normalized(table):
        with_peaks(table)
        table.obsm["atac"] = table.obsm["atac"] * 0.5

    with pytest.raises(RefusedError, match=r"values of peaks are no counts, first 0\.5 of chr1:"):
        read_omics(make_cite_file(change=normalized, name="halved"), asked(proteins="", peaks="atac"))


def test_integration_is_refused_where_libraries_are_types_and_not_run_where_there_is_one():
    rng = np.random.default_rng(0)
    values, rna = rng.normal(size=(40, 3)), csr_matrix(rng.poisson(3, (40, 50)) + 1)
    one = (Embedded(name="scgpt", protocol=Protocol.SELF_SUPERVISED, values=values),)
    batches = np.array(["a", "b"], dtype=object)[np.arange(40) // 20]
    none = np.full(40, "", dtype=object)
    nested = integration_of(one, rna, batches=batches, labels=batches, seed=0)
    assert (nested["status"], nested["rows"][-1]["avg_bio"]) == ("REFUSED", None)
    assert "(R12)" in nested["reason"]
    assert nested["rows"][-1]["raw"]["avg_bio"] is not None
    alone = integration_of(one, rna, batches=np.full(40, "a", dtype=object), labels=none, seed=0)
    assert (alone["status"], alone["rows"]) == ("NOT_RUN", [])
    plain = integration_of(one, rna, batches=batches, labels=none, seed=0)
    assert [row["name"] for row in plain["rows"]] == ["control: none", "control: shuffled", "scgpt"]
    assert plain["rows"][-1]["avg_bio"] is None
    assert plain["rows"][-1]["pcr_batch"] >= 0
    # Cells without a label are left out, not a type of their own.
    some = np.where(np.arange(40) % 4 == 0, "", np.array(["T", "B"], dtype=object)[np.arange(40) % 2])
    assert integration_of(one, rna, batches=batches, labels=some, seed=0)["n_cells"] == 30


@needs_torch
@pytest.mark.models
def test_a_real_cite_seq_file_goes_through(real_files, tmp_path):
    """100 cells of each of two libraries of PBMC, 14 antibodies: the command's path, and no claim of worth."""
    table = anndata.read_h5ad(real_files / "pbmc_5k10k_citeseq_scvi.h5ad")
    rows = np.concatenate([np.flatnonzero(table.obs["batch"] == name)[:100] for name in ("PBMC5k", "PBMC10k")])
    table[rows].copy().write_h5ad(tmp_path / "few.h5ad")
    options = {"preset": "tiny", "n_steps": 4, "check_every": 2, "warm_up": 1, "n_top_genes": 100, "max_length": 64}
    want = asked(proteins="protein_counts", held_out="PBMC5k", options=options)
    document, _ = embed_omics(tmp_path / "few.h5ad", want, out=tmp_path / "e.parquet")
    assert (document["n_train"], document["n_held_out"], document["n_proteins"]) == (100, 100, 14)
    rows = {row["protein"]: row for row in document["proteins"]}
    # Monocytes are told by their RNA: the floor finds them, whatever a network of four steps says.
    assert rows["CD14_TotalSeqB"]["regression_r"] > 0.8
    assert all(np.isfinite(row["scgpt_bin_error"]) for row in rows.values())
    assert document["integration"]["status"] == "QUALIFIED"
    assert document["n_shared_persons"] is None


def test_the_anonymous_cite_seq_file_is_refused_for_its_genes_and_for_its_proteins(real_files, tmp_path):
    """Its genes are counters and its proteins were normalized: two reasons, and a name for the genes would mend one."""
    path = real_files / "stoeckius17_cbmc_citeseq_anon.h5ad"
    want = asked(proteins="protein_norm", batch="")
    with pytest.raises(RefusedError, match="E-GENES-01"):
        read_omics(path, want)
    table = anndata.read_h5ad(path)[:50].copy()
    table.var_names = sorted(load_reference().protein_coding)[: table.n_vars]
    table.uns["protein_names"] = np.array([f"antibody{k}" for k in range(10)])
    table.write_h5ad(tmp_path / "named.h5ad")
    with pytest.raises(RefusedError, match="values of proteins are no counts, first -"):
        read_omics(tmp_path / "named.h5ad", want)

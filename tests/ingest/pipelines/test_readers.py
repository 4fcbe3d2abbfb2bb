"""Every published shape says what stands in it, and nothing else."""

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolabe.ingest.pipelines import read_pipeline
from cytolabe.ingest.pipelines.claims import Document, MalformedError, read_claims
from cytolabe.ingest.pipelines.folder import READERS
from cytolabe.provenance import canonical_json

from .conftest import LONG_METRICS, SHA, STAR_LOG, put, write_matrix


def words(facts):
    return {hop.hop: hop.value for hop in facts.hops if hop.value}


def facts_said(facts, hop):
    return {(claim.fact, claim.value) for claim in facts.evidence if claim.hop == hop}


def codes(facts):
    return [finding.code for finding in facts.findings]


def test_cell_ranger_gives_version_chemistry_library_and_genome_from_its_matrix(cell_ranger):
    facts = read_pipeline(cell_ranger)
    assert words(facts) == {
        "alignment": "Cell Ranger 7.1.0",
        "reference": "genome GRCh38",
        "kit": "chemistry Single Cell 3' v3",
        "library": "library ids pbmc_a",
    }
    assert facts_said(facts, "reads") == {("number of reads", "151733064")}
    assert ("number of cells", "5247") in facts_said(facts, "library")
    assert codes(facts) == []


def test_the_long_table_of_multi_gives_libraries_and_fastq_ids(tmp_path):
    facts = read_pipeline(put(tmp_path / "outs", {"metrics_summary.csv": LONG_METRICS}))
    assert words(facts) == {"library": "library ids AB_1, GEX_1", "reads": "FASTQ ids SC5v2_pbmc_GEX"}
    assert ("number of cells", "1222") in facts_said(facts, "library")


def test_starsolo_gives_its_version_from_the_log_and_the_command_as_it_was_in_effect(star):
    facts = read_pipeline(star)
    assert words(facts)["alignment"] == "STAR 2.7.10b"
    assert words(facts)["reference"] == "annotation gencode.v44.annotation.gtf"
    assert "run accessions SRR9000001, SRR9000002" in words(facts)["reads"]
    assert ("number of cells (Gene)", "564") in facts_said(facts, "library")
    assert ("features counted", "Gene, GeneFull") in facts_said(facts, "alignment")


def test_a_geometry_of_barcodes_is_no_kit(star):
    facts = read_pipeline(star)
    assert facts_said(facts, "kit") == {("geometry", "CB_UMI_Simple, barcodes of 3M-february-2018.txt, UMI 12")}
    assert "kit" not in words(facts)


def test_simpleaf_gives_the_protocol_of_its_mapping_and_the_version_of_alevin_fry_only(simpleaf):
    facts = read_pipeline(simpleaf)
    assert words(facts)["alignment"] == "alevin-fry 0.8.2"
    assert words(facts)["kit"] == "protocol of piscem chromium_v3"
    assert words(facts)["reference"] == f"SHA-256 of the indexed sequences (piscem) {SHA}"
    assert "run accessions ERR7000001" in words(facts)["reads"]
    # Neither piscem nor simpleaf writes its version into these files.
    assert codes(facts) == ["N-PIPELINE-07", "N-PIPELINE-07"]


def test_salmon_alevin_gives_version_protocol_index_and_reads(alevin):
    facts = read_pipeline(alevin)
    assert words(facts)["alignment"] == "salmon 1.10.1"
    assert words(facts)["kit"] == "protocol of salmon alevin chromiumV3"
    assert words(facts)["reference"] == f"SHA-256 of the indexed sequences (salmon) {SHA}"
    assert "run accessions SRR8000001" in words(facts)["reads"]


def test_an_older_meta_info_of_alevin_fry_is_not_taken_for_one_of_salmon(tmp_path):
    old = {"alt_resolved_cell_numbers": [], "num_quantified_cells": 3, "resolution_strategy": "CellRangerLike"}
    facts = read_pipeline(put(tmp_path / "fry", {"meta_info.json": old}))
    assert ("number of cells", "3") in facts_said(facts, "library")
    assert codes(facts) == ["N-PIPELINE-07"]


def test_nf_core_gives_the_aligner_by_its_version_and_the_protocol_but_no_tool_that_does_not_align(nf_core):
    facts = read_pipeline(nf_core)
    assert words(facts)["alignment"] == "Cell Ranger 8.0.0"
    assert words(facts)["kit"] == "protocol of nf-core/scrnaseq 10XV3"
    assert words(facts)["reference"] == "annotation of nf-core gencode.v44.gtf; genome sequence of nf-core GRCh38.fa"
    assert ("version of Nextflow", "24.04.2") in facts_said(facts, "alignment")


def test_every_fact_names_its_file_by_digest_and_no_folder_of_another_machine(star, simpleaf, alevin, nf_core):
    for folder in (star, simpleaf, alevin, nf_core):
        for claim in read_pipeline(folder).evidence:
            content = (folder / claim.file).read_bytes()
            assert claim.sha256 == f"sha256:{hashlib.sha256(content).hexdigest()}"
            assert not any(word.startswith("/") or ":/" in word for word in claim.value.split(", "))


# --- contradictions -----------------------------------------------------------------------------------------------


def test_two_versions_in_two_files_leave_the_hop_unknown_and_are_named(star):
    put(star, {"second/Log.out": STAR_LOG.replace("2.7.10b", "2.6.1d")})
    facts = read_pipeline(star)
    (found,) = [finding for finding in facts.findings if finding.code == "W-PIPELINE-03"]
    assert "2.6.1d (second/Log.out" in found.message
    assert "2.7.10b (Log.out" in found.message
    assert "alignment" not in words(facts)


def test_the_version_of_a_matrix_and_that_of_the_pipeline_around_it_are_one_fact(cell_ranger):
    put(cell_ranger, {"pipeline_info/software_versions.yml": "COUNT:\n  cellranger: 7.1.0\n"})
    assert words(read_pipeline(cell_ranger))["alignment"] == "Cell Ranger 7.1.0"
    put(cell_ranger, {"pipeline_info/software_versions.yml": "COUNT:\n  cellranger: 6.0.0\n"})
    assert "W-PIPELINE-03" in codes(read_pipeline(cell_ranger))


def test_an_index_of_other_sequences_than_the_run_used_is_a_contradiction(alevin):
    put(alevin, {"index/info.json": {"SeqHash": "cd" * 32}})
    facts = read_pipeline(alevin)
    assert "W-PIPELINE-03" in codes(facts)
    assert "reference" not in words(facts)


def test_several_libraries_and_reads_are_united_and_contradict_nothing(cell_ranger):
    write_matrix(cell_ranger / "b.h5", chemistry_description="Single Cell 3' v3", library_ids=["pbmc_b"], software_version="cellranger-7.1.0")  # fmt: skip
    facts = read_pipeline(cell_ranger)
    assert words(facts)["library"] == "library ids pbmc_a, pbmc_b"
    assert codes(facts) == []


# --- files that are not what they are called ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics_summary.csv", ""),
        ("metrics_summary.csv", "Estimated Number of Cells\n1,2\n"),
        ("metrics_summary.csv", "Estimated Number of Cells\nmany\n"),
        ("Log.out", "nothing of STAR\n"),
        ("Log.out", "STAR version=2.7.10b\nEXITING because of fatal error\n"),
        ("Log.out", STAR_LOG.replace("--runThreadN 8   --genomeDir", "--runThreadN '8   --genomeDir")),
        ("Log.final.out", "Number of input reads |\tnan\n"),
        ("Solo.out/Gene/Summary.csv", "Estimated Number of Cells,564\n"),
        ("Solo.out/Gene/Summary.csv", "Number of Reads,1e6\n"),
        ("genomeParameters.txt", "sjdbGTFfile\ta.gtf\n"),
        ("cmd_info.json", "{"),
        ("cmd_info.json", "[]"),
        ("cmd_info.json", json.dumps({"index": "x"})),
        ("meta_info.json", json.dumps({"something": 1})),
        ("meta_info.json", json.dumps({"salmon_version": "1.10.1", "num_processed": "77"})),
        ("quant.json", json.dumps({"version_str": "0.8.2"})),
        ("map_info.json", json.dumps({"mode": "sc-rna"})),
        ("simpleaf_quant_log.json", json.dumps({"map_info": {}})),
        ("params_2024.json", json.dumps({"input": "a.csv"})),
        ("software_versions.yml", "COUNT: {cellranger: 8.0.0}\n"),
        ("software_versions.yml", "  cellranger: 8.0.0\n"),
        ("software_versions.yml", "- cellranger\n"),
        ("software_versions.yml", "\n"),
        ("reference.json", json.dumps({"genomes": ["GRCh38"]})),
        ("quant.json", "[" * 100_000),
        ("cmd_info.json", '{"salmon_version": "1.10\\ud800"}'),
        ("cmd_info.json", json.dumps({"salmon_version": "1.10\x1b[31m"})),
        ("cmd_info.json", json.dumps({"salmon_version": "1" * 30_000})),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_a_finding_and_no_fact(tmp_path, name, content):
    facts = read_pipeline(put(tmp_path / "run", {name: content}))
    assert codes(facts) == ["W-PIPELINE-02"]
    assert facts.findings[0].where == name
    assert facts.evidence == ()


NAMES = (
    "metrics_summary.csv", "reference.json", "Log.out", "Log.final.out", "Solo.out/Gene/Summary.csv", "genomeParameters.txt",
    "cmd_info.json", "meta_info.json", "info.json", "map_info.json", "x.sigs.json", "quant.json", "collate.json",
    "simpleaf_quant_log.json", "params_1.json", "software_versions.yml",
)  # fmt: skip
KEYS = ("genomes", "fasta_hash", "gtf_hash", "version", "salmon_version", "index", "mates1", "num_processed", "SeqHash", "num_reads",
        "signatures", "sha256_seqs", "cmdline", "num_quantified_cells", "version_str", "time_info", "map_info", "cmd_info", "map_cmd",
        "mapper", "aligner", "protocol", "gtf")  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(
    name=st.sampled_from(NAMES),
    content=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8).map(json.dumps) | st.text()
    | st.builds(str.__add__, st.sampled_from([STAR_LOG, LONG_METRICS, "Number of Reads,1\n", "A:\n  b: 1\n"]), st.text()),
)  # fmt: skip
def test_whatever_stands_in_a_file_is_facts_or_a_finding_and_can_be_recorded(name, content):
    document = Document(file=name, text=content, sha256="sha256:0")
    try:
        claims = read_claims(document, READERS)
    except MalformedError:
        return
    canonical_json([*claims])
    assert all(claim.value == claim.value.strip() and claim.value.isprintable() for claim in claims)


def test_bytes_that_are_no_text_and_matrices_that_are_no_hdf5_are_findings(tmp_path):
    put(tmp_path, {"cmd_info.json": "", "matrix.h5": "no hdf5"})
    (tmp_path / "cmd_info.json").write_bytes(b"\xff\xfe{")
    assert codes(read_pipeline(tmp_path)) == ["W-PIPELINE-02", "W-PIPELINE-02"]


def test_a_software_version_without_a_version_is_a_finding(tmp_path):
    write_matrix(tmp_path / "a.h5", software_version="unknown build", chemistry_description="Single Cell 3' v3")
    facts = read_pipeline(tmp_path)
    assert (codes(facts), facts.evidence) == (["W-PIPELINE-02"], ())


def test_a_folder_without_anything_known_says_so(tmp_path):
    assert codes(read_pipeline(put(tmp_path / "x", {"README.txt": "hello"}))) == ["W-PIPELINE-06"]


def test_links_and_hidden_folders_are_passed_by(star, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "Log.out").symlink_to(star / "Log.out")
    (tmp_path / "run" / "linked").symlink_to(star)
    put(tmp_path / "run", {".hidden/Log.out": STAR_LOG, "work/ab/Log.out": STAR_LOG})
    assert codes(read_pipeline(tmp_path / "run")) == ["W-PIPELINE-06"]


def test_a_folder_too_deep_to_be_looked_through_says_that_not_all_was_read(tmp_path):
    put(tmp_path / "run", {"Log.out": STAR_LOG, "/".join("abcdefghi") + "/x.txt": ""})
    facts = read_pipeline(tmp_path / "run")
    assert codes(facts) == ["W-PIPELINE-02"]
    assert words(facts)["alignment"] == "STAR 2.7.10b"


# --- verified, not only declared ----------------------------------------------------------------------------------


def reference(folder, *, gtf=b"chr1\tgene\n"):
    fasta = b">chr1\nACGT\n"
    (folder / "ref" / "fasta").mkdir(parents=True)
    (folder / "ref" / "genes").mkdir()
    (folder / "ref" / "fasta" / "genome.fa").write_bytes(fasta)
    (folder / "ref" / "genes" / "genes.gtf").write_bytes(gtf)
    said = {
        "genomes": ["GRCh38"],
        "version": "2020-A",
        "mkref_version": "4.0.0",
        "input_gtf_files": ["gencode.v32.primary_assembly.annotation.gtf.filtered"],
        "fasta_hash": hashlib.sha1(fasta, usedforsecurity=False).hexdigest(),
        "gtf_hash": hashlib.sha1(b"chr1\tgene\n", usedforsecurity=False).hexdigest(),
    }
    return put(folder, {"ref/reference.json": said})


def test_a_reference_whose_bytes_have_the_recorded_digests_is_verified(tmp_path):
    states = {hop.hop: hop.state for hop in read_pipeline(reference(tmp_path)).hops}
    assert states["reference"] == "verified"
    (tmp_path / "ref" / "genes" / "genes.gtf").unlink()
    states = {hop.hop: hop.state for hop in read_pipeline(tmp_path).hops}
    assert states["reference"] == "declared"


def test_a_flipped_byte_of_the_annotation_is_named_and_its_record_not_taken(tmp_path):
    facts = read_pipeline(reference(tmp_path, gtf=b"chr1\tgenE\n"))
    assert codes(facts) == ["W-PIPELINE-05"]
    assert "genes.gtf" in facts.findings[0].message
    assert words(facts) == {}

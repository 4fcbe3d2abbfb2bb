"""What a pipeline left behind reaches the record of a data set, and the cells of an atlas are counted by it."""

import json
import tomllib

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.flow.provenance import facts_of_folder, manifest_fragment, trace_hops
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.snapshot.atlas import open_atlas

QUANT = {"version_str": "0.8.2", "num_quantified_cells": 3, "resolution_strategy": "CellRangerLike"}
COMMAND = {"salmon_version": "1.10.1", "index": "/r/idx", "mates1": "/in/SRR8000001_R1.fastq.gz", "chromiumV3": []}


@pytest.fixture
def lab(tmp_path):
    """Return a folder with one contribution, its manifest and what its pipeline left behind."""
    rng = np.random.default_rng(5)
    genes = sorted(load_reference().protein_coding)[:700]
    counts = csr_matrix(rng.negative_binomial(0.4, 0.08, size=(60, 700)).astype(np.float32))
    table = pd.DataFrame({"cell_type": np.array(["B cells", "NK"])[np.arange(60) % 2], "donor_id": "d1"})
    table.index = [f"cell{i}" for i in range(60)]
    folder = tmp_path / "lab"
    (folder / "af").mkdir(parents=True)
    anndata.AnnData(X=counts, obs=table, var=pd.DataFrame(index=genes)).write_h5ad(folder / "lab.h5ad")
    (folder / "af" / "quant.json").write_text(json.dumps(QUANT))
    (folder / "af" / "cmd_info.json").write_text(json.dumps(COMMAND))
    (folder / "manifest.toml").write_text('pipeline = "af"\n[[dataset]]\nfile = "lab.h5ad"\n')
    return folder


def record_of(atlas):
    return open_atlas(atlas).entry("lab").record


def test_facts_of_the_pipeline_reach_the_record_with_file_and_digest(lab, tmp_path):
    ingest_sources(tmp_path / "atlas", [lab / "manifest.toml"])
    record = record_of(tmp_path / "atlas")
    assert record.provenance["alignment"] == "declared"
    assert record.declared["alignment"] == "alevin-fry 0.8.2; salmon 1.10.1"
    assert record.provenance["library"] == "unknown"
    (version,) = [claim for claim in record.evidence if claim.fact == "version of alevin-fry"]
    assert (version.file, version.place, version.sha256[:7]) == ("quant.json", "version_str", "sha256:")


def test_another_log_makes_another_record_but_not_another_snapshot(lab, tmp_path):
    ingest_sources(tmp_path / "atlas", [lab / "manifest.toml"])
    before = open_atlas(tmp_path / "atlas").freeze().snapshot_id
    (again,), _, _ = ingest_sources(tmp_path / "atlas", [lab / "manifest.toml"])
    assert again.status == "unchanged"
    (lab / "af" / "quant.json").write_text(json.dumps({**QUANT, "version_str": "0.10.0"}))
    (changed,), _, _ = ingest_sources(tmp_path / "atlas", [lab / "manifest.toml"])
    assert changed.status == "accepted"
    assert record_of(tmp_path / "atlas").declared["alignment"] == "alevin-fry 0.10.0; salmon 1.10.1"
    assert open_atlas(tmp_path / "atlas").freeze().snapshot_id == before


@pytest.mark.parametrize(
    ("key", "said", "state"),
    [
        ("alignment", "alevin-fry 0.8", "declared"),
        ("alignment", "salmon v1.10.1", "declared"),
        ("alignment", "STAR 2.7.10b", "unknown"),
        ("kit", "10x 3' v3", "declared"),
        ("kit", "10x 3' v2", "unknown"),
        ("reads", "SRR8000001", "declared"),
        ("reads", "SRR1111111", "unknown"),
    ],
)
def test_a_manifest_that_contradicts_the_pipeline_leaves_the_hop_unknown(lab, tmp_path, key, said, state):
    (lab / "manifest.toml").write_text(f'pipeline = "af"\n{key} = "{said}"\n')
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [lab])
    record = record_of(tmp_path / "atlas")
    assert record.provenance[key] == state
    assert record.declared.get(key, "") == (said if state == "declared" else "")
    assert ("W-PIPELINE-04" in {finding.code for finding in outcome.findings}) == (state == "unknown")


@pytest.mark.parametrize("name", ["nowhere", "../elsewhere", "lab.h5ad", "/"])
def test_a_pipeline_that_is_not_beside_the_manifest_refuses_the_contribution(lab, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (lab / "manifest.toml").write_text(f'pipeline = "{name}"\n')
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [lab])
    assert outcome.status == "refused"
    assert [f.code for f in outcome.findings if f.severity == "error"] == ["E-PIPELINE-01"]


def test_a_link_out_of_the_folder_is_not_followed(lab, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (lab / "linked").symlink_to(tmp_path / "elsewhere")
    (lab / "manifest.toml").write_text('pipeline = "linked"\n')
    (outcome,), _, _ = ingest_sources(tmp_path / "atlas", [lab])
    assert "E-PIPELINE-01" in {finding.code for finding in outcome.findings}


def test_coverage_counts_cells_and_not_data_sets(lab, tmp_path):
    data = anndata.read_h5ad(lab / "lab.h5ad")[:20].copy()
    data.obs_names = [f"other{i}" for i in range(20)]
    data.write_h5ad(tmp_path / "small.h5ad")
    ingest_sources(tmp_path / "atlas", [lab / "manifest.toml", tmp_path / "small.h5ad"])
    traced = trace_hops(tmp_path / "atlas")
    assert traced.coverage["alignment"] == {"verified": 0.0, "declared": 0.75, "recovered": 0.0, "unknown": 0.25}
    assert traced.coverage["matrix"]["verified"] == 1.0
    assert traced.run_accession_fraction == 0.75
    assert trace_hops(lab) is None


def test_the_lines_for_a_manifest_say_what_the_hops_say(lab):
    facts = facts_of_folder(lab / "af")
    found = tomllib.loads(manifest_fragment(facts))
    assert found == {hop.hop: hop.value for hop in facts.hops if hop.value}
    assert "# library: unknown" in manifest_fragment(facts)

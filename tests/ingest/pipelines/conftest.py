"""Folders as the pipelines leave them behind, written by hand in the published shapes."""

import json

import h5py
import numpy as np
import pytest

METRICS = (
    "Estimated Number of Cells,Mean Reads per Cell,Median Genes per Cell,Number of Reads,Valid Barcodes\n"
    '"5,247","28,918",1907,"151,733,064",97.4%\n'
)
LONG_METRICS = (
    "Category,Library Type,Grouped By,Group Name,Metric Name,Metric Value\n"
    'Cells,Gene Expression,,,Cells,"1,222"\n'
    'Library,Gene Expression,Fastq ID,SC5v2_pbmc_GEX,Number of reads,"1,000"\n'
    'Library,Gene Expression,Physical library ID,GEX_1,Cells,"1,222"\n'
    'Library,Antibody Capture,Physical library ID,AB_1,Cells,"1,222"\n'
)
STAR_LOG = """\
STAR version=2.7.10b
STAR compilation time,server,dir=2022-11-01T09:53:26-04:00 :/source
##### Command Line:
STAR --genomeDir refs/star --readFilesIn SRR9000001_2.fastq.gz SRR9000001_1.fastq.gz --soloType CB_UMI_Simple
##### Final user re-defined parameters-----------------:
runThreadN                        8
-------------------------------
##### Final effective command line:
STAR   --runThreadN 8   --genomeDir /data/refs/star_GRCh38   --sjdbGTFfile /data/refs/gencode.v44.annotation.gtf   --readFilesIn /scratch/SRR9000001_2.fastq.gz,/scratch/SRR9000002_2.fastq.gz   /scratch/SRR9000001_1.fastq.gz,/scratch/SRR9000002_1.fastq.gz   --soloType CB_UMI_Simple   --soloCBwhitelist /lists/3M-february-2018.txt   --soloUMIlen 12   --soloFeatures Gene   GeneFull
----------------------------------------
"""
FINAL_LOG = """\
                                 Started job on |\tOct 26 04:35:25
                             Started mapping on |\tOct 26 04:36:28

                          Number of input reads |\t250000
                      Average input read length |\t91
                   Uniquely mapped reads number |\t227041
"""
SUMMARY = "Number of Reads,250000\nReads With Valid Barcodes,0.971093\nQ30 Bases in CB+UMI,-nan\nEstimated Number of Cells,564\n"
SHA = "ab" * 32
MAP_COMMAND = (
    "piscem map-sc --index /refs/human_splici/index/piscem_idx --threads 16 -o out/af_map "
    "-1 in/ERR7000001_1.fastq.gz -2 in/ERR7000001_2.fastq.gz --geometry chromium_v3"
)
VERSIONS = """\
CELLRANGER_COUNT:
  cellranger: 8.0.0
"NFCORE_SCRNASEQ:SCRNASEQ:FASTQC_CHECK:FASTQC":
    fastqc: '0.12.1'
Workflow:
    nf-core/scrnaseq: v2.7.1
    Nextflow: 24.04.2
"""


def put(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def write_matrix(path, *, genomes=("GRCh38",), **attributes):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = (
                np.array(value, dtype="S") if isinstance(value, list) and isinstance(value[0], str) else value
            )
        group = file.create_group("matrix")
        group["barcodes"] = np.array(["AAAC-1"], dtype="S")
        group["data"], group["indices"], group["indptr"] = np.array([3]), np.array([0]), np.array([0, 1])
        group["shape"] = np.array([len(genomes), 1])
        group["features/id"] = np.array([f"ENSG{i:011d}" for i in range(len(genomes))], dtype="S")
        group["features/genome"] = np.array(genomes, dtype="S")
    return path


@pytest.fixture
def cell_ranger(tmp_path):
    write_matrix(
        tmp_path / "outs" / "filtered_feature_bc_matrix.h5",
        chemistry_description="Single Cell 3' v3",
        library_ids=["pbmc_a"],
        original_gem_groups=[1],
        software_version="cellranger-7.1.0",
    )
    return put(tmp_path / "outs", {"metrics_summary.csv": METRICS})


@pytest.fixture
def star(tmp_path):
    return put(
        tmp_path / "star",
        {"Log.out": STAR_LOG, "Log.final.out": FINAL_LOG, "Solo.out/Gene/Summary.csv": SUMMARY},
    )


@pytest.fixture
def simpleaf(tmp_path):
    return put(
        tmp_path / "simpleaf",
        {
            "simpleaf_quant_log.json": {
                "time_info": {"map_time": {"secs": 10, "nanos": 0}},
                "cmd_info": {"map_cmd": MAP_COMMAND, "quant_cmd": "alevin-fry quant -i af_quant"},
                "map_info": {"mapper": "piscem", "map_cmd": MAP_COMMAND, "map_outdir": "out/af_map"},
            },
            "af_map/map_info.json": {
                "mode": "sc-rna",
                "num_reads": 990,
                "num_mapped": 800,
                "signatures": {"sha256_seqs": SHA},
            },
            "af_quant/generate_permit_list.json": {"version_str": "0.8.2", "cmd": "alevin-fry generate-permit-list"},
            "af_quant/quant.json": {
                "version_str": "0.8.2",
                "num_quantified_cells": 412,
                "num_genes": 109_803,
                "resolution_strategy": "CellRangerLike",
                "usa_mode": True,
            },
        },
    )


@pytest.fixture
def alevin(tmp_path):
    return put(
        tmp_path / "alevin",
        {
            "cmd_info.json": {
                "salmon_version": "1.10.1",
                "libType": "ISR",
                "index": "/refs/salmon_splici",
                "mates1": ["/in/SRR1_R1.fastq.gz", "/in/b_R1.fastq.gz"],
                "mates2": "/in/SRR8000001_R2.fastq.gz",
                "chromiumV3": [],
                "tgMap": "/refs/t2g.tsv",
            },
            "aux_info/meta_info.json": {"salmon_version": "1.10.1", "num_processed": 77, "index_seq_hash": SHA},
        },
    )


@pytest.fixture
def nf_core(tmp_path):
    return put(
        tmp_path / "results",
        {
            "pipeline_info/params_2024-08-13_10-11-12.json": {
                "aligner": "cellranger",
                "protocol": "10XV3",
                "genome": None,
                "fasta": "/refs/GRCh38.fa",
                "gtf": "s3://refs/gencode.v44.gtf",
            },
            "pipeline_info/nf_core_scrnaseq_software_mqc_versions.yml": VERSIONS,
        },
    )

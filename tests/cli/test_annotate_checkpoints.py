"""`cytolabe annotate` with a checkpoint folder of Geneformer and of scGPT, by the command, from the file to the copy and its record."""

import hashlib
import importlib.util
import json

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from cytolabe.flow.interpret import reconcile_atlas
from cytolabe.flow.sources import ingest_sources
from cytolabe.genes.reference import load_reference
from cytolabe.models.geneformer.checkpoint import CheckpointCard, save_pretrained
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import GeneformerShape
from cytolabe.models.scgpt.checkpoint import save_scgpt
from cytolabe.models.scgpt.learning import started
from cytolabe.models.scgpt.source import Learning
from cytolabe.snapshot.atlas import open_atlas
from cytolabe.snapshot.layout import Layout
from cytolabe.snapshot.run_ledger import read_runs

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("torch", "transformers", "safetensors")),
        reason="the extra [models] is not installed",
    ),
]

GENES = sorted(load_reference().protein_coding)[:300]
TYPES = ("B cells", "NK cells", "Monocytes")
TERMS = {"B cells": "CL:0000236", "NK cells": "CL:0000623", "Monocytes": "CL:0000576"}


def lab(seed):
    """Return 90 cells of three donors, whose types differ in a third of their genes by much."""
    rng = np.random.default_rng(seed)
    kind = np.arange(90) % 3
    level = np.random.default_rng(0).gamma(1.0, 2.0, 300) + 0.1
    rates = level * np.where(np.arange(300)[None, :] % 3 == kind[:, None], 4.0, 0.4)
    table = pd.DataFrame(
        {"cell_type": np.array(TYPES, dtype=object)[kind], "donor_id": [f"donor{seed}{k // 3 % 3}" for k in range(90)]},
        index=[f"c{k}" for k in range(90)],
    )
    counts = csr_matrix(rng.poisson(rates), dtype=np.float32)
    return anndata.AnnData(X=counts, obs=table, var=pd.DataFrame(index=GENES))


def geneformer_folder(folder):
    shape = GeneformerShape(n_tokens=304, n_layers=2, width=32, n_heads=2, feed_forward=64, n_positions=64)
    names = ["<pad>", "<mask>", "<cls>", "<eos>", *GENES]
    tokens = {name: number for number, name in enumerate(names)}
    dictionaries = Dictionaries(tokens=tokens, medians=dict.fromkeys(GENES, 1.0), digests={})
    about = CheckpointCard(weights="", dictionaries={}, pretraining=("genecorpus-104m",))
    save_pretrained(folder, blank_network(shape, seed=1), shape=shape, dictionaries=dictionaries, about=about)


def scgpt_folder(folder):
    symbols = [load_reference().primary.symbols[gene] for gene in GENES]
    save_scgpt(started(Learning(preset="tiny"), [name for name in symbols if name], seed=1, fields={}), folder)


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labs")
    for seed, name in ((1, "a"), (2, "b")):
        lab(seed).write_h5ad(folder / f"{name}.h5ad")
    ingest_sources(folder / "atlas", [folder])
    reconcile_atlas(folder / "atlas")
    open_atlas(folder / "atlas").freeze()
    return folder / "atlas"


@pytest.mark.parametrize(("model", "make"), [("geneformer", geneformer_folder), ("scgpt", scgpt_folder)])
def test_a_checkpoint_folder_names_the_cells_of_a_file(call, atlas, tmp_path, model, make):
    make(tmp_path / "checkpoint")
    lab(3).write_h5ad(tmp_path / "query.h5ad")
    digest = f"sha256:{hashlib.sha256((tmp_path / 'checkpoint' / 'model.safetensors').read_bytes()).hexdigest()}"

    def annotate(name, *options):
        said = [word for option in options for word in ("--option", option)]
        words = ["annotate", tmp_path / "query.h5ad", "--atlas", atlas, "-o", tmp_path / name, "--model", model]
        return call(*words, "--open-types", 1, *said, "--json")

    given = (f"checkpoint={tmp_path / 'checkpoint'}", "max_length=64")
    refused = annotate("a.h5ad", *given)
    assert refused.code == 1
    assert "rule R3" in refused.document["error"]["message"]
    assert "panels" in refused.document["error"]["message"]
    assert annotate("b.h5ad", *given, "panels=flag", f"expected=sha256:{'0' * 64}").code == 4
    absent = annotate("c.h5ad", f"checkpoint={tmp_path / 'absent'}", "panels=flag")
    assert absent.code in {2, 3}
    assert str(tmp_path / "absent") in absent.document["error"]["message"]
    assert annotate("d.h5ad", "panels=flag").code == 2
    found = annotate("query.annotated.h5ad", *given, "panels=flag")
    assert found.code == 0, found.err
    document = found.document
    table = anndata.read_h5ad(tmp_path / "query.annotated.h5ad").obs
    assert len(table) == 90
    named = table["cytolabe_status"] == "labelled"
    # Weights are random: those of Geneformer tell types that differ in a third of their genes all the same, scGPT's do not, and annotate abstains.
    assert set(table["cytolabe_status"]) <= {"labelled", "coarser", "unknown"}
    right = table["cytolabe_term_id"].astype(str) == table["cell_type"].astype(str).map(TERMS)
    assert right[named].mean() > 0.9 if model == "geneformer" else named.mean() < 0.5
    assert document["asked"]["model"] == model
    assert document["asked"]["options"]["checkpoint"] == "checkpoint"
    runs = [run for run in read_runs(Layout(atlas)) if run.kind == "annotate"]
    assert model in {parent.name for run in runs for parent in run.parents if parent.role == "model"}
    # The copy says by itself which weights answered, and how: a folder's name could be that of any.
    record = json.loads(anndata.read_h5ad(tmp_path / "query.annotated.h5ad", backed="r").uns["cytolabe_annotation"])
    assert record["model"] == document["model"]
    assert record["model"]["weights"] == record["model"]["facts"]["weights"] == digest
    assert {"layer", "pooling", "precision", "max_length"} < set(record["model"]["facts"])
    # scGPT's folder was written here and never trained; that of Geneformer names a corpus.
    exposed = [note for note in record["notes"] if note.startswith("QUALIFIED(exposure)")]
    assert len(exposed) == (model == "geneformer")
    assert all("genecorpus-104m" in note for note in exposed)

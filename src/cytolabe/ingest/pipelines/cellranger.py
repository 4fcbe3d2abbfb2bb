"""What Cell Ranger leaves behind: `metrics_summary.csv`, attributes of its HDF5 matrices, `reference.json`.

`metrics_summary.csv` of `count` is one header and one row, of `multi` a long table with the six columns below; neither
names a version. The matrices since version 3 carry `chemistry_description`, `library_ids`, `original_gem_groups` and,
later, `software_version` at the root. `reference.json` of a reference folder has SHA-1s of its FASTA and GTF.
"""

import csv
import io
import re
from collections.abc import Iterator

import h5py
import numpy as np

from cytolabe.ingest.pipelines.claims import Document, FileReader, MalformedError, texts
from cytolabe.records import HopEvidence

__all__ = ["CELL_RANGER", "READERS", "matrix_claims"]

CELL_RANGER = "Cell Ranger"
_LONG_TABLE = ("Category", "Library Type", "Grouped By", "Group Name", "Metric Name", "Metric Value")
_SOFTWARE = re.compile(r"(?:(?P<tool>[A-Za-z][A-Za-z-]*?)[- ])?v?(?P<version>[0-9][\w.+-]*)")
_TOOLS = {
    "": CELL_RANGER,
    "cellranger": CELL_RANGER,
    "cellranger-arc": "Cell Ranger ARC",
    "spaceranger": "Space Ranger",
}
_GROUPS = {"Physical library ID": ("library", "library ids"), "Fastq ID": ("reads", "FASTQ ids")}


def _metrics(document: Document) -> Iterator[HopEvidence]:
    try:
        rows = [row for row in csv.reader(io.StringIO(document.text)) if row]
    except csv.Error as error:
        msg = f"no CSV ({error})"
        raise MalformedError(msg) from None
    if not rows:
        msg = "empty"
        raise MalformedError(msg)
    if tuple(rows[0]) == _LONG_TABLE:
        yield from _long_metrics(document, rows[1:])
        return
    if "Estimated Number of Cells" not in rows[0] or len(rows) != 2 or len(rows[0]) != len(rows[1]):
        msg = "neither one row under 'Estimated Number of Cells' nor the long table of cellranger multi"
        raise MalformedError(msg)
    row = dict(zip(*rows, strict=True))
    yield document.says("alignment", "tool", CELL_RANGER, place="header")
    yield document.says("library", "number of cells", _number(row, "Estimated Number of Cells"), place="row 1")
    if "Number of Reads" in row:
        yield document.says("reads", "number of reads", _number(row, "Number of Reads"), place="row 1")


def _long_metrics(document: Document, rows: list[list[str]]) -> Iterator[HopEvidence]:
    if any(len(row) != len(_LONG_TABLE) for row in rows):
        msg = f"a row has not the {len(_LONG_TABLE)} values of the header"
        raise MalformedError(msg)
    yield document.says("alignment", "tool", CELL_RANGER, place="header")
    groups: dict[str, set[str]] = {}
    for category, kind, grouped_by, group, metric, value in rows:
        if grouped_by in _GROUPS and group:
            groups.setdefault(grouped_by, set()).add(group)
        if (category, kind, metric) == ("Cells", "Gene Expression", "Cells"):
            number = _number({metric: value}, metric)
            yield document.says("library", "number of cells", number, place="Cells / Gene Expression / Cells")
    for grouped_by, found in sorted(groups.items()):
        hop, fact = _GROUPS[grouped_by]
        yield document.says(hop, fact, ", ".join(sorted(found)), place=f"Grouped By = {grouped_by}")


def _number(row: dict[str, str], name: str) -> str:
    """Return a whole number without the commas of its thousands."""
    text = row[name].replace(",", "").strip()
    if not text.isdecimal():
        msg = f"{name} is {row[name]!r}, no number"
        raise MalformedError(msg)
    return text


def _reference(document: Document) -> Iterator[HopEvidence]:
    said = document.mapping()
    genomes = texts(said.get("genomes"))
    if not genomes or "fasta_hash" not in said or "gtf_hash" not in said:
        msg = "no reference of Cell Ranger: genomes, fasta_hash and gtf_hash are not all there"
        raise MalformedError(msg)
    yield document.says("reference", "genome", ", ".join(sorted(genomes)), place="genomes")
    facts = {
        "version": "release of the reference",
        "input_gtf_files": "annotation",
        "fasta_hash": "SHA-1 of the FASTA",
        "gtf_hash": "SHA-1 of the GTF",
    }
    for key, fact in facts.items():
        if found := texts(said.get(key)):
            yield document.says("reference", fact, ", ".join(found), place=key)


READERS = (
    FileReader(pattern=re.compile(r"(?:.*/)?(?:[^/]*[._-])?metrics_summary\.csv"), read=_metrics),
    FileReader(pattern=re.compile(r"(?:.*/)?reference\.json"), read=_reference),
)


def matrix_claims(file: h5py.File, document: Document) -> Iterator[HopEvidence]:
    """Read the attributes of a scanned HDF5 matrix of Cell Ranger; `document` names it and has no text.

    Raises
    ------
    MalformedError
        If `software_version` names no version.
    """
    chemistry = _attribute(file, "chemistry_description")
    if chemistry:
        yield document.says("kit", "chemistry", ", ".join(chemistry), place="attribute chemistry_description")
    libraries = sorted(set(_attribute(file, "library_ids")))
    if libraries:
        yield document.says("library", "library ids", ", ".join(libraries), place="attribute library_ids")
    wells = _attribute(file, "original_gem_groups")
    if wells:
        yield document.says("library", "GEM wells", ", ".join(wells), place="attribute original_gem_groups")
    for software in _attribute(file, "software_version"):
        told = _SOFTWARE.fullmatch(software)
        if told is None:
            msg = f"software_version is {software!r}, which names no version"
            raise MalformedError(msg)
        tool = _TOOLS.get(told["tool"] or "", told["tool"])
        yield document.says("alignment", f"version of {tool}", told["version"], place="attribute software_version")
    genomes = _genomes(file)
    if genomes:
        yield document.says("reference", "genome", ", ".join(genomes), place="genomes of the features")


def _attribute(file: h5py.File, name: str) -> list[str]:
    if name not in file.attrs:
        return []
    values = np.asarray(file.attrs[name]).ravel().tolist()
    found = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]
    return [text for text in (item.strip() for item in found) if text]


def _genomes(file: h5py.File) -> list[str]:
    features = file.get("matrix/features")
    if isinstance(features, h5py.Group) and isinstance(features.get("genome"), h5py.Dataset):
        values = np.unique(features["genome"][...])
        found = {value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values}
        return sorted(found - {""})
    # Before version 3 each genome is a group of its own.
    return sorted(name for name in file if isinstance(file[name], h5py.Group) and "gene_names" in file[name])

"""What STARsolo leaves behind: `Log.out`, `Log.final.out`, `Solo.out/*/Summary.csv`, `genomeParameters.txt` of its index.

Only `Log.out` names the version and the command as it was in effect. STARsolo knows no kits: it is told where barcodes
lie and which list they are of, so that geometry is a fact about the kit that does not name one.
"""

import re
from collections.abc import Iterator, Mapping

from cytolabe.ingest.pipelines.claims import Document, FileReader, MalformedError, base_name, command_options
from cytolabe.records import HopEvidence

__all__ = ["READERS", "STAR"]

STAR = "STAR"
_VERSION = re.compile(r"^(?:STAR version=|### STAR\s+version\s+)(\S+)", re.MULTILINE)
_COMMAND = re.compile(r"^##### (?:Final effective command line|Command Line):\s*\n(?P<line>[^\n]+)", re.MULTILINE)
_INPUT_READS = re.compile(r"^\s*Number of input reads \|\s*(\S*)\s*$", re.MULTILINE)
_ABSENT = frozenset({"-", "None", ""})
"""How STAR writes an option that is not given."""


def _log(document: Document) -> Iterator[HopEvidence]:
    version, commands = _VERSION.search(document.text), list(_COMMAND.finditer(document.text))
    if version is None:
        msg = "no line 'STAR version=...'"
        raise MalformedError(msg)
    yield document.says("alignment", f"version of {STAR}", version[1], place="STAR version")
    if not commands:
        msg = "no '##### Final effective command line'; the run ended before it began"
        raise MalformedError(msg)
    options = command_options(commands[-1]["line"])
    yield from _reference(document, options, place="command line")
    yield from document.reads(
        [name for word in options.get("readFilesIn", []) for name in word.split(",")], place="--readFilesIn"
    )
    geometry = _geometry(options)
    if geometry:
        yield document.says("kit", "geometry", geometry, place="--solo...")
    if counted := options.get("soloFeatures"):
        yield document.says("alignment", "features counted", ", ".join(counted), place="--soloFeatures")


def _geometry(options: Mapping[str, list[str]]) -> str:
    words = {"soloType": "", "soloCBwhitelist": "barcodes of ", "soloCBlen": "barcode ", "soloUMIlen": "UMI "}
    found = []
    for name, word in words.items():
        values = [base_name(value) for value in options.get(name, []) if value not in _ABSENT]
        if values:
            found.append(f"{word}{' '.join(values)}")
    return ", ".join(found)


def _reference(document: Document, options: Mapping[str, list[str]], *, place: str) -> Iterator[HopEvidence]:
    facts = {"genomeDir": "index of STAR", "sjdbGTFfile": "annotation", "genomeFastaFiles": "genome sequence"}
    for name, fact in facts.items():
        values = [base_name(value) for value in options.get(name, []) if value not in _ABSENT]
        if any(values):
            yield document.says("reference", fact, ", ".join(values), place=f"{place} --{name}")


def _final_log(document: Document) -> Iterator[HopEvidence]:
    found = _INPUT_READS.search(document.text)
    if found is None or not found[1].isdecimal():
        msg = "no 'Number of input reads | ...' with a number"
        raise MalformedError(msg)
    yield document.says("alignment", "tool", STAR, place="file name")
    yield document.says("reads", "number of reads", found[1], place="Number of input reads")


def _summary(document: Document) -> Iterator[HopEvidence]:
    rows = dict(line.split(",", 1) for line in document.text.splitlines() if "," in line)
    counted = document.file.split("/")[-2]
    yield document.says("alignment", "tool", STAR, place="folder name")
    for name, (hop, fact) in {
        "Number of Reads": ("reads", "number of reads"),
        "Estimated Number of Cells": ("library", f"number of cells ({counted})"),
    }.items():
        if name in rows and not rows[name].strip().isdecimal():
            msg = f"{name} is {rows[name]!r}, no number"
            raise MalformedError(msg)
        if name in rows:
            yield document.says(hop, fact, rows[name], place=name)
    if "Number of Reads" not in rows:
        msg = "no line 'Number of Reads,...'"
        raise MalformedError(msg)


def _index(document: Document) -> Iterator[HopEvidence]:
    rows = dict(line.split("\t", 1) for line in document.text.splitlines() if "\t" in line and line[0] != "#")
    if "versionGenome" not in rows:
        msg = "no line 'versionGenome'"
        raise MalformedError(msg)
    options = {name: value.split() for name, value in rows.items()}
    yield from _reference(
        document, {name: options.get(name, []) for name in ("sjdbGTFfile", "genomeFastaFiles")}, place="line"
    )


READERS = (
    FileReader(pattern=re.compile(r".*Log\.final\.out"), read=_final_log),
    FileReader(pattern=re.compile(r".*Log\.out"), read=_log),
    FileReader(pattern=re.compile(r"(?:.*/)?[^/]*Solo\.out/[^/]+/Summary\.csv"), read=_summary),
    FileReader(pattern=re.compile(r"(?:.*/)?genomeParameters\.txt"), read=_index),
)

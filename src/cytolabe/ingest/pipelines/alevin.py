"""What salmon alevin, piscem, alevin-fry and simpleaf leave behind.

salmon: `cmd_info.json` (its options by name), `aux_info/meta_info.json`, `info.json` of the index. piscem:
`map_info.json` (or `map.json`), `*.sigs.json` of the index. alevin-fry: `generate_permit_list.json`, `collate.json`,
`quant.json`, called `meta_info.json` in older versions. simpleaf: `simpleaf_quant_log.json`, older ones with times only.
The digests of index and run are of the same sequences where the run used that index.
"""

import re
from collections.abc import Iterator, Mapping
from typing import cast

from cytolabe.ingest.pipelines.claims import Document, FileReader, MalformedError, base_name, command_options, texts
from cytolabe.records import HopEvidence

__all__ = ["READERS"]

_CHEMISTRIES = (
    "celseq", "celseq2", "chromium", "chromiumV3", "citeseq", "dropseq", "gemcode", "quartzseq2", "sciseq3", "splitseqV1",
    "splitseqV2",
)  # fmt: skip
"""Options of salmon alevin that name a protocol."""
_SEQUENCES = "SHA-256 of the indexed sequences"


def _command_of_salmon(document: Document) -> Iterator[HopEvidence]:
    said = document.mapping()
    yield document.says("alignment", "version of salmon", _text(said, "salmon_version"), place="salmon_version")
    if index := texts(said.get("index")):
        yield document.says("reference", "index of salmon", base_name(index[0]), place="index")
    yield from _chemistry(document, said, place="options")
    mates = [name for key in ("mates1", "mates2", "unmatedReads") for name in texts(said.get(key))]
    yield from document.reads([part for name in mates for part in name.split(",")], place="mates1, mates2")


def _chemistry(document: Document, options: Mapping[str, object], *, place: str) -> Iterator[HopEvidence]:
    found = [name for name in _CHEMISTRIES if name in options]
    if found:
        yield document.says("kit", "protocol of salmon alevin", ", ".join(found), place=place)


def _meta(document: Document) -> Iterator[HopEvidence]:
    said = document.mapping()
    if "salmon_version" not in said:
        yield from _quantified(document)
        return
    yield document.says("alignment", "version of salmon", _text(said, "salmon_version"), place="salmon_version")
    if sequences := texts(said.get("index_seq_hash")):
        yield document.says("reference", f"{_SEQUENCES} (salmon)", sequences[0], place="index_seq_hash")
    yield from _number(document, said, "num_processed", about=("reads", "number of reads"))


def _index_of_salmon(document: Document) -> Iterator[HopEvidence]:
    said = document.mapping()
    if sequences := texts(said.get("SeqHash")):
        yield document.says("reference", f"{_SEQUENCES} (salmon)", sequences[0], place="SeqHash")


def _mapped_by_piscem(document: Document) -> Iterator[HopEvidence]:
    said = document.mapping()
    if "num_reads" not in said:
        msg = "no 'num_reads'"
        raise MalformedError(msg)
    yield document.says("alignment", "tool", "piscem", place="file name")
    yield from _number(document, said, "num_reads", about=("reads", "number of reads"))
    yield from _signatures(document, said.get("signatures"), place="signatures")
    if command := texts(said.get("cmdline")):
        yield from _mapping_command(document, command[0], place="cmdline")


def _index_of_piscem(document: Document) -> Iterator[HopEvidence]:
    yield from _signatures(document, document.mapping(), place="file")


def _signatures(document: Document, said: object, *, place: str) -> Iterator[HopEvidence]:
    if isinstance(said, dict) and (found := texts(said.get("sha256_seqs"))):
        yield document.says("reference", f"{_SEQUENCES} (piscem)", found[0], place=f"{place}: sha256_seqs")


def _mapping_command(document: Document, line: str, *, place: str) -> Iterator[HopEvidence]:
    """Read index, protocol and reads off a command of piscem or salmon alevin."""
    options = command_options(line)
    tool = "salmon" if "salmon" in line.split(" ", 1)[0] else "piscem"
    for name in ("index", "i"):
        if options.get(name):
            yield document.says("reference", f"index of {tool}", base_name(options[name][0]), place=f"{place} --{name}")
            break
    for name in ("geometry", "g"):
        if options.get(name):
            yield document.says("kit", "protocol of piscem", options[name][0], place=f"{place} --{name}")
            break
    yield from _chemistry(document, options, place=place)
    reads = [part for name in ("1", "2", "read1", "read2", "mates1", "mates2") for part in options.get(name, [])]
    yield from document.reads([name for part in reads for name in part.split(",")], place=place)


def _quantified(document: Document) -> Iterator[HopEvidence]:
    said = document.mapping()
    if "num_quantified_cells" not in said:
        msg = "neither 'salmon_version' nor 'num_quantified_cells'"
        raise MalformedError(msg)
    yield from _of_alevin_fry(document)
    yield from _number(document, said, "num_quantified_cells", about=("library", "number of cells"))
    if strategy := texts(said.get("resolution_strategy")):
        yield document.says("alignment", "resolution of UMIs", strategy[0], place="resolution_strategy")


def _of_alevin_fry(document: Document) -> Iterator[HopEvidence]:
    said = document.mapping()
    version = texts(said.get("version_str"))
    fact = "version of alevin-fry" if version else "tool"
    yield document.says("alignment", fact, version[0] if version else "alevin-fry", place="version_str")


def _simpleaf(document: Document) -> Iterator[HopEvidence]:
    said = document.mapping()
    if not isinstance(said.get("time_info"), dict):
        msg = "no 'time_info'"
        raise MalformedError(msg)
    yield document.says("alignment", "tool", "simpleaf", place="file name")
    mapped, commands = said.get("map_info"), said.get("cmd_info")
    if isinstance(mapped, dict) and (mapper := texts(mapped.get("mapper"))):
        yield document.says("alignment", "tool", mapper[0], place="map_info: mapper")
    if isinstance(commands, dict) and (line := texts(cast("dict[str, object]", commands).get("map_cmd"))):
        yield from _mapping_command(document, line[0], place="cmd_info: map_cmd")


def _text(said: Mapping[str, object], key: str) -> str:
    found = texts(said.get(key))
    if not found:
        msg = f"no '{key}'"
        raise MalformedError(msg)
    return found[0]


def _number(
    document: Document, said: Mapping[str, object], key: str, *, about: tuple[str, str]
) -> Iterator[HopEvidence]:
    value = said.get(key)
    if key in said and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        msg = f"{key} is {value!r}, no number"
        raise MalformedError(msg)
    if key in said:
        yield document.says(*about, str(value), place=key)


READERS = (
    FileReader(pattern=re.compile(r"(?:.*/)?cmd_info\.json"), read=_command_of_salmon),
    FileReader(pattern=re.compile(r"(?:.*/)?meta_info\.json"), read=_meta),
    FileReader(pattern=re.compile(r"(?:.*/)?info\.json"), read=_index_of_salmon),
    FileReader(pattern=re.compile(r"(?:.*/)?map(?:_info)?\.json"), read=_mapped_by_piscem),
    FileReader(pattern=re.compile(r"(?:.*/)?[^/]*\.sigs\.json"), read=_index_of_piscem),
    FileReader(pattern=re.compile(r"(?:.*/)?quant\.json"), read=_quantified),
    FileReader(pattern=re.compile(r"(?:.*/)?(?:generate_permit_list|collate)\.json"), read=_of_alevin_fry),
    FileReader(pattern=re.compile(r"(?:.*/)?simpleaf_quant_log\.json"), read=_simpleaf),
)

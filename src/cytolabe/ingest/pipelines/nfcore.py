"""What nf-core/scrnaseq leaves behind in `pipeline_info`: `params_<time>.json` and the versions of its tools as YAML.

The versions are two levels, process and tool; that much of YAML is read here and anything else is refused, so that no
loader of YAML is needed. A pipeline logs every tool that it started: those that align decide the hop, others do not.
"""

import re
from collections.abc import Iterator

from cytolabe.ingest.pipelines.cellranger import CELL_RANGER
from cytolabe.ingest.pipelines.claims import Document, FileReader, MalformedError, base_name, texts
from cytolabe.ingest.pipelines.starsolo import STAR
from cytolabe.records import HopEvidence

__all__ = ["READERS"]

_TOOLS = {
    "cellranger": CELL_RANGER,
    "cellranger-arc": "Cell Ranger ARC",
    "cellrangerarc": "Cell Ranger ARC",
    "star": STAR,
}
"""Names of tools that the pipeline writes in its own way."""
_ALIGNERS = {
    "alevin": "simpleaf",
    "simpleaf": "simpleaf",
    "star": STAR,
    "cellranger": CELL_RANGER,
    "cellrangermulti": CELL_RANGER,
    "cellrangerarc": "Cell Ranger ARC",
    "kallisto": "kallisto",
}
"""What the parameter `aligner` runs."""
_LINE = re.compile(
    r"""(?P<indent> *)(?P<key>"[^"]+"|'[^']+'|[^\s"'#][^#]*?):(?: +(?P<value>"[^"]*"|'[^']*'|[^\s#][^#]*?))?\s*"""
)


def _parameters(document: Document) -> Iterator[HopEvidence]:
    said = document.mapping()
    aligner = texts(said.get("aligner"))
    if not aligner:
        msg = "no 'aligner': these are no parameters of nf-core/scrnaseq"
        raise MalformedError(msg)
    yield document.says("alignment", "tool", _ALIGNERS.get(aligner[0].lower(), aligner[0]), place="aligner")
    protocol = texts(said.get("protocol"))
    if protocol and protocol[0].lower() != "auto":
        yield document.says("kit", "protocol of nf-core/scrnaseq", protocol[0], place="protocol")
    for key, fact in {
        "genome": "genome of nf-core",
        "fasta": "genome sequence of nf-core",
        "gtf": "annotation of nf-core",
    }.items():
        if found := texts(said.get(key)):
            yield document.says("reference", fact, base_name(found[0]), place=key)


def _versions(document: Document) -> Iterator[HopEvidence]:
    for process, tool, version in _two_levels(document.text):
        name = _TOOLS.get(tool.lower(), tool)
        yield document.says("alignment", f"version of {name}", version.removeprefix("v"), place=f"{process}: {tool}")


def _two_levels(text: str) -> Iterator[tuple[str, str, str]]:
    """Read `process:` lines with indented `tool: version` lines.

    Raises
    ------
    MalformedError
        If a line is neither, or there is none.
    """
    process, n_found = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#") or line.strip() == "---":
            continue
        found = _LINE.fullmatch(line)
        is_head = found is not None and not found["indent"] and found["value"] is None
        is_entry = found is not None and bool(found["indent"]) and found["value"] is not None and process != ""
        if found is None or not (is_head or is_entry):
            msg = f"line {number} is neither a process nor a tool with its version"
            raise MalformedError(msg)
        if is_head:
            process = _plain(found["key"])
        else:
            n_found += 1
            yield process, _plain(found["key"]), _plain(found["value"])
    if not n_found:
        msg = "no tool with a version"
        raise MalformedError(msg)


def _plain(text: str) -> str:
    return text[1:-1] if text[0] in "\"'" else text.strip()


READERS = (
    FileReader(pattern=re.compile(r"(?:.*/)?params(?:_[^/]*)?\.json"), read=_parameters),
    FileReader(pattern=re.compile(r"(?:.*/)?(?:[^/]*_)?(?:software|software_mqc)_versions\.ya?ml"), read=_versions),
)

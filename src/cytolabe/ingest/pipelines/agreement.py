"""From facts to hops: what is known of each hop, and where files contradict each other.

A fact that has one value (a version, a genome, a protocol) and is given two is a contradiction, and its hop is
`unknown`: nobody here can tell which file is of these counts. Facts that may have several values (library ids, files
of reads) are united. Some facts describe a hop without naming it, such as a number of reads or a tool of unknown version;
a hop that has only such is `unknown`, too. A hop is `verified` only where bytes at hand have the digest that was recorded.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cytolabe.ingest.pipelines.cellranger import CELL_RANGER
from cytolabe.ingest.pipelines.starsolo import STAR
from cytolabe.records import HOPS, Finding, HopEvidence, HopState, Severity

__all__ = ["Hop", "contradiction_with", "finding_of", "hops_of"]

_VERSION_OF = "version of "
_ALIGNERS = (CELL_RANGER, "Cell Ranger ARC", "Space Ranger", STAR, "piscem", "salmon", "alevin-fry", "simpleaf", "kallisto", "bustools")  # fmt: skip
_NAMED_BY = {
    CELL_RANGER: "an HDF5 matrix of Cell Ranger with software_version",
    STAR: "Log.out",
    "piscem": "software_versions.yml of a pipeline",
    "salmon": "cmd_info.json",
    "alevin-fry": "quant.json",
    "simpleaf": "software_versions.yml of a pipeline",
}
"""Which file says the version of a tool that another file only names."""
_SEVERAL = frozenset({"tool", "library ids", "GEM wells", "FASTQ files", "FASTQ ids", "run accessions", "features counted", "number of reads"})  # fmt: skip
"""Facts that may have several values; numbers of cells, too, which are called by what was counted."""
_DESCRIBE = frozenset({"tool", "geometry", "GEM wells", "features counted", "number of reads", "resolution of UMIs", "index of STAR", "index of salmon", "index of piscem"})  # fmt: skip
"""Facts that describe a hop without naming it."""
_SEVERITIES = {"E": Severity.ERROR, "W": Severity.WARNING, "N": Severity.NOTE}
_COMPARED = {
    "alignment": re.compile(r"(?<![\w.])[vV]?(\d+(?:\.\d+)+[a-z]?)"),
    "kit": re.compile(r"[vV](\d+(?:\.\d+)*)"),
    "reads": re.compile(r"[SED]RR\d+"),
}
"""What is compared between a manifest and the files, by hop."""


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One hop: `value` is what is known of it in words, empty where it is unknown."""

    hop: str
    state: HopState = HopState.UNKNOWN
    value: str = ""
    evidence: tuple[HopEvidence, ...] = ()
    findings: tuple[Finding, ...] = field(default=(), repr=False)


def hops_of(evidence: Sequence[HopEvidence], *, verified: Collection[str] = ()) -> tuple[Hop, ...]:
    """Return every hop in order, with what contradicts itself as findings; `verified` are hops whose bytes were hashed."""
    return tuple(
        _hop(name, [said for said in evidence if said.hop == name], is_verified=name in verified) for name in HOPS
    )


def _hop(name: str, said: Sequence[HopEvidence], *, is_verified: bool) -> Hop:
    by_fact: dict[str, dict[str, HopEvidence]] = {}
    for claim in said:
        by_fact.setdefault(claim.fact, {}).setdefault(claim.value, claim)
    against = [
        _contradiction(name, fact, values)
        for fact, values in sorted(by_fact.items())
        if len(values) > 1 and not _has_several(fact)
    ]
    evidence = tuple(sorted(said, key=lambda claim: (claim.fact, claim.value, claim.file, claim.place)))
    value = "" if against else _in_words(by_fact)
    findings = (*against, *_versions_missing(by_fact))
    if not value:
        return Hop(hop=name, evidence=evidence, findings=findings)
    state = HopState.VERIFIED if is_verified else HopState.DECLARED
    return Hop(hop=name, state=state, value=value, evidence=evidence, findings=findings)


def _has_several(fact: str) -> bool:
    return fact in _SEVERAL or fact.startswith("number of cells")


def _names(fact: str) -> bool:
    """Tell whether a fact names its hop: of versions, those of aligners do."""
    if fact.startswith(_VERSION_OF):
        return fact.removeprefix(_VERSION_OF) in _ALIGNERS
    return fact not in _DESCRIBE and not fact.startswith("number of cells")


def _in_words(by_fact: Mapping[str, Mapping[str, HopEvidence]]) -> str:
    naming = [fact for fact in sorted(by_fact) if _names(fact)]
    if not naming:
        return ""
    words = []
    for fact in naming:
        values = ", ".join(sorted({part for value in by_fact[fact] for part in value.split(", ")}))
        words.append(
            f"{fact.removeprefix(_VERSION_OF)} {values}" if fact.startswith(_VERSION_OF) else f"{fact} {values}"
        )
    return "; ".join(words)


def _contradiction(hop: str, fact: str, values: Mapping[str, HopEvidence]) -> Finding:
    told = "; ".join(f"{value} ({claim.file}, {claim.place})" for value, claim in sorted(values.items()))
    return finding_of(
        "W-PIPELINE-03",
        where=f"{hop}: {fact}",
        message=f"Files of the pipeline give {len(values)} values for the {fact}: {told}. The hop '{hop}' stays unknown.",
        remedy="Name the folder of the one run that made these counts, or remove the files of the others.",
        examples=tuple(sorted(values)),
    )


def _versions_missing(by_fact: Mapping[str, Mapping[str, HopEvidence]]) -> list[Finding]:
    known = {fact.removeprefix(_VERSION_OF) for fact in by_fact if fact.startswith(_VERSION_OF)}
    missing = sorted(set(by_fact.get("tool", {})) - known)
    return [
        finding_of(
            "N-PIPELINE-07",
            where=by_fact["tool"][tool].file,
            message=f"{tool} is named, and no file says its version.",
            remedy=f"Add {_NAMED_BY.get(tool, 'the file that records its version')} to the folder, or say it in the manifest.",
        )
        for tool in missing
    ]


def contradiction_with(hop: Hop, declared: str) -> Finding | None:
    """Return a finding where the manifest names another version, chemistry or run than the files of the pipeline.

    Words are free ("cellranger v7.1", "Cell Ranger 7.1.0"), so numbers decide: for aligners and kits one of the manifest
    must begin, or be the beginning of, one in the files; for reads one accession must be in both. A reference and a
    library can be called in ways that share nothing and are one: they are not compared.
    """
    pattern = _COMPARED.get(hop.hop)
    if pattern is None or hop.state is HopState.UNKNOWN:
        return None
    said, found = pattern.findall(declared), pattern.findall(hop.value)
    if not said or not found or any(_agree(one, other) for one in said for other in found):
        return None
    return finding_of(
        "W-PIPELINE-04",
        where=f"manifest: {hop.hop}",
        message=f"The manifest says {declared!r}, and the files of the pipeline say {hop.value!r}. The hop '{hop.hop}' stays unknown.",
        remedy=f"Correct {hop.hop} = '...' in the manifest, or name the folder of the run that made these counts.",
        examples=tuple(said),
    )


def _agree(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long == short or long.startswith(f"{short}.")


def finding_of(code: str, *, where: str, message: str, remedy: str, examples: tuple[str, ...] = ()) -> Finding:
    """Return a finding about what a pipeline left behind; its severity is the letter of the code."""
    return Finding(
        code=code,
        severity=_SEVERITIES[code[0]],
        where=where,
        n_affected=max(1, len(examples)),
        n_total=max(1, len(examples)),
        examples=examples[:5],
        message=message,
        remedy=remedy,
        rule="cytolabe/provenance",
    )

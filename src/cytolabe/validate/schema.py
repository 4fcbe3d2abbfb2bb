"""Rule packs of a schema: what a version of it demands, as data, and the run of all its checks over one file.

A pack (`packs/<name>.toml`) names its version, the releases of the ontologies it reads, and a list of checks. Each
entry says which kind of check it is, on what, under which conditions, and in which section of the schema it stands. A
kind is one function of `CHECKS`; no function knows a version. What is said of a finding lies in `messages.toml`,
one entry per code.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from cytolabe.errors import UsageError
from cytolabe.ontology.lookup import TermBook
from cytolabe.records import Finding, Severity
from cytolabe.validate.delivered import Delivered

__all__ = [
    "MEANING_PACK",
    "Check",
    "Found",
    "Look",
    "Pack",
    "Rule",
    "finding_of",
    "findings_of",
    "load_schema_pack",
    "messages",
    "schema_packs",
    "shown",
]

MEANING_PACK = "cytolabe-2"
"""The pack that is held against every file beside those that are asked for."""
_SEVERITIES = {"E": Severity.ERROR, "W": Severity.WARNING, "N": Severity.NOTE}
_N_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One entry of a pack. `options` are what its kind of check asks for, `when` the conditions under which it holds."""

    check: str
    section: str
    when: tuple[Mapping[str, object], ...]
    options: Mapping[str, object]

    def words(self, name: str) -> tuple[str, ...]:
        """Return an option that is a list of texts; empty where it is not given."""
        value = self.options.get(name, ())
        return tuple(str(word) for word in value) if isinstance(value, list | tuple) else (str(value),)

    def word(self, name: str, default: str = "") -> str:
        """Return an option that is one text."""
        return str(self.options.get(name, default))

    def number(self, name: str) -> float:
        """Return an option that is a number."""
        return float(str(self.options[name]))


@dataclass(frozen=True, kw_only=True)
class Pack:
    """One version of a schema."""

    name: str
    title: str
    releases: Mapping[str, str]
    organisms: tuple[Mapping[str, str], ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a check looks at: the file, and where terms are found."""

    delivered: Delivered
    terms: TermBook
    organisms: tuple[Mapping[str, str], ...]

    def descends(self, term: str, above: Sequence[str]) -> bool:
        """Return whether a term equals one of `above` or descends from it.

        The organisms of a pack are species, none of which is under another: no taxonomy is opened to say so.
        """
        if term in above:
            return True
        species = {entry["taxon"] for entry in self.organisms}
        return not (term in species and species.issuperset(above)) and self.terms.descends(term, above)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a check found; `values` fill the message of its code."""

    code: str
    where: str
    n_affected: int = 1
    n_total: int = 1
    examples: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    autofix: tuple[Mapping[str, object], ...] = ()


Check = Callable[[Rule, Look], Iterator[Found]]


def schema_packs() -> tuple[str, ...]:
    """Return the names of the packs that have checks of files, sorted."""
    folder = resources.files("cytolabe.validate.packs")
    texts = {item.name: item.read_text(encoding="utf-8") for item in folder.iterdir() if item.name.endswith(".toml")}
    return tuple(sorted(name.removesuffix(".toml") for name, text in texts.items() if "[[checks]]" in text))


@cache
def load_schema_pack(name: str) -> Pack:
    """Read a pack that comes with the package.

    Raises
    ------
    UsageError
        If there is no pack of that name.
    """
    if name not in schema_packs():
        msg = f"there is no rule pack {name!r}; there are: {', '.join(schema_packs())}."
        raise UsageError(msg)
    text = resources.files("cytolabe.validate.packs").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    sets = document.get("sets", {})
    return Pack(
        name=name,
        title=document["title"],
        releases=document.get("ontologies", {}),
        organisms=tuple(document.get("organisms", ())),
        rules=tuple(_rule_of(entry, sets) for entry in document["checks"]),
    )


def _rule_of(entry: Mapping[str, Any], sets: Mapping[str, Mapping[str, Any]]) -> Rule:
    """Return an entry with the set it uses put in; what the entry itself says comes before the set."""
    filled = {**sets[str(entry["use"])], **entry} if "use" in entry else dict(entry)
    conditions = filled.pop("when", [])
    options = {key: value for key, value in filled.items() if key not in {"check", "section", "use"}}
    return Rule(
        check=str(filled["check"]),
        section=str(filled["section"]),
        when=tuple(conditions),
        options=options,
    )


@cache
def messages() -> Mapping[str, Mapping[str, str]]:
    """Return what is said of each code: message and remedy, with places for values."""
    text = resources.files("cytolabe.validate").joinpath("messages.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def _terms_of(pack: str) -> TermBook:
    """Return where the terms of a pack are found; what was found for one file is there for the next."""
    return TermBook(releases=load_schema_pack(pack).releases)


def findings_of(delivered: Delivered, pack: Pack, *, checks: Mapping[str, Check]) -> tuple[Finding, ...]:
    """Run every check of a pack over one file and return all findings at once.

    Parameters
    ----------
    checks
        Kind of check -> its function.
    """
    look = Look(delivered=delivered, terms=_terms_of(pack.name), organisms=pack.organisms)
    found: list[Finding] = []
    for rule in pack.rules:
        for hit in checks[rule.check](rule, look):
            finding = finding_of(hit, f"{pack.title}, {rule.section}")
            if finding not in found:  # two rules may look at one place, each for reasons of its own
                found.append(finding)
    return tuple(found)


def finding_of(hit: Found, rule: str) -> Finding:
    """Return what a check found as a finding, with what its code says."""
    said = messages()[hit.code]
    values = {
        "n_affected": f"{hit.n_affected:,}",
        "n_total": f"{hit.n_total:,}",
        "examples": ", ".join(hit.examples[:_N_EXAMPLES]),
        "where": hit.where,
        **hit.values,
    }
    return Finding(
        code=hit.code,
        severity=_SEVERITIES[hit.code[0]],
        where=hit.where,
        n_affected=hit.n_affected,
        n_total=hit.n_total,
        examples=hit.examples[:_N_EXAMPLES],
        message=said["message"].format_map(values),
        remedy=said["remedy"].format_map(values),
        rule=rule,
        autofix=hit.autofix,
    )


def shown(names: Sequence[str], limit: int = _N_EXAMPLES) -> str:
    """Return the first of some names, with how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

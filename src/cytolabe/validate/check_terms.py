"""Checks of ontology terms, one level at a time: is it a term, is it live, is it allowed, is a list of terms in order.

A level that stands for another writing of a live term (`CL_0000236`, a label, an obsolete id with a replacement) is
told with what it probably means. It becomes an operation of a patch only where that term obeys the rule itself.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cytolabe.ontology.lookup import Term
from cytolabe.validate.check_columns import replacements
from cytolabe.validate.schema import Found, Look, Rule, shown
from cytolabe.validate.selecting import condition_text, rows_by_level

__all__ = ["TERM_CHECKS", "terms", "terms_of"]

_NO_TERM, _OBSOLETE, _NOT_ALLOWED, _UNORDERED = "E-TERM-01", "E-TERM-02", "E-TERM-03", "E-TERM-04"


@dataclass
class _Wrong:
    """Levels that break a rule in one way."""

    n_rows: int = 0
    levels: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    repairs: dict[str, str] = field(default_factory=dict)


def terms(rule: Rule, look: Look) -> Iterator[Found]:
    """Terms of given ontologies, that are or descend from given terms; beside them, words that are no terms."""
    levels = rows_by_level(rule, look)
    wrong: dict[str, _Wrong] = {}
    for level, n_rows in levels.items():
        if level is None or level in rule.words("words"):
            continue
        parts = level.split(rule.word("separator")) if rule.word("separator") else [level]
        codes, repaired = _problems(parts, rule, look)
        for code, hint in codes.items():
            entry = wrong.setdefault(code, _Wrong())
            entry.n_rows += n_rows
            entry.levels.append(level)
            entry.hints += [hint] if hint else []
            if repaired and repaired != level:
                entry.repairs[level] = repaired
    repaired_before: set[str] = set()
    for code, entry in sorted(wrong.items()):
        repairs = {old: new for old, new in entry.repairs.items() if old not in repaired_before}
        repaired_before |= set(repairs)
        yield Found(
            code=code,
            where=f"uns[{rule.word('uns')!r}]" if rule.word("uns") else f"obs[{rule.word('column')!r}]",
            n_affected=entry.n_rows,
            n_total=sum(levels.values()),
            examples=tuple(entry.levels[:5]),
            values={
                "demand": _demand(rule),
                "hint": f" {'; '.join(entry.hints[:3])}." if entry.hints else "",
                "ontologies": shown(rule.words("ontologies")),
            },
            autofix=replacements(rule, repairs),
        )


def _problems(parts: list[str], rule: Rule, look: Look) -> tuple[Mapping[str, str], str]:
    """Return what is wrong with a level (code -> hint), and what it should be, or nothing where that is not known."""
    codes: dict[str, str] = {}
    mended = []
    for part in parts:
        code, better = _problem(part, rule, look, is_one_of_several=len(parts) > 1)
        if code:
            hint = f"{part} is probably {better} ({_name(better, look)})" if better else ""
            codes[code] = codes.get(code) or hint
        mended.append(part if not code else better if _is_same(part, better, look) else "")
    separator = rule.word("separator")
    if len(parts) > 1 and (parts != sorted(parts) or len(set(parts)) < len(parts)):
        codes[_UNORDERED] = ""
    is_mended = all(mended)
    return codes, separator.join(sorted(set(mended))) if is_mended and codes else ""


def _is_same(written: str, term: str, look: Look) -> bool:
    """Whether a text says nothing that contradicts the term which it probably stands for.

    `EFO:0009922 (sci-plex)` holds the id of one assay and the name of another: that is for a person to decide.
    """
    if not term or look.terms.find(written) is not None:
        return bool(term)
    digits = term.replace("_", ":").rpartition(":")[2]
    beside = written.strip().rpartition(digits)[2].strip(" ()[]-:")
    return not beside or beside.casefold() == _name(term, look).casefold()


def _problem(part: str, rule: Rule, look: Look, *, is_one_of_several: bool) -> tuple[str, str]:
    """Return the code of what is wrong with one term, and the term that it probably stands for."""
    code = _verdict(part, rule, look, is_one_of_several=is_one_of_several)
    if code is None:
        return "", ""
    guess = _replacement(part, look) if code == _OBSOLETE else ""
    if code == _NO_TERM:
        ontologies = [name for name in rule.words("ontologies") if name in look.terms.releases]
        guess = look.terms.meant_by(part, ontologies)
        if not guess and (written := look.terms.find(part)) is not None and written.obsolete:
            guess = _replacement(part, look)
    if guess and _verdict(guess, rule, look, is_one_of_several=is_one_of_several) is None:
        return code, guess
    return code, ""


def _verdict(part: str, rule: Rule, look: Look, *, is_one_of_several: bool) -> str | None:
    """Return the code of what is wrong with one term as it stands, or None."""
    plain = part
    for prefix in rule.words("stripped"):
        plain = plain.removeprefix(prefix)
    if plain in rule.words("excluded"):
        return _NOT_ALLOWED
    if plain in rule.words("terms"):
        ontology = look.terms.ontology_of(plain)
        return _NOT_ALLOWED if is_one_of_several and ontology not in _of_several(rule) else None
    ontologies = _of_several(rule) if is_one_of_several else rule.words("ontologies")
    if look.terms.ontology_of(plain) not in ontologies:
        return _NO_TERM
    found = look.terms.find(plain)
    if found is None:
        return _NO_TERM
    if found.obsolete:
        return _OBSOLETE
    return None if _is_allowed(found, rule) else _NOT_ALLOWED


def _of_several(rule: Rule) -> tuple[str, ...]:
    """Return the ontologies whose terms may stand beside others."""
    return rule.words("ontologies_of_several") or rule.words("ontologies")


def _is_allowed(term: Term, rule: Rule) -> bool:
    if not term.ancestors.isdisjoint(rule.words("excluded_under")):
        return False
    if term.id.startswith(rule.words("any_of_prefix")) and rule.words("any_of_prefix"):
        return True
    above = rule.words("under")
    return not (above or rule.words("terms")) or not term.ancestors.isdisjoint(above)


def _replacement(term: str, look: Look) -> str:
    """Return the live term at the end of the chain of replacements of an obsolete one."""
    seen: list[str] = []
    found = look.terms.find(term)
    while found is not None and found.obsolete and found.id not in seen:
        seen.append(found.id)
        found = look.terms.find(found.replaced_by) if found.replaced_by else None
    return found.id if found is not None and not found.obsolete else ""


def _name(term: str, look: Look) -> str:
    found = look.terms.find(term)
    return found.name if found is not None else ""


def _demand(rule: Rule) -> str:
    said = []
    if rule.words("terms"):
        said.append(shown(rule.words("terms")))
    if rule.words("under"):
        said.append(f"a term under {shown(rule.words('under'))}")
    if not said and rule.words("ontologies"):
        said.append(f"a term of {shown(rule.words('ontologies'))}")
    if rule.words("words"):
        said.append(shown(rule.words("words")))
    if rule.words("excluded"):
        said.append(f"but not {shown(rule.words('excluded'))}")
    return " or ".join(said).replace(" or but", ", but") + condition_text(rule)


def terms_of(rule: Rule, look: Look) -> Iterator[Found]:
    """Terms of the ontologies that an organism takes; what is no term at all is told by `terms`."""
    levels = rows_by_level(rule, look)
    wrong = {
        level: rows
        for level, rows in levels.items()
        if level is not None
        and level not in rule.words("words")
        and look.terms.ontology_of(level) not in {"", *rule.words("ontologies")}
    }
    if wrong:
        yield Found(
            code=_NOT_ALLOWED,
            where=f"obs[{rule.word('column')!r}]",
            n_affected=sum(wrong.values()),
            n_total=sum(levels.values()),
            examples=tuple(wrong)[:5],
            values={"demand": _demand(rule), "hint": ""},
        )


TERM_CHECKS = {"terms": terms, "terms_of": terms_of}

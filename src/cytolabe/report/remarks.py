"""What a table says about its rows, said once: for all rows in a sentence, for some of them in numbered notes.

Reasons are whole sentences, and most of them hold for every row. So a status cell carries the status word, a few words
of its own, and the numbers of the notes that concern it; what all numbers share stands once below the table. Nothing
is dropped: every reason and every note of every score is in the sentences or in the notes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cytolabe.records import Protocol, Score, ScoreStatus
from cytolabe.report.text import count, counted, inert

__all__ = ["Remarks", "Said", "ceiling_sentences", "first_clause", "interval_note", "is_leaky", "remarks_of"]

_SHORT = 48
_LIMIT = 600
_CLAUSE_END = re.compile(r"; |\. |: | \(")


@dataclass(frozen=True, kw_only=True)
class Said:
    """What other tables of the same page say already: `notes` keep their numbers, `reasons` are not told again."""

    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


NOTHING_SAID = Said()


@dataclass(frozen=True, kw_only=True)
class Remarks:
    """`sentences` hold for every number of the table, `short` has a few words per row, `notes` are numbered from 1.

    Only notes that a row refers to are in `notes`; `said` has all that stand by now, and the shared `reasons`.
    """

    sentences: tuple[str, ...]
    short: Mapping[str, str]
    notes: tuple[tuple[int, str], ...]
    said: Said


def remarks_of(scores: Mapping[str, Score], *, said: Said = NOTHING_SAID) -> Remarks:
    """Divide the reasons of some rows into what all numbers share, and what belongs to single rows.

    Parameters
    ----------
    scores
        Row name -> score.
    said
        What stands already, so that several tables can share one list of notes.
    """
    valued = [score for score in scores.values() if score.value is not None]
    basis = valued or list(scores.values())
    reasons = _shared([_reasons(score) for score in basis])
    notes = _shared([list(score.notes) for score in basis])
    numbered = list(said.notes)
    short: dict[str, str] = {}
    used: set[int] = set()
    for row, score in scores.items():
        words, long = _own(score, without={*reasons, *notes})
        numbers = sorted({_number_of(text, numbered) for text in long})
        used |= set(numbers)
        if numbers:
            words.append(f"note{'' if len(numbers) == 1 else 's'} {_listed(numbers)}")
        short[row] = "; ".join(words)
    return Remarks(
        sentences=_sentences(basis, reasons=[text for text in reasons if text not in said.reasons], notes=notes),
        short=short,
        notes=tuple((number, inert(numbered[number - 1], _LIMIT)) for number in sorted(used)),
        said=Said(notes=tuple(numbered), reasons=tuple(reasons)),
    )


def _listed(numbers: Sequence[int]) -> str:
    """Return `2, 4 to 7` for 2, 4, 5, 6, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(str(number) for number in run) for run in runs
    )


def _reasons(score: Score) -> list[str]:
    """Return the single reasons. Those of a qualification are joined by semicolons; a refusal stays in one piece."""
    if not score.reason:
        return []
    return score.reason.split("; ") if score.value is not None else [score.reason]


def _shared(texts: Sequence[list[str]]) -> list[str]:
    """Return what every row says, in the order of the first; one row alone shares nothing."""
    if len(texts) < 2:
        return []
    return [text for text in dict.fromkeys(texts[0]) if text and all(text in others for others in texts[1:])]


def _own(score: Score, *, without: set[str]) -> tuple[list[str], list[str]]:
    """Return the short words of a row, and the texts that need a note."""
    words, long = [], []
    for reason in dict.fromkeys(_reasons(score)):
        if reason in without:
            continue
        clause = first_clause(reason)
        words.append(inert(clause, _LIMIT))
        if clause != reason:
            long.append(reason)
    long += [note for note in dict.fromkeys(score.notes) if note and note not in without]
    if score.raw_value is not None:
        words.append("number kept aside")
        long.append("the refused number is kept as raw_value in scores.json, outside every aggregate")
    is_model = score.protocol is not Protocol.CONTROL
    is_below = score.value is not None and score.floor is not None and score.value <= score.floor
    if is_model and is_below and "floor" not in score.reason:
        words.append("not above its floor")
    return words, long


def first_clause(reason: str, limit: int = _SHORT) -> str:
    """Return the reason if it is short, else its first clause, at most `limit` characters of it."""
    told = re.sub(r"^not_applicable: ", "not applicable: ", reason)
    if len(told) <= limit:
        return told
    head = "not applicable: " if told.startswith("not applicable: ") else ""
    clause = head + _CLAUSE_END.split(told.removeprefix(head), maxsplit=1)[0]
    return clause if len(clause) <= limit else clause[: limit - 1].rsplit(" ", 1)[0] + "…"


def _number_of(text: str, numbered: list[str]) -> int:
    if text not in numbered:
        numbered.append(text)
    return numbered.index(text) + 1


def _sentences(basis: Sequence[Score], *, reasons: Sequence[str], notes: Sequence[str]) -> tuple[str, ...]:
    told = []
    statuses = {score.status for score in basis}
    if reasons and all(score.value is None for score in basis):
        told.append(f"No number: {_joined(reasons)}.")
    elif reasons:
        word = "is QUALIFIED" if statuses == {ScoreStatus.QUALIFIED} else "shares this"
        told.append(f"Every number here {word}: {_joined(reasons)}.")
    if notes:
        told.append(f"For every row: {_joined(notes)}.")
    return tuple(told)


def _joined(texts: Sequence[str]) -> str:
    return inert("; ".join(texts), _LIMIT).rstrip(".")


def ceiling_sentences(scores: Mapping[str, Score]) -> tuple[str, ...]:
    """Say what a ceiling below the value means, what `leaky` means, and whether there are ceilings at all."""
    models = [score for score in scores.values() if score.value is not None and score.protocol is not Protocol.CONTROL]
    if not models:
        return ()
    told = []
    above = [score for score in models if score.ceiling is not None and (score.value or 0.0) > score.ceiling]
    if above:
        told.append(
            f"{count(len(above))} of {counted(len(models), 'model')} above the ceiling: the ceiling is the same model trained "
            "inside the held-out study alone, often on fewer cells. It shows what that study can teach, and is no upper bound."
        )
    if any(is_leaky(score) for score in models):
        told.append("leaky: that ceiling divides cells, not persons, so it is too high.")
    if all(score.ceiling is None and not any("ceiling" in note for note in score.notes) for score in models):
        told.append("No ceiling was computed.")
    return tuple(told)


def is_leaky(score: Score) -> bool:
    """Whether the ceiling of a score saw cells of the same person on both sides."""
    return score.ceiling is not None and any(note.startswith("ceiling leaky") for note in score.notes)


def interval_note(scores: Sequence[Score]) -> str:
    """Say once what the brackets of a table are, or why there are none (rule R15)."""
    valued = [score for score in scores if score.value is not None]
    if not valued:
        return "No row has a number: the status says why."
    parts = []
    populations = sorted({score.interval or "population not named" for score in valued if score.low is not None})
    if len(populations) == 1:
        parts.append(f"Square brackets: 95 % interval ({inert(populations[0], 200)}).")
    elif populations:
        parts.append("Square brackets: 95 % intervals, each over the donors of its fold and not over labs.")
    pointed = [score for score in valued if score.low is None and len(score.points) > 1]
    if pointed:
        parts.append("Round brackets: one value per donor; under 6 donors an interval would be a guess.")
    bare = [score for score in valued if score.low is None and len(score.points) < 2]
    if bare:
        few = max(score.n_donors for score in bare)
        known = f"at most {counted(few, 'donor')} known" if few else "no donors known"
        parts.append(f"{counted(len(bare), 'number')} without brackets ({known}): nothing says how far they vary.")
    return " ".join(parts)

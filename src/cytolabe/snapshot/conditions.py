"""The grammar of `--where`: a small language of our own that can only compare columns with values.

    expression  := conjunction { "or" conjunction }
    conjunction := factor { "and" factor }
    factor      := "not" factor | "(" expression ")" | comparison
    comparison  := column ( "=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=" ) value
                 | column [ "not" ] "in" "(" value { "," value } ")"
                 | column [ "not" ] "like" text
                 | column "is" [ "not" ] ( "unknown" | "null" )
    value       := text | number;  text := '...' or "..." with the quote doubled inside

Nothing of it is code: names are looked up in a list, values travel beside the text as bound parameters, and there are
no functions, arithmetic or subqueries. Length, depth and number of comparisons are bounded before anything is built;
a chain of `or` over one column is one list, so that generated filters of many ids stay cheap.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from cytolabe.errors import UsageError

__all__ = ["AllOf", "AnyOf", "Comparison", "Condition", "Not", "comparisons_of", "near", "parse_condition"]

MAX_CHARACTERS = 4_000_000
MAX_DEPTH = 30
MAX_COMPARISONS = 1_000

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<number>[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<word>[A-Za-z_]\w*)
    |(?P<sign>==|!=|<>|<=|>=|[=<>(),])
    )""",
    re.VERBOSE,
)
_SIGNS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_KEYWORDS = ("and", "or", "not", "in", "like", "is")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One column against values; `operator` is `=`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `like` or `unknown`."""

    column: str
    operator: str
    values: tuple[str | int | float, ...] = ()


@dataclass(frozen=True)
class Not:
    """The cells for which a condition does not hold."""

    condition: "Condition"


@dataclass(frozen=True)
class AllOf:
    """The cells for which every one of some conditions holds."""

    conditions: tuple["Condition", ...]


@dataclass(frozen=True)
class AnyOf:
    """The cells for which at least one of some conditions holds."""

    conditions: tuple["Condition", ...]


Condition = Comparison | Not | AllOf | AnyOf


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int


def parse_condition(text: str, columns: Mapping[str, str]) -> Condition:
    """Read a filter.

    Parameters
    ----------
    text
        The filter.
    columns
        The columns that it may name, with their types: `text` or `number`.

    Raises
    ------
    UsageError
        If the text is no filter; the message points at the place.
    """
    if len(text) > MAX_CHARACTERS:
        msg = f"the filter has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read. Use a list of cells."
        raise UsageError(msg)
    parser = _Parser(text, columns)
    condition = parser.expression(0)
    if (after := parser.peek()).kind != "end":
        parser.refuse(after, "expected 'and', 'or' or the end")
    _refuse_many(sum(1 for _ in comparisons_of(condition)))
    return condition


def comparisons_of(condition: Condition) -> Iterator[Comparison]:
    """Yield every comparison of a condition, from left to right."""
    if isinstance(condition, Comparison):
        yield condition
    elif isinstance(condition, Not):
        yield from comparisons_of(condition.condition)
    else:
        for part in condition.conditions:
            yield from comparisons_of(part)


def near(word: str, known: Sequence[str]) -> str:
    """Return ` Did you mean ...?` with the known words that look like `word`, or nothing."""
    lowered = {name.lower(): name for name in known}
    found = [lowered[name] for name in difflib.get_close_matches(word.lower(), list(lowered), n=3)]
    return f" Did you mean {' or '.join(repr(name) for name in found)}?" if found else ""


def _refuse_many(n_comparisons: int) -> None:
    if n_comparisons > MAX_COMPARISONS:
        msg = (
            f"the filter has {n_comparisons:,} comparisons; at most {MAX_COMPARISONS:,} are read. "
            "Write values of one column as one list: column in ('a', 'b', ...)."
        )
        raise UsageError(msg)


def _tokens(text: str) -> list[_Token]:
    tokens, place = [], 0
    while (found := _TOKEN.match(text, place)) is not None:
        kind = str(found.lastgroup)
        tokens.append(_Token(kind, found[kind], found.start(kind)))
        place = found.end()
    rest = text[place:].lstrip()
    start = len(text) - len(rest)
    if rest:
        what = "a quote that is never closed" if rest[0] in "'\"" else f"{rest[0]!r} means nothing here"
        _refuse(text, start, what)
    return [*tokens, _Token("end", "", len(text.rstrip()))]


def _refuse(text: str, place: int, what: str) -> NoReturn:
    """Raise with the line around the place and a mark under it."""
    first, last = max(0, place - 40), min(len(text), place + 40)
    shown = re.sub(r"\s", " ", text[first:last])
    msg = f"the filter cannot be read at character {place + 1}: {what}\n    {shown}\n    {' ' * (place - first)}^"
    raise UsageError(msg)


class _Parser:
    """Recursive descent over the tokens; the depth is counted, so that no input exhausts the stack."""

    def __init__(self, text: str, columns: Mapping[str, str]) -> None:
        self._text = text
        self._columns = columns
        self._tokens = _tokens(text)
        self._next = 0

    def peek(self) -> _Token:
        return self._tokens[self._next]

    def refuse(self, token: _Token, what: str) -> NoReturn:
        found = f", found {token.text[:40]!r}" if token.text else ", but the filter ends here"
        _refuse(self._text, token.start, f"{what}{found}.")

    def expression(self, depth: int) -> Condition:
        parts = [self._conjunction(depth)]
        while self._take_word("or"):
            parts.append(self._conjunction(depth))
        merged = _merged(parts)
        return merged[0] if len(merged) == 1 else AnyOf(tuple(merged))

    def _conjunction(self, depth: int) -> Condition:
        parts = [self._factor(depth)]
        while self._take_word("and"):
            parts.append(self._factor(depth))
            _refuse_many(len(parts))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _factor(self, depth: int) -> Condition:
        n_not = 0
        while self._take_word("not"):
            n_not += 1
        condition = self._bracketed(depth) if self.peek().text == "(" else self._comparison()
        return Not(condition) if n_not % 2 else condition

    def _bracketed(self, depth: int) -> Condition:
        opened = self._take()
        if depth >= MAX_DEPTH:
            self.refuse(opened, f"brackets may be nested {MAX_DEPTH} deep")
        condition = self.expression(depth + 1)
        self._expect(")")
        return condition

    def _comparison(self) -> Condition:
        column = self._column()
        token = self._take()
        word = token.text.lower() if token.kind == "word" else ""
        if token.text in _SIGNS and token.kind == "sign":
            operator = _SIGNS[token.text]
            return Comparison(column=column, operator=operator, values=(self._value(column),))
        if word == "is":
            return self._unknown(column)
        is_negated = word == "not"
        if is_negated:
            token = self._take()
            word = token.text.lower() if token.kind == "word" else ""
        if word == "in":
            found = Comparison(column=column, operator="in", values=self._values(column))
        elif word == "like":
            found = Comparison(column=column, operator="like", values=(self._pattern(column),))
        else:
            self.refuse(token, f"expected =, !=, <, <=, >, >=, in, like or is after {column}")
        return Not(found) if is_negated else found

    def _unknown(self, column: str) -> Condition:
        is_negated = self._take_word("not")
        token = self._take()
        if token.kind != "word" or token.text.lower() not in ("unknown", "null"):
            self.refuse(token, "expected 'unknown' or 'null' after 'is'")
        found = Comparison(column=column, operator="unknown")
        return Not(found) if is_negated else found

    def _column(self) -> str:
        token = self._take()
        if token.kind != "word" or token.text.lower() in _KEYWORDS:
            self.refuse(token, "expected a column")
        if token.text not in self._columns:
            hint = near(token.text, list(self._columns))
            known = "" if hint else f" There are {', '.join(self._columns)}."
            _refuse(self._text, token.start, f"there is no column {token.text[:40]!r}.{hint}{known}")
        return token.text

    def _values(self, column: str) -> tuple[str | int | float, ...]:
        self._expect("(")
        values = [self._value(column)]
        while self.peek().text == "," and self.peek().kind == "sign":
            self._take()
            values.append(self._value(column))
        self._expect(")")
        return tuple(dict.fromkeys(values))

    def _pattern(self, column: str) -> str:
        value = self._value(column)
        if not isinstance(value, str):
            self.refuse(self._tokens[self._next - 1], f"{column} is a number; 'like' compares texts")
        return value

    def _value(self, column: str) -> str | int | float:
        token = self._take()
        if token.kind == "word":
            self.refuse(token, f"a text stands in quotes ('{token.text[:40]}')")
        if token.kind not in ("text", "number"):
            self.refuse(token, "expected a text in quotes or a number")
        wanted = self._columns[column]
        if token.kind != wanted:
            self.refuse(token, f"{column} is compared with a {wanted}")
        if token.kind == "text":
            quote = token.text[0]
            return token.text[1:-1].replace(quote * 2, quote)
        return self._number(token)

    def _number(self, token: _Token) -> int | float:
        is_whole = re.fullmatch(r"[+-]?\d{1,18}", token.text) is not None
        value = int(token.text) if is_whole else float(token.text[:400])
        if value in (float("inf"), float("-inf")):
            self.refuse(token, "the number is too large")
        return value

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _take_word(self, word: str) -> bool:
        token = self.peek()
        if token.kind != "word" or token.text.lower() != word:
            return False
        self._next += 1
        return True

    def _expect(self, sign: str) -> None:
        token = self._take()
        if token.kind != "sign" or token.text != sign:
            self.refuse(token, f"expected '{sign}'")


def _merged(parts: Sequence[Condition]) -> list[Condition]:
    """Join comparisons of one column by `=` or `in` into one list; the order of first mention is kept."""
    lists: dict[str, dict[str | int | float, None]] = {}
    merged: list[Condition | str] = []
    for part in parts:
        if not isinstance(part, Comparison) or part.operator not in ("=", "in"):
            merged.append(part)
            continue
        if part.column not in lists:
            lists[part.column] = {}
            merged.append(part.column)
        lists[part.column].update(dict.fromkeys(part.values))
    return [_list_of(part, tuple(lists[part])) if isinstance(part, str) else part for part in merged]


def _list_of(column: str, values: tuple[str | int | float, ...]) -> Comparison:
    return Comparison(column=column, operator="=" if len(values) == 1 else "in", values=values)

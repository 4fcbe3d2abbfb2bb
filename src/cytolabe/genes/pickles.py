"""Plain values out of a pickle of which nothing is run.

Vocabularies and annotation tables of others come as pickles. Unpickling calls whatever a file names; here its
instructions are only read: texts, numbers, lists, tuples and dictionaries become what they are, and everything that
the file would have called becomes an `Inert` record of the name, the arguments and the state. An instruction that is
not known, or a file that does not hold together, is refused.
"""

import json
import pickletools
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cytolabe.errors import HostileInputError, UnreadableInputError

__all__ = ["PERSISTENT", "Inert", "plain_scalar", "read_inert", "read_named"]

PERSISTENT = "persistent id"
"""Name of the record of what lies outside of a pickle, beside it in an archive."""
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], object]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_VALUES = frozenset({
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "INT", "LONG", "FLOAT", "UNICODE",
})  # fmt: skip
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_MAX_BYTES = 256 << 20
_SCALARS = frozenset({"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"})  # before and since numpy 2
_NUMBERS = frozenset({"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})


@dataclass(eq=False)
class Inert:
    """What a pickle would have made by a call: `name` with `arguments`, then filled with `state`."""

    name: str
    arguments: tuple[object, ...] = ()
    state: object = None
    items: dict[object, object] = field(default_factory=dict)


def read_inert(content: bytes, *, where: str, allowed: Collection[str] | None = None) -> object:
    """Return the value of a pickle without running any of it.

    Parameters
    ----------
    allowed
        Names that it may hold (`module.name`); any without it, because none is looked up.

    Raises
    ------
    HostileInputError
        If it names something else.
    UnreadableInputError
        If it is too large, no pickle, or has instructions that plain values do not need.
    """
    if len(content) > _MAX_BYTES:
        msg = f"{where}: {len(content):,} bytes; a pickle is read up to {_MAX_BYTES:,}."
        raise UnreadableInputError(msg)
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(content):
            machine.step(opcode.name, argument)
        (value,) = machine.stack
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error) as error:
        msg = f"{where}: no pickle of plain values ({error})."
        raise UnreadableInputError(msg) from None
    strange = sorted(machine.names.difference(machine.names if allowed is None else allowed))
    if strange:
        msg = (
            f"{where} would call {', '.join(strange[:3])} when it is loaded, which no such file needs. Nothing of it was run. "
            "Do not load it with anything else; ask its source for a file of safetensors or JSON."
        )
        raise HostileInputError(msg)
    return value


def read_named(content: bytes, *, where: str) -> dict[str, object]:
    """Return the table of names that a file of a model holds: a JSON object, or a pickle of one, whose bytes tell it.

    Raises
    ------
    UnreadableInputError
        If it is neither, or its keys are no names.
    """
    if content.startswith(b"\x80"):
        found = read_inert(content, where=where)
    else:
        try:
            found = json.loads(content)
        except ValueError as error:
            msg = f"{where}: neither JSON nor a pickle ({error})."
            raise UnreadableInputError(msg) from None
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found):
        msg = f"{where}: no table of names; an object such as gene -> token is needed."
        raise UnreadableInputError(msg)
    return found


def plain_scalar(value: object, *, where: str) -> object:
    """Return the number that the record of a numpy scalar holds; any other plain value as it is.

    Raises
    ------
    UnreadableInputError
        If it is the record of anything else.
    """
    if not isinstance(value, Inert):
        return value
    try:
        kind, content = value.arguments
        if value.name not in _SCALARS or kind.name != "numpy.dtype" or kind.arguments[0] not in _NUMBERS:  # type: ignore[attr-defined]
            raise ValueError(value.name)  # noqa: TRY301 - one message for all that is no number
        order = ">" if kind.state is not None and kind.state[1] == ">" else "<"  # type: ignore[attr-defined]
        (number,) = np.frombuffer(content, dtype=f"{order}{kind.arguments[0]}").tolist()  # type: ignore[attr-defined, call-overload]
    except (ValueError, TypeError, AttributeError, IndexError):
        msg = f"{where}: would call {value.name}, which is no number; nothing of a pickle is run."
        raise UnreadableInputError(msg) from None
    return number


class _Machine:
    """The stack of a pickle. Each instruction moves values; none of them calls, imports or looks up anything."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, object] = {}
        self.names: set[str] = set()

    def step(self, name: str, argument: Any) -> None:  # noqa: ANN401 - whatever the instruction carries
        """Carry out one instruction."""
        if name in _IGNORED:
            return
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._take_tuple(_TUPLES[name])
        else:
            self._move(name, argument)

    def _move(self, name: str, argument: Any) -> None:  # noqa: ANN401
        if name == "MARK":
            self.stack.append(_MARK)
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in {"BINPUT", "LONG_BINPUT", "PUT"}:
            self.memo[int(argument)] = self.stack[-1]
        elif name in {"BINGET", "LONG_BINGET", "GET"}:
            self.stack.append(self.memo[int(argument)])
        elif name in {"TUPLE", "APPENDS", "SETITEMS", "ADDITEMS"}:
            self._collect(name, self._above_mark())
        elif name == "APPEND":
            self._collect("APPENDS", [self.stack.pop()])
        elif name == "SETITEM":
            value, key = self.stack.pop(), self.stack.pop()
            self._collect("SETITEMS", [key, value])
        else:
            self._would_call(name, argument)

    def _would_call(self, name: str, argument: Any) -> None:  # noqa: ANN401
        """Write down what the pickle would have called."""
        if name == "GLOBAL":
            self._name(str(argument).replace(" ", "."))
        elif name == "STACK_GLOBAL":
            attribute, module = self.stack.pop(), self.stack.pop()
            self._name(f"{module}.{attribute}")
        elif name == "BINPERSID":
            self.stack.append(Inert(PERSISTENT, (self.stack.pop(),)))
        elif name in {"REDUCE", "NEWOBJ"}:
            arguments, called = self.stack.pop(), self.stack.pop()
            self.stack.append(Inert(called.name, tuple(arguments)))
        elif name == "BUILD":
            state = self.stack.pop()
            self.stack[-1].state = state
        else:
            msg = f"the instruction {name}"
            raise ValueError(msg)

    def _name(self, name: str) -> None:
        self.names.add(name)
        self.stack.append(Inert(name))

    def _take_tuple(self, size: int) -> None:
        if len(self.stack) < size:
            msg = "a tuple of more values than there are"
            raise ValueError(msg)
        self.stack[-size:] = [tuple(self.stack[-size:])]

    def _above_mark(self) -> list[Any]:
        values: list[Any] = []
        while self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        self.stack.pop()
        return values[::-1]

    def _collect(self, name: str, values: list[Any]) -> None:
        if name == "TUPLE":
            self.stack.append(tuple(values))
        elif name == "APPENDS":
            self.stack[-1].extend(values)
        elif name == "ADDITEMS":
            self.stack[-1].update(values)
        else:
            target = self.stack[-1]
            target = target.items if isinstance(target, Inert) else target
            target.update(_pairs(values))


def _pairs(values: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(values[::2], values[1::2], strict=True)

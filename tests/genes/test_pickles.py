"""Pickles are read and never run."""

import io
import pickletools

import pytest

from cytolabe.errors import UnreadableInputError
from cytolabe.genes.pickles import Inert, read_inert

# Written by hand, because no test may load or write a pickle: protocol 4, a dictionary of a text, a number, a list.
PLAIN = (
    b"\x80\x04}\x94(\x8c\x0fENSG00000010610\x94K\x05\x8c\x04list\x94]\x94(K\x01G?\xf8\x00\x00\x00\x00\x00\x00\x88Neu."
)
HOSTILE = b"cos\nsystem\n(S'touch /tmp/owned'\ntR."
BUILT = b"\x80\x04\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02i8\x94\x85\x94R\x94K\x03b."


def test_plain_values_come_back_as_they_are():
    assert read_inert(PLAIN, where="x") == {"ENSG00000010610": 5, "list": [1, 1.5, True, None]}


def test_a_call_is_written_down_and_not_made():
    found = read_inert(BUILT, where="x")
    assert isinstance(found, Inert)
    assert (found.name, found.arguments, found.state) == ("numpy.dtype", ("i8",), 3)
    assert pickletools.dis(HOSTILE, io.StringIO()) is None  # it is a whole pickle
    with pytest.raises(UnreadableInputError, match="STRING"):
        read_inert(HOSTILE, where="x")


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"\x80\x04K", PLAIN[:-9], b"not a pickle", b"\x80\x04\x85."])
def test_what_does_not_hold_together_is_refused(content):
    with pytest.raises(UnreadableInputError, match="no pickle of plain values"):
        read_inert(content, where="x")

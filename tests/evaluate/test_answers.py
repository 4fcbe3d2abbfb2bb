"""What a model raises is its result; that somebody ends the run is not."""

import pytest

from cytolabe.evaluate.answers import Failure, attempt
from cytolabe.records import ScoreStatus


def ctrl_c_that_a_library_turns_into_an_exit():
    try:
        _pressed()
    except KeyboardInterrupt:
        raise SystemExit(1)  # noqa: B904 - as lightning does it


def _pressed():
    raise KeyboardInterrupt


def ended_by_a_signal():
    raise SystemExit(128 + 15)


@pytest.mark.parametrize(
    ("work", "error"), [(ctrl_c_that_a_library_turns_into_an_exit, KeyboardInterrupt), (ended_by_a_signal, SystemExit)]
)
def test_a_request_to_end_ends_the_run_and_becomes_no_row(work, error):
    with pytest.raises(error):
        attempt(work)


@pytest.mark.parametrize("error", [SystemExit(1), SystemExit("no licence"), ValueError("bad")])
def test_a_model_that_leaves_or_fails_by_itself_is_a_failed_row(error):
    def work():
        raise error

    found = attempt(work)
    assert isinstance(found, Failure)
    assert found.status is ScoreStatus.FAILED

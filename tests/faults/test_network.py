"""A network that fails at the n-th request: an atlas in an object store is before or after a change, never between.

A request fails before it reaches the store, or reaches it and its answer is lost. Either way the command ends with an
error of the system, `verify` finds no error, and the same command again ends as if nothing had happened.
"""

import errno
import importlib.util
from pathlib import Path

import pytest

from cytolabe import files
from cytolabe.errors import CytolabeError
from cytolabe.files import objects

obstore = pytest.importorskip("obstore")
_SPEC = importlib.util.spec_from_file_location("disk_sweep", Path(__file__).with_name("disk_sweep.py"))
disk = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(disk)

WRITES = ("put", "delete")
REQUESTS = (*WRITES, "get", "get_range", "head", "list", "list_with_delimiter")


class FailingNetwork:
    """obstore, of which the `n_th` request fails; `is_lost` when the store did what was asked all the same."""

    def __init__(self, n_th, *, is_lost=False):
        self.asked, self.n_th, self.is_lost = [], n_th, is_lost

    def __getattr__(self, name):
        function = getattr(obstore, name)
        return self._counted(name, function) if name in REQUESTS else function

    def _counted(self, name, function):
        def ask(*given, **named):
            self.asked.append(name)
            if len(self.asked) != self.n_th + 1:
                return function(*given, **named)
            if self.is_lost:
                function(*given, **named)
            message = "error sending request"
            raise obstore.exceptions.GenericError(message)

        return ask


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    made = disk.Sweep(folder)
    base = {name: (folder / "base" / name).read_bytes() for name in files.list_files(folder / "base")}

    def fresh(name):
        place = files.place_of(f"memory://{folder.name}/{name}")
        for file, content in base.items():
            files.create_new(place / file, content)
        return place

    made.fresh = fresh
    return made


def asked_by(place, network, monkeypatch):
    """Run the command while the network is another one, and return the error number that it ended with."""
    with monkeypatch.context() as patched:
        patched.setattr(objects, "_obstore", lambda: network)
        # One at a time, so that the n-th request is the same one in every run.
        patched.setattr(objects, "_UPLOADS", 1)
        try:
            disk.run_command(place)
        except OSError as error:
            return error.errno
    return 0


@pytest.mark.slow
def test_a_request_that_fails_leaves_the_state_before_or_after(sweep, monkeypatch):
    counted = FailingNetwork(-1)
    assert asked_by(sweep.fresh("counted"), counted, monkeypatch) == 0
    faults = [(n_th, is_lost) for n_th, name in enumerate(counted.asked) for is_lost in (False, True) if name in WRITES]
    # A question that fails changes nothing; a few of each kind are enough.
    for kind in set(REQUESTS) - set(WRITES):
        faults += [(n_th, False) for n_th, name in enumerate(counted.asked) if name == kind][::8]
    assert len(faults) > 40
    wrong, judged = {}, {}
    for n_th, is_lost in faults:
        place = sweep.fresh(f"failed-{n_th}-{is_lost}")
        told = asked_by(place, FailingNetwork(n_th, is_lost=is_lost), monkeypatch)
        state = tuple((name, (place / name).read_bytes()) for name in sorted(files.list_files(place)))
        if state not in judged:
            try:
                judged[state] = sweep.wrong(place)
            except (CytolabeError, OSError) as error:
                judged[state] = repr(error)
        if told != errno.EIO or judged[state]:
            wrong[f"{n_th} {counted.asked[n_th]} {is_lost}"] = judged[state] or f"told {told}"
    assert wrong == {}
    assert len(judged) > 10

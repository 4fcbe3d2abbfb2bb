"""What every room uses: types checked at every call, an object store (a real server of S3's protocol, in a thread), and
what happens on a crash.
"""

import dataclasses
import inspect
import itertools
import logging
import sys
import urllib.request

import jaxtyping
import pytest
from beartype import beartype

_KEYS = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request"
_NUMBERS = itertools.count()
_CRASHED: set[str] = set()
_BY_SHAPE = jaxtyping.jaxtyped


def _checked(fn=None, *, typechecker):
    """Have jaxtyping look at a function whose signature states shapes, and beartype alone at every other.

    jaxtyping binds the arguments of each call and has them checked twice: a third of the time of all tests.
    """
    if fn is None:
        return lambda fn: _checked(fn, typechecker=typechecker)
    if inspect.isclass(fn):
        if dataclasses.is_dataclass(fn) and not hasattr(fn.__init__, "__wrapped__"):
            fn.__init__ = _checked(fn.__init__, typechecker=typechecker)
        return fn
    is_unknown = "TYPE_CHECKING" in fn.__globals__ or any("." in hint for hint in _quoted(fn))
    if is_unknown or "jaxtyping" in str(inspect.signature(fn)):
        return _BY_SHAPE(fn, typechecker=typechecker)
    return beartype(fn)


def _quoted(fn):
    """Return the types that are named in quotes: those of other modules may exist for the type checker alone."""
    return [hint for hint in fn.__annotations__.values() if isinstance(hint, str)]


jaxtyping.jaxtyped = _checked  # what the hook of `--jaxtyping-packages` writes over every function


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem, report, sched):
    """Run a test once more whose worker crashed; the summary counts it as `rerun`, and a second crash fails it.

    What crashes a worker is native code of a library, in a process that has loaded three hundred others. What fails
    without a crash is never run again.
    """
    if crashitem not in _CRASHED:
        _CRASHED.add(crashitem)
        sched.mark_test_pending(crashitem)
        report.outcome = "rerun"


@pytest.fixture(scope="session")
def s3_server():
    """URL of the server; nothing outside of this machine is asked."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("obstore", reason="the [cloud] extra is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """A new bucket, as `s3://name`, with the variables that lead to it."""
    settings = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{next(_NUMBERS)}"
    request = urllib.request.Request(f"{s3_server}/{name}", method="PUT", headers={"Authorization": _KEYS})  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - the server of this test
        assert answer.status == 200
    return f"s3://{name}"


_OFFERED = """
import dataclasses
import numpy as np
from cytolabe.models.cards import CARDS
from cytolabe.models.scopes import fit_scope
from cytolabe.records import ModelCard

@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean:
    n_genes: int = 3
    card: ModelCard = dataclasses.field(
        default=dataclasses.replace(CARDS["hvg"], name="NAME", source="lab of B"), init=False
    )
    scopes: tuple = dataclasses.field(default=(), init=False)
    notes: tuple = dataclasses.field(default=(), init=False)

    def __post_init__(self):
        if self.n_genes < 1:
            raise ValueError("n_genes must be positive")

    def fit(self, train, *, query, seed):
        fitted = Mean(n_genes=self.n_genes)
        object.__setattr__(fitted, "scopes", (fit_scope("mean", train.cell_ids),))
        return fitted

    def embed(self, view):
        return np.log1p(view.counts[:, : self.n_genes].toarray())
"""


@pytest.fixture(scope="session")
def offered_code():
    """Return a function that gives the source of a module with an embedder `Mean`, whose card has the name given."""
    return lambda name="lab_mean": _OFFERED.replace("NAME", name)


_INTEGRATOR = """\
import dataclasses

import numpy as np

from cytolabe.models.cards import CARDS
from cytolabe.models.scopes import fit_scope
from cytolabe.records import FitOnQuery

HANDED = []


@dataclasses.dataclass(frozen=True)
class Placed:
    mean: object
    scopes: tuple
    notes: tuple = ()

    def embed(self, view):
        return np.log1p(view.counts[:, : len(self.mean)].toarray()) * (1 + self.mean)


@dataclasses.dataclass(frozen=True)
class Joint:
    n_genes: int = 3
    card = dataclasses.replace(
        CARDS["hvg"], name="lab_joint", source="lab of J", fit_on_query=FitOnQuery.JOINT, inputs=("dataset_id", "batch")
    )

    def integrate(self, train, *, query, seed):
        views = [train] if query is None else [train, query]
        HANDED.append(views)
        counts = np.concatenate([view.counts[:, : self.n_genes].toarray() for view in views])
        names = np.concatenate([view.cell_ids for view in views])
        return Placed(mean=np.log1p(counts).mean(axis=0), scopes=(fit_scope("joint", names),))
"""


@pytest.fixture(scope="session")
def offered_integrator():
    """Return a function that gives the source of a module with a joint method `Joint`, which remembers what it was handed."""
    return lambda: _INTEGRATOR


@pytest.fixture
def install_package(tmp_path, monkeypatch, offered_code):
    """Return a function that puts a made-up distribution on the path: its name, its entries, its one module."""

    def put(package, entries, module="", *, version="1.0", code="", where=""):
        place = tmp_path / f"{where}{package}-{version}"
        info = place / f"{package.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entries if "[" in entries else f"[cytolabe.models]\n{entries}\n")
        if module:
            (place / f"{module}.py").write_text(code or offered_code())
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.syspath_prepend(place)
        return place

    yield put
    for name in [name for name in sys.modules if name.startswith("made_up_")]:
        del sys.modules[name]

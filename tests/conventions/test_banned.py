"""Constructs that run foreign code, read more than they should, or depend on hidden state are nowhere in the source.

Each ban is a function of one syntax node; each is shown a planted offence and a harmless neighbor.
"""

import ast

import pytest

SQL_WORDS = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "CREATE ", "COPY ", "ATTACH ", "DROP ")
GLOBAL_RANDOM = {"seed", "rand", "randn", "randint", "choice", "permutation", "shuffle", "random", "normal", "uniform"}


def dotted(node: ast.AST) -> str:
    """Return `a.b.c` of nested attributes; calls on the way are skipped, so `f().query` gives `.query`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((item.value for item in call.keywords if item.arg == name), None)


def is_true(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def imports_pickle(node):
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in banned for alias in node.names)
    return isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in banned


def unpickles(node):
    return isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in {"read_pickle", "to_pickle"}


def evaluates(node):
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec", "compile"}
    )


def queries_a_frame(node):
    """`frame.query(...)` and `frame.eval(...)` run expressions; `model.eval()` of torch takes no argument."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    if node.func.attr == "eval":
        return bool(node.args or node.keywords)
    return node.func.attr == "query" and bool(node.args) and isinstance(node.args[0], ast.Constant | ast.JoinedStr)


def loads_yaml(node):
    return isinstance(node, ast.Call) and dotted(node.func) in {"yaml.load", "yaml.unsafe_load", "yaml.full_load"}


def formats_sql(node):
    texts = []
    if isinstance(node, ast.JoinedStr):
        texts = [part.value for part in node.values if isinstance(part, ast.Constant)]
        varies = any(isinstance(part, ast.FormattedValue) for part in node.values)
        return varies and bool(texts) and str(texts[0]).lstrip().startswith(SQL_WORDS)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        value = node.func.value
        return isinstance(value, ast.Constant) and str(value.value).lstrip().startswith(SQL_WORDS)
    return False


def unpacks_an_archive(node):
    if not isinstance(node, ast.Call):
        return False
    name = dotted(node.func)
    return name in {"tarfile.open", "tarfile.TarFile", "shutil.unpack_archive"} or name.endswith(".extractall")


def runs_a_shell(node):
    if not isinstance(node, ast.Call):
        return False
    return dotted(node.func) in {"os.system", "os.popen"} or is_true(keyword(node, "shell"))


def renders_without_escaping(node):
    if not (isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in {"Environment", "SandboxedEnvironment"}):
        return dotted(getattr(node, "func", ast.Constant(value=0))) in {"jinja2.Template", "Template"}
    return not is_true(keyword(node, "autoescape"))


def loads_objects_with_numpy(node):
    return isinstance(node, ast.Call) and is_true(keyword(node, "allow_pickle"))


def loads_torch_unsafely(node):
    if not (isinstance(node, ast.Call) and dotted(node.func) == "torch.load"):
        return False
    return not is_true(keyword(node, "weights_only"))


def loads_a_scvi_model(node):
    return isinstance(node, ast.Call) and dotted(node.func).split(".")[-2:] in (["SCVI", "load"], ["SCANVI", "load"])


def draws_from_global_state(node):
    if not isinstance(node, ast.Call):
        return False
    parts = dotted(node.func).split(".")
    if parts[:1] == ["random"] and len(parts) == 2 and parts[1] not in {"getstate", "setstate"}:
        return True
    return len(parts) == 3 and parts[0] in {"np", "numpy"} and parts[1] == "random" and parts[2] in GLOBAL_RANDOM


def prints(node):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def reads_the_clock(node):
    names = {"time.time", "datetime.now", "datetime.datetime.now", "datetime.utcnow", "date.today"}
    return isinstance(node, ast.Call) and dotted(node.func) in names


BANS = {
    imports_pickle: ("import pickle", "import json"),
    unpickles: ("pd.read_pickle(p)", "pd.read_parquet(p)"),
    evaluates: ("eval(text)", "evaluate(text)"),
    queries_a_frame: ("cells.query('a > 1')", "snapshot.query_view(rows)"),
    loads_yaml: ("yaml.load(text)", "yaml.safe_load(text)"),
    formats_sql: ('f"SELECT * FROM {table}"', '"SELECT * FROM cells WHERE a = ?"'),
    unpacks_an_archive: ("tarfile.open(p).extractall()", "h5py.File(p)"),
    runs_a_shell: ("subprocess.run(c, shell=True)", "subprocess.run([c])"),
    renders_without_escaping: ("Environment(loader=x)", "Environment(loader=x, autoescape=True)"),
    loads_objects_with_numpy: ("np.load(p, allow_pickle=True)", "np.load(p, allow_pickle=False)"),
    loads_torch_unsafely: ("torch.load(p)", "torch.load(p, weights_only=True)"),
    loads_a_scvi_model: ("scvi.model.SCVI.load(p)", "safetensors.load(p)"),
    draws_from_global_state: ("np.random.shuffle(x)", "np.random.default_rng(s).shuffle(x)"),
    prints: ("print(x)", "typer.echo(x)"),
}
ALLOWED: dict[str, set[str]] = {
    # The one place that opens tar: it lists entries and reads streams, and has no call that unpacks.
    "unpacks_an_archive": {"cytolabe/ingest/tar_listing.py"},
}
"""Ban -> modules that may break it, with the reason beside the entry."""


@pytest.mark.parametrize("ban", BANS, ids=lambda ban: ban.__name__)
def test_the_source_never(ban, sources):
    found = [
        f"{source.name}:{node.lineno}"
        for source in sources
        if source.name not in ALLOWED.get(ban.__name__, set())
        for node in ast.walk(source.tree)
        if ban(node)
    ]
    assert not found


@pytest.mark.parametrize("ban", BANS, ids=lambda ban: ban.__name__)
def test_a_planted_offence_is_caught_and_its_neighbor_is_not(ban):
    offence, harmless = BANS[ban]
    assert any(ban(node) for node in ast.walk(ast.parse(offence)))
    assert not any(ban(node) for node in ast.walk(ast.parse(harmless)))


def test_scores_snapshots_and_reports_never_read_the_clock(sources):
    """What is hashed or printed must be the same tomorrow."""
    rooms = ("evaluate/", "report/", "split/", "audit/", "reconcile/", "metrics/", "models/", "encode/", "genes/")
    found = [
        f"{source.name}:{node.lineno}"
        for source in sources
        if source.name.removeprefix("cytolabe/").startswith(rooms)
        for node in ast.walk(source.tree)
        if reads_the_clock(node)
    ]
    assert not found

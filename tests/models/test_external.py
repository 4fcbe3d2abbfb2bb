"""A model in another process: what it is handed holds no label of the query, and what it answers is believed in nothing."""

import io
import json
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cytolabe.errors import (
    LeakageError,
    MissingExtraError,
    ModelFailedError,
    RefusedError,
    UnreadableInputError,
    UsageError,
)
from cytolabe.models.external.answer import MANIFEST_FORMAT, read_embedding, read_labels, read_manifest
from cytolabe.models.external.request import Codes, write_request
from cytolabe.models.protocols import Annotator, Embedder, FittedAnnotator, FittedEmbedder
from cytolabe.models.registry import make_model
from cytolabe.records import Protocol

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats" / "external.md"
SAID = {"supervised": ("predict_labels", []), "self_supervised": ("embed_cells", [])}


@pytest.fixture(scope="module")
def example():
    """The program of the documentation, to the letter."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return code


@pytest.fixture
def program(tmp_path, example):
    """Return a function that makes a model of the example with something before and behind it, or of another text."""

    def make(*, before="", behind="", replaced=(), protocol="supervised", code="", **options):
        path = tmp_path / "program.py"
        changed = example
        for old, new in replaced:
            assert old in changed
            changed = changed.replace(old, new)
        path.write_text(code or f"{before}\n{changed}\n{behind}")
        task, past = SAID.get(protocol, ("embed_cells", ["some-corpus"]))
        given = {"task": task, "pretraining": past, "protocol": protocol, "name": "external:mine"} | options
        return make_model("external", command=[sys.executable], program=path, **given)

    return make


def test_the_program_of_the_documentation_has_twenty_lines(example):
    assert len([line for line in example.splitlines() if line.strip()]) == 20


def test_an_annotator_answers_with_terms_of_training(program, make_train, make_query, query_truth):
    model = program()
    assert isinstance(model, Annotator)
    assert (model.card.name, model.card.protocol, model.card.pretraining) == ("external:mine", Protocol.SUPERVISED, ())
    train = make_train()
    fitted = model.fit(train, query=None, seed=3)
    assert isinstance(fitted, FittedAnnotator)
    output = fitted.predict(make_query())
    answered = np.array(output.classes, dtype=object)[output.probability.argmax(axis=1)]
    assert (answered == query_truth(60)).mean() > 0.9
    assert [(scope.step, scope.n_cells) for scope in fitted.scopes] == [("external/fit", len(train.cell_ids))]
    assert fitted.notes == (
        "external program, by its own word: svd 1, weights none, dictionary none, seed None, pretraining none, exposure out",
    )


def test_an_embedder_gives_a_row_for_each_cell(program, make_train, make_query):
    model = program(protocol="self_supervised", settings={"n_dims": 4})
    assert isinstance(model, Embedder)
    fitted = model.fit(make_train(), query=None, seed=3)
    assert isinstance(fitted, FittedEmbedder)
    assert fitted.embed(make_query()).shape == (60, 4)


def test_rows_come_back_in_the_order_of_the_view_whatever_the_order_of_the_answer(tmp_path, make_query):
    query = make_query(20)
    request = write_request(tmp_path, query, codes=Codes(words={}), said={"seed": 3})
    with np.load(tmp_path / "counts.npz") as part:
        counts = csr_matrix((part["data"], part["indices"], part["indptr"]), shape=part["shape"]).toarray()
    assert not np.array_equal(counts, query.counts.toarray())
    for order in (np.arange(20), np.arange(20)[::-1]):
        np.savez(tmp_path / "answer.npz", cell_id=np.array(request.cell_ids)[order], embedding=counts[order])
        np.testing.assert_array_equal(read_embedding(tmp_path, request, told="it"), query.counts.toarray())


def test_the_same_cells_and_seed_are_the_same_bytes(tmp_path, make_train):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_request(tmp_path / name, make_train(), codes=Codes(words={}), said={"seed": 3}, with_labels=True)
    for name in ("request.json", "counts.npz", "cells.json", "genes.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with zipfile.ZipFile(tmp_path / "one" / "counts.npz") as archive:
        assert {part.date_time for part in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}  # never the time of day


def everything_in(folder):
    """Return every byte of a folder, with what is packed unpacked and names of files beside it."""
    found = b""
    for path in sorted(folder.rglob("*")):
        found += str(path.relative_to(folder)).encode()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    content = archive.read(name)
                    array = np.load(io.BytesIO(content), allow_pickle=False)
                    found += content + (
                        " ".join(array.tolist()).encode() if array.dtype.kind == "U" and array.ndim else b""
                    )
        elif path.is_file():
            found += path.read_bytes()
    return found


def test_nothing_that_is_written_leads_to_a_label_of_the_query(program, make_train, make_query, tmp_path):
    """Names of cells, batches, data sets, sites, assays and donors spell the type here, and rows are sorted by it."""
    query = make_query(30)
    secret = [f"secretcell{k // 10}x{k}" for k in range(30)]
    technical = query.technical.assign(
        dataset_id="secretdataset",
        batch=[f"secretbatch{k // 10}" for k in range(30)],
        site="secretsite",
        assay="secretassay",
    )
    query = make_query(30, cell_ids=np.array(secret, dtype=object), technical=technical)
    train = make_train(60, persons=np.array([f"secretperson{k % 4}" for k in range(60)], dtype=object))
    spy = f"""
import shutil
shutil.copytree(".", {str(tmp_path)!r} + "/seen-" + request["step"])
"""
    program(behind=spy).fit(train, query=None, seed=3).predict(query)
    seen = {step: everything_in(tmp_path / f"seen-{step}") for step in ("fit", "predict")}
    assert b"secret" not in seen["fit"]
    assert b"secret" not in seen["predict"]
    for name in (*train.cell_ids, "lab1", "lab0"):
        assert str(name).encode() not in seen["fit"] + seen["predict"]
    cells = json.loads((tmp_path / "seen-predict" / "cells.json").read_text())
    assert set(cells) == {"cell_id", "dataset", "batch", "site", "assay", "suspension_type"}
    assert set(json.loads((tmp_path / "seen-fit" / "cells.json").read_text())) == {*cells, "donor", "label"}
    # Rows that were sorted by batch, which is by type, are not any more; and the first batch is not called the first.
    assert cells["batch"] != sorted(cells["batch"])
    assert [len(set(cells["batch"])), cells["assay"][0]] == [3, "assay-1"]
    assert json.loads((tmp_path / "seen-predict" / "request.json").read_text())["classes"] == sorted(set(train.labels))


def test_an_embedder_is_handed_no_label_at_all(program, make_train, make_query, tmp_path):
    spy = (
        f"import shutil; shutil.copytree('.', {str(tmp_path)!r} + '/seen-' + str(request['n_cells']) + request['step'])"
    )
    train = make_train(60)
    fitted = program(behind=spy, protocol="self_supervised").fit(train, query=None, seed=3)
    fitted.embed(train)
    for step in ("60fit", "60embed"):
        seen = everything_in(tmp_path / f"seen-{step}")
        assert b"CL:" not in seen
        assert (b'"donor"' in seen) == (step == "60fit")


def test_a_zero_shot_program_is_run_on_the_cells_to_embed_alone(program, make_train, make_query):
    code = [
        ('if request["step"] == "fit":', 'assert request["step"] == "embed"\nif False:'),
        ('kept = np.load("state/model.npz")', 'kept = {"mean": 0, "axes": np.eye(len(x[0])), "middle": [[0]]}'),
        ('"pretraining": []', '"pretraining": ["some-corpus"]'),
    ]
    fitted = program(protocol="zero_shot", replaced=code).fit(make_train(), query=None, seed=3)
    assert fitted.embed(make_query()).shape == (60, 60)
    assert [scope.step for scope in fitted.scopes] == ["external/frozen"]


def test_a_program_gets_no_token_of_whoever_runs_the_study(program, make_train, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "hunter2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    tell = f"import os; open({str(tmp_path)!r} + '/env.json', 'w').write(json.dumps(dict(os.environ)))"
    program(behind=tell, environment=["CUDA_VISIBLE_DEVICES"]).fit(make_train(), query=None, seed=3)
    seen = json.loads((tmp_path / "env.json").read_text())
    assert "hunter2" not in seen.values()
    threads = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"}
    assert set(seen) - {"LC_CTYPE"} == {"PATH", "LANG", "HOME", "TMPDIR", "CUDA_VISIBLE_DEVICES"} | threads
    assert not Path(seen["HOME"]).exists()


PROGRAMS = [
    pytest.param({"replaced": [('"request": request["digest"]', '"request": "sha256:0"')]}, ModelFailedError, "other input", id="other request"),
    pytest.param({"replaced": [('"version": "1"', '"version": request["step"]')]}, RefusedError, "something else of itself", id="another model by step"),
    pytest.param({"code": "import sys; print('first', file=sys.stderr); print('CUDA out of memory', file=sys.stderr); sys.exit(3)"}, ModelFailedError, r"exit status 3\. Its last words: first \| CUDA out of memory", id="exit status"),
    pytest.param({"code": "import os; os.kill(os.getpid(), 9)"}, ModelFailedError, "signal SIGKILL", id="killed"),
    pytest.param({"code": "import time; time.sleep(60)", "timeout_seconds": 0.3}, ModelFailedError, r"after 0\.3 seconds", id="too long"),
    pytest.param({"code": "pass"}, ModelFailedError, "left no file manifest.json", id="no manifest"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "words"), PROGRAMS)
def test_a_program_that_fails_is_told_in_one_line(program, make_train, make_query, changes, error, words):
    with pytest.raises(error, match=words) as raised:
        program(**changes).fit(make_train(), query=None, seed=3).predict(make_query())
    assert str(raised.value).startswith("external:mine (")
    assert "\n" not in str(raised.value)


CLASSES = ("CL:0000084", "CL:0000236", "CL:0000576")


@pytest.fixture
def answered(tmp_path, make_query):
    """Return a function that writes an answer with changes beside a request of six cells, and reads it."""
    said = {"step": "predict", "task": "predict_labels", "seed": 3}
    request = write_request(tmp_path, make_query(6), codes=Codes(words={}), said=said)

    def read(*, manifest=None, arrays=None, kind="label", link=False):
        document = {
            "format": MANIFEST_FORMAT, "request": request.digest, "model": "m", "version": "1", "weights_digest": "none",
            "dictionary_digest": "none", "seed": 3, "pretraining": [], "exposure": "out",
        }  # fmt: skip
        (tmp_path / "manifest.json").write_text(json.dumps(document | (manifest or {})))
        given = {"label": np.array(CLASSES * 2)} if kind == "label" else {}
        content = {"cell_id": np.array(request.cell_ids), **given, **(arrays or {})}
        np.savez(tmp_path / "answer.npz", **{name: value for name, value in content.items() if value is not None})
        if link:
            (tmp_path / "answer.npz").rename(tmp_path / "a")
            (tmp_path / "answer.npz").symlink_to("a")
        read_manifest(tmp_path, request, pretraining=(), told="it")
        if kind == "embedding":
            return read_embedding(tmp_path, request, told="it")
        return read_labels(tmp_path, request, classes=CLASSES, told="it")

    return read


def test_a_sound_answer_is_read(answered):
    assert answered().classes == CLASSES
    assert answered(manifest={"seed": None}).probability.sum() == 6


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ({"request": "sha256:0"}, ModelFailedError, "other input"),
        ({"seed": 4}, ModelFailedError, "seed 4 is not"),
        ({"exposure": "in"}, LeakageError, "knows these cells"),
        ({"exposure": "never"}, ModelFailedError, "garbles exposure"),
        ({"pretraining": ["atlas"]}, RefusedError, r'pretraining = \["atlas"\]'),
        ({"pretraining": "unknown"}, RefusedError, "study says pretraining none"),
        ({"pretraining": "atlas"}, ModelFailedError, "garbles pretraining"),
        ({"version": ""}, ModelFailedError, "garbles version"),
        ({"weights_digest": None}, ModelFailedError, "garbles weights_digest"),
        ({"format": "other-9"}, ModelFailedError, "other-9"),
    ],
)
def test_what_a_program_says_of_itself_is_checked(answered, said, error, words):
    with pytest.raises(error, match=words):
        answered(manifest=said)


PROBABILITY = {"label": None, "classes": np.array(CLASSES)}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"cell_id": ["cell-0000001"] * 6}, "5 have no answer, 0 answers are for other cells, 5 for one"),
        ({"cell_id": [f"cell-{k:07d}" for k in range(6)]}, "1 have no answer, 1 answers are for other cells"),
        ({"cell_id": np.arange(6)}, "6 have no answer"),
        ({"label": np.array(["CL:9"] * 6)}, "none of training"),
        ({"label": np.array(["CL:0000084"] * 5)}, r"label is .* \(5,\)"),
        ({"label": np.array(["CL:0000084"] * 6, dtype=object)}, "without objects"),
        ({"label": None}, "neither label nor classes"),
        ({**PROBABILITY, "probability": np.ones((6, 3))}, "do not sum to 1"),
        ({**PROBABILITY, "probability": np.full((6, 3), np.nan)}, "not finite"),
        ({**PROBABILITY, "probability": np.tile([-0.5, 0.5, 1.0], (6, 1))}, "negative"),
        (
            {**PROBABILITY, "classes": np.array(["CL:0000084"] * 3), "probability": np.full((6, 3), 1 / 3)},
            "stands twice",
        ),
        ({"junk": np.zeros((3, 10**6))}, "unpacks to"),
    ],
)
def test_an_answer_that_cannot_be_one_is_refused(answered, arrays, words):
    with pytest.raises(ModelFailedError, match=words):
        answered(arrays=arrays)


def test_a_link_is_not_followed(answered):
    with pytest.raises(ModelFailedError, match="links are not followed"):
        answered(link=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.full((6, 2), np.inf), "of 6 of 6 cells is not finite"),
        (np.zeros(6), "one row for each"),
        (np.zeros((5, 2)), "one row for each"),
        (np.zeros((6, 0)), "one row for each"),
        (np.full((6, 2), "1"), "expected were numbers"),
    ],
)
def test_an_embedding_is_finite_numbers_with_a_row_for_each_cell(answered, value, words):
    with pytest.raises(ModelFailedError, match=words):
        answered(arrays={"embedding": value}, kind="embedding")


def test_a_program_may_abstain(answered):
    assert answered(arrays={"label": np.array(["unknown"] * 6)}).classes == ("unknown",)


def test_what_one_step_writes_reaches_no_other(program, make_train, make_query):
    behind = 'import os\nif request["step"] == "predict":\n    assert not os.path.exists("state/seen")\n    open("state/seen", "w")'
    fitted = program(behind=behind).fit(make_train(), query=None, seed=3)
    assert fitted.predict(make_query()).classes == fitted.predict(make_query()).classes


def test_nothing_of_a_program_is_left_when_its_fit_is_gone(program, make_train):
    fitted = program().fit(make_train(), query=None, seed=3)
    root = fitted.root
    assert root.exists()
    del fitted
    assert not root.exists()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"task": "dream"}, UsageError, "is none of embed_cells"),
        ({"command": "python"}, UsageError, "list of texts"),
        ({"command": []}, UsageError, "needs a command or a program"),
        ({"command": ["no-such-program-anywhere"]}, MissingExtraError, "there is no program no-such-program"),
        ({"program": "no/such/file.py"}, UnreadableInputError, "is not there"),
        ({"timeout_seconds": 0.0}, UsageError, "have to be positive"),
        ({"protocol": "zero_shot"}, UsageError, "does not fit to pretraining"),
        ({"pretraining": [], "protocol": "zero_shot"}, UsageError, "does not fit"),
        ({"pretraining": ["atlas"], "protocol": "self_supervised"}, UsageError, "does not fit"),
        ({"pretraining": ["unknown", "atlas"]}, UsageError, "stands alone"),
        ({"protocol": "control"}, UsageError, "does not fit"),
    ],
)
def test_options_without_a_meaning_are_refused_before_anything_runs(options, error, words):
    with pytest.raises(error, match=words):
        make_model("external", **{"task": "embed_cells", "command": [sys.executable], **options})

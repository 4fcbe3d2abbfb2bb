"""Checkpoints of a hub: a server on this machine that speaks its language, and the cache without any server."""

import functools
import hashlib
import http.server
import importlib.util
import json
import threading
from pathlib import Path

import pytest

from cytolabe.errors import IntegrityError, MissingExtraError, UnreachableSourceError, UsageError
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.checkpoint import CheckpointCard, from_pretrained, save_pretrained
from cytolabe.models.geneformer.dictionaries import Dictionaries
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import GeneformerShape
from cytolabe.models.hub import checkpoint_folder, weight_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = f"hf:lab/geneformer@{COMMIT}"
needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None, reason="the extra [models] is not installed"
)


class Hub(http.server.BaseHTTPRequestHandler):
    """One repository at one commit."""

    def __init__(self, *words, folder, asked, **options):
        self.folder, self.asked = folder, asked
        super().__init__(*words, **options)

    def log_message(self, *words):
        """Say nothing."""

    def files(self):
        return {str(path.relative_to(self.folder)): path for path in self.folder.rglob("*") if path.is_file()}

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        path = self.path.split("?")[0]
        self.asked.append(path)
        files = self.files()
        if path == f"/api/models/lab/geneformer/revision/{COMMIT}":
            body = json.dumps({"id": "lab/geneformer", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}).encode()  # fmt: skip
            return self.send(body, {}, with_body=with_body)
        if path.startswith(f"/api/models/lab/geneformer/tree/{COMMIT}"):
            body = json.dumps([{"type": "file", "path": name, "size": one.stat().st_size, "oid": hashlib.sha1(one.read_bytes(), usedforsecurity=False).hexdigest()} for name, one in files.items()]).encode()  # fmt: skip
            return self.send(body, {}, with_body=with_body)
        name = path.removeprefix(f"/lab/geneformer/resolve/{COMMIT}/")
        if name in files:
            body = files[name].read_bytes()
            tag = hashlib.sha256(body).hexdigest()
            return self.send(body, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, with_body=with_body)
        self.send_response(404)
        self.send_header("X-Error-Code", "RevisionNotFound" if "/api/" in path else "EntryNotFound")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def send(self, body, headers, *, with_body):
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body)), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return the folder of the repository, and what was asked of the server."""
    constants = import_extra("huggingface_hub.constants")
    folder, asked = tmp_path / "repository", []
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, folder=folder, asked=asked))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield folder, asked
    server.shutdown()
    server.server_close()


@needs_hub
def test_a_commit_is_fetched_once_without_code_and_opened_again_without_a_server(hub):
    folder, asked = hub
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    (folder / "modeling.py").write_text("boom")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    found = checkpoint_folder(NAME, expected="sha256:0")
    assert sorted(path.name for path in found.iterdir()) == ["config.json", "model.safetensors"]
    assert weight_files(NAME) == [found / "model.safetensors"]
    assert not any(path.endswith((".py", ".bin")) for path in asked)
    n_asked = len(asked)
    assert weight_files(NAME)[0].read_bytes() == b"weights"
    assert len(asked) == n_asked


@needs_hub
def test_what_the_cache_holds_opens_where_no_server_answers(tmp_path, monkeypatch):
    constants = import_extra("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert weight_files(NAME) == []
    with pytest.raises(UnreachableSourceError, match=r"not in the cache.*give its path"):
        checkpoint_folder(NAME, expected="sha256:0")
    place = tmp_path / "models--lab--geneformer" / "snapshots" / COMMIT / "v2"
    place.mkdir(parents=True)
    (place / "model.safetensors").write_bytes(b"weights")
    assert weight_files(f"{NAME}/v2") == [place / "model.safetensors"]
    assert checkpoint_folder(f"{NAME}/v2", expected="sha256:0") == place
    with pytest.raises(UsageError, match="no folder 'v3'"):
        checkpoint_folder(f"{NAME}/v3", expected="sha256:0")


@needs_hub
def test_a_commit_that_the_hub_does_not_have_is_told(hub):
    other = NAME.replace("0123", "3210")
    with pytest.raises(UnreachableSourceError, match=rf"{other} cannot be fetched"):
        checkpoint_folder(other, expected="sha256:0")


@pytest.mark.parametrize("name", ["hf:lab/geneformer", "hf:lab/geneformer@main", f"hf:geneformer@{COMMIT}", f"{NAME}/../x", f"{NAME}/"])  # fmt: skip
def test_a_name_that_may_stand_for_other_bytes_tomorrow_is_refused(name):
    with pytest.raises(UsageError, match="40 digits of a commit"):
        checkpoint_folder(name, expected="sha256:0")


def test_a_hub_id_needs_a_digest_and_a_folder_does_not():
    with pytest.raises(UsageError, match="say the digest"):
        checkpoint_folder(NAME)
    assert checkpoint_folder("some/folder") == Path("some/folder")


def test_without_the_library_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("cytolabe.models.hub.is_installed", lambda _: False)
    with pytest.raises(MissingExtraError, match=r"cytolabe\[models\].*give its path"):
        checkpoint_folder(NAME, expected="sha256:0")


@needs_hub
@pytest.mark.models
def test_weights_of_the_hub_are_opened_only_with_the_digest_that_was_said(hub):
    pytest.importorskip("torch", reason="the extra [models] is not installed")
    genes = [f"ENSG{number:011d}" for number in range(20)]
    names = ["<pad>", "<mask>", "<cls>", "<eos>", *genes]
    known = Dictionaries(
        tokens={name: number for number, name in enumerate(names)}, medians=dict.fromkeys(genes, 1.0), digests={}
    )
    shape = GeneformerShape(n_tokens=24, n_layers=1, width=8, n_heads=1, feed_forward=8, n_positions=16)
    card = save_pretrained(
        hub[0], blank_network(shape, seed=0), shape=shape, dictionaries=known,
        about=CheckpointCard(weights="", dictionaries={}),
    )  # fmt: skip
    opened = from_pretrained(NAME, expected=card.weights)
    assert (opened.card, opened.notes) == (card, ())
    with pytest.raises(IntegrityError, match="expected was sha256:00"):
        from_pretrained(NAME, expected="sha256:00")

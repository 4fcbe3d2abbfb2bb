"""Old files become plain ones with the same numbers, and whatever wants to be run is named and not run."""

import collections
import functools
import hashlib
import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cytolabe.errors import ConflictError, HostileInputError, IntegrityError, UnreadableInputError, UsageError
from cytolabe.flow.convert import convert_file, convert_folder
from cytolabe.ingest.inspection import child_environment
from cytolabe.models.extras import import_extra
from cytolabe.models.geneformer.checkpoint import from_pretrained
from cytolabe.models.geneformer.dictionaries import read_dictionaries
from cytolabe.models.geneformer.network import blank_network
from cytolabe.models.geneformer.shapes import GeneformerShape

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "models"
FILES = ("geneformer_token_dictionary.pkl", "geneformer_gene_median_dictionary.pkl")
SHAPE = GeneformerShape(n_tokens=44, n_layers=2, width=16, n_heads=2, feed_forward=32, n_positions=24)


@pytest.fixture
def torch():
    if not all(importlib.util.find_spec(module) for module in ("torch", "transformers", "safetensors")):
        pytest.skip("the extra [models] is not installed")
    return import_extra("torch")


@pytest.fixture
def old_folder(torch, tmp_path):
    """Return the folder of a checkpoint as the first generation was published, with what belongs to its trainer."""
    folder = tmp_path / "old"
    folder.mkdir()
    weights = dict(blank_network(SHAPE, seed=7).state_dict())
    weights["bert.embeddings.position_ids"] = torch.arange(24)[None]
    torch.save(collections.OrderedDict(weights), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(SHAPE.config))
    genes = [f"ENSG{number:011d}" for number in range(42)]
    tokens = {name: np.int16(number) for number, name in enumerate(["<pad>", "<mask>", *genes])}
    (folder / "token_dictionary.pkl").write_bytes(pickle.dumps(tokens))
    (folder / "gene_median_dictionary.pkl").write_bytes(pickle.dumps({gene: np.float64(1.7) for gene in genes}))
    (folder / "training_args.bin").write_bytes(pickle.dumps({"learning_rate": 1}))
    return folder


def digest(path):
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


class Hostile:
    """Asks to run a command wherever it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def archive(path, value, *, storages=None, compressed=False):
    """Write an archive as torch does, with any pickle in it."""
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("archive/data.pkl", value)
        for name, content in (storages or {}).items():
            file.writestr(f"archive/data/{name}", content)
    return path


def claimed(shape, strides, *, offset=0):
    """Return the pickle of one float32 tensor that claims a shape of storage 0."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, found):
            return ("storage", _FloatStorage, "0", "cpu", 4) if found is _STORAGE else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"w": _Claim(shape, strides, offset)})
    content = buffer.getvalue()
    names = {b"ctorch\nFloatStorage\n": _FloatStorage, b"ctorch._utils\n_rebuild_tensor_v2\n": _rebuild}
    for name, stands in names.items():
        content = content.replace(f"c{__name__}\n{stands.__name__}\n".encode(), name)
    return content


class _FloatStorage:
    pass


def _rebuild(*_):
    return None


_STORAGE = object()


class _Claim:
    def __init__(self, shape, strides, offset):
        self.arguments = (_STORAGE, offset, shape, strides, False, None)

    def __reduce__(self):
        return _rebuild, self.arguments


@pytest.mark.models
def test_a_published_folder_becomes_one_that_opens_with_both_digests_on_its_card(old_folder, torch, tmp_path):
    out = tmp_path / "new"
    document = convert_folder(old_folder, out, corpus=("genecorpus-30m",))
    opened = from_pretrained(out)
    original = blank_network(SHAPE, seed=7).state_dict()
    assert all(torch.equal(weight, original[name]) for name, weight in opened.network.state_dict().items())
    assert (opened.notes, opened.card.pretraining) == ((), ("genecorpus-30m",))
    assert opened.keys.ignored == ("bert.embeddings.position_ids",)
    of = {one["source"]: one for one in opened.card.converted}
    assert set(of) == {"pytorch_model.bin", "token_dictionary.pkl", "gene_median_dictionary.pkl"}
    for name, one in of.items():
        assert one["source_sha256"] == digest(old_folder / name)
        assert one["result_sha256"] == digest(out / one["result"])
    assert document["left_behind"] == ["training_args.bin"]
    assert sorted(path.name for path in out.iterdir()) == [
        "card.json", "config.json", "gene_median_dictionary.json", "model.safetensors", "token_dictionary.json",
    ]  # fmt: skip
    (out / "token_dictionary.json").write_bytes(
        (out / "token_dictionary.json").read_bytes().replace(b"00041", b"00051")
    )
    with pytest.raises(IntegrityError):
        from_pretrained(out)


@pytest.mark.models
def test_tensors_keep_their_bits_whatever_their_kind_strides_and_sharing(torch, tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "float64": base.double() / 3, "half": base.half(), "brain": base.bfloat16(), "long": base.long(), "flag": base > 3,
        "turned": base.T, "part": base[1:3, ::2], "shared": base, "scalar": torch.tensor(2.5), "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base * 2), "byte": base.to(torch.uint8),
    }  # fmt: skip
    torch.save(tensors, tmp_path / "a.pt")
    told = convert_file(tmp_path / "a.pt", tmp_path / "a.safetensors")
    found = import_extra("safetensors.torch").load((tmp_path / "a.safetensors").read_bytes())
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())
    assert told["result_sha256"] == digest(tmp_path / "a.safetensors")


@pytest.mark.skipif(not (REAL / FILES[0]).exists(), reason="the published dictionaries are not here")
def test_the_published_dictionaries_mean_the_same_after_conversion(tmp_path):
    new = [tmp_path / f"{Path(name).stem}.json" for name in FILES]
    for name, path in zip(FILES, new, strict=True):
        convert_file(REAL / name, path)
    before, after = read_dictionaries(*(REAL / name for name in FILES)), read_dictionaries(*new)
    assert (before.tokens, before.medians) == (after.tokens, after.medians)
    assert len(after.tokens) == 25_426


@pytest.mark.parametrize("kind", ["dictionary", "weights", "hidden in a dictionary"])
def test_a_file_that_would_run_a_command_is_refused_by_its_name_and_runs_nothing(tmp_path, kind):
    mark = tmp_path / "was_run"
    payload = pickle.dumps(
        {"ENSG00000000001": 1, "x": Hostile(mark)} if kind.startswith("hidden") else Hostile(mark), protocol=2
    )
    assert pickle.loads(payload) is not None  # noqa: S301, TID251 - shows that the payload does what it says
    ran = mark.exists() or any(tmp_path.iterdir())
    for path in tmp_path.iterdir():
        path.unlink()
    assert ran
    source = tmp_path / "model.pkl"
    if kind == "weights":
        source = archive(tmp_path / "model.bin", payload)
    else:
        source.write_bytes(payload)
    with pytest.raises(HostileInputError, match=r"would call (posix|nt)\.system"):
        convert_file(source, tmp_path / "out.json")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize(
    "value",
    [functools.partial(len), {"a": collections.Counter()}, {"a": np.array([1, 2])}, {"a": np.random.default_rng(0)}],
)
def test_names_outside_the_list_are_refused_however_harmless_they_look(tmp_path, value):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(HostileInputError, match="would call"):
        convert_file(tmp_path / "a.pkl", tmp_path / "a.json")


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "error"),
    [
        ((2, 2), (2, 1), 0, None),
        ((5,), (1,), 0, HostileInputError),
        ((2, 2), (2, 1), 1, HostileInputError),
        ((2,), (1_000_000,), 0, HostileInputError),
        ((1 << 40,), (0,), 0, HostileInputError),
        ((2,), (-1,), 0, UnreadableInputError),
    ],
)
def test_a_tensor_that_claims_more_than_its_storage_is_refused(tmp_path, shape, strides, offset, error):
    source = archive(
        tmp_path / "a.bin", claimed(shape, strides, offset=offset), storages={"0": np.arange(4, dtype="<f4").tobytes()}
    )
    if error is None:
        convert_file(source, tmp_path / "a.safetensors")
        assert (tmp_path / "a.safetensors").read_bytes()[-16:] == np.arange(4, dtype="<f4").tobytes()
    else:
        with pytest.raises(error):
            convert_file(source, tmp_path / "a.safetensors")
        assert not (tmp_path / "a.safetensors").exists()


def test_other_files_half_files_and_taken_names_are_told_apart(tmp_path):
    bare = tmp_path / "bare.bin"
    bare.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UnreadableInputError, match="no zip archive of torch"):
        convert_file(bare, tmp_path / "x.safetensors")
    packed = archive(tmp_path / "packed.bin", claimed((4,), (1,)), compressed=True)
    with pytest.raises(UnreadableInputError, match="compressed"):
        convert_file(packed, tmp_path / "x.safetensors")
    lost = archive(tmp_path / "lost.bin", claimed((4,), (1,)), storages={"9": b"x" * 64})
    with pytest.raises(UnreadableInputError, match="not in the archive"):
        convert_file(lost, tmp_path / "x.safetensors")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UnreadableInputError, match="no table"):
        convert_file(tmp_path / "list.pkl", tmp_path / "x.json")
    (tmp_path / "good.pkl").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "taken.json").write_text("{}")
    with pytest.raises(ConflictError):
        convert_file(tmp_path / "good.pkl", tmp_path / "taken.json")
    with pytest.raises(UsageError, match="suffix"):
        convert_file(tmp_path / "taken.json", tmp_path / "y.json")
    with pytest.raises(UsageError, match=r"config\.json is missing"):
        convert_folder(tmp_path, tmp_path / "new")


@pytest.mark.models
def test_a_folder_with_two_dictionaries_of_one_kind_is_not_guessed_at(old_folder, tmp_path):
    (old_folder / "token_dictionary_gc104M.pkl").write_bytes((old_folder / "token_dictionary.pkl").read_bytes())
    with pytest.raises(UsageError, match="2 files token_dictionary"):
        convert_folder(old_folder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.socket()",
        "open('/etc/hostname')",
        "import subprocess; subprocess.run(['true'])",
        "x = bytearray(3 << 30)",
    ],
)
def test_the_process_that_reads_can_open_and_start_nothing_and_is_bounded(attempt):
    code = (
        "import socket, subprocess\n"
        "from cytolabe.ingest.child_limits import limit_process, open_nothing_more\n"
        "limit_process({'memory': 2 << 30, 'seconds': 20})\nopen_nothing_more()\n"
        f"try:\n    exec({attempt!r})\nexcept (OSError, MemoryError):\n    print('stopped')\n"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env=child_environment(), check=False)  # noqa: S603
    assert done.stdout == "stopped\n", done.stderr

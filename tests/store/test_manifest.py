import json

import pytest

from cytolabe.errors import ConflictError, IntegrityError
from cytolabe.store import manifest
from cytolabe.store.documents import read_sealed, sealed_bytes
from cytolabe.store.manifest import Change, first_revision, head_revision, publish_change, read_revision, read_revisions


@pytest.fixture
def log(tmp_path):
    first_revision(tmp_path / "revisions")
    return tmp_path / "revisions"


def test_a_change_is_the_next_revision_and_names_its_parent(log):
    base = head_revision(log)
    one = publish_change(log, Change(datasets={"a": "sha256:1"}), base=base, author="Ada", message="first")
    two = publish_change(log, Change(datasets={"b": "sha256:2"}), base=one)
    assert (one.number, two.number) == (1, 2)
    assert two.parent == one.seal
    assert two.datasets == {"a": "sha256:1", "b": "sha256:2"}
    assert two.changes == {"datasets/b": "added"}
    assert (one.author, one.message) == ("Ada", "first")
    assert [revision.number for revision in read_revisions(log)] == [0, 1, 2]


def test_changes_to_different_targets_rebase_by_themselves(log):
    base = head_revision(log)
    publish_change(log, Change(datasets={"a": "sha256:1"}), base=base)
    head = publish_change(log, Change(datasets={"b": "sha256:2"}), base=base)
    assert head.datasets == {"a": "sha256:1", "b": "sha256:2"}


def test_a_second_change_to_the_same_target_is_a_conflict(log):
    base = head_revision(log)
    publish_change(log, Change(datasets={"a": "sha256:1"}), base=base)
    with pytest.raises(ConflictError, match="datasets/a was changed by revision 1"):
        publish_change(log, Change(datasets={"a": "sha256:2"}), base=base)
    assert head_revision(log).datasets == {"a": "sha256:1"}
    again = publish_change(log, Change(datasets={"a": "sha256:1"}), base=base)
    assert again.datasets == {"a": "sha256:1"}, "who wanted the same has lost nothing"


def test_a_writer_that_is_overtaken_while_publishing_tries_again(log, monkeypatch):
    base = head_revision(log)
    create, overtaken = manifest.create_new, []

    def create_after_somebody_else(path, content):
        if not overtaken:
            overtaken.append(path)
            monkeypatch.setattr(manifest, "create_new", create)
            publish_change(log, Change(datasets={"a": "sha256:1"}), base=base)
        create(path, content)

    monkeypatch.setattr(manifest, "create_new", create_after_somebody_else)
    head = publish_change(log, Change(datasets={"b": "sha256:2"}), base=base)
    assert head.number == 2
    assert sorted(head.datasets) == ["a", "b"]


@pytest.mark.parametrize("edit", ["value", "space", "byte", "empty"])
def test_an_edited_revision_is_not_read(log, edit):
    publish_change(log, Change(datasets={"a": "sha256:1"}), base=head_revision(log))
    path = log / "1.json"
    document = json.loads(path.read_bytes())
    changed = {
        "value": json.dumps({**document, "author": "somebody else"}).encode(),
        "space": path.read_bytes() + b"\n",
        "byte": path.read_bytes().replace(b"sha256:1", b"sha256:7"),
        "empty": b"",
    }
    path.write_bytes(changed[edit])
    with pytest.raises(IntegrityError, match=r"1\.json"):
        head_revision(log)


def test_a_revision_under_another_number_is_not_read(log):
    publish_change(log, Change(datasets={"a": "sha256:1"}), base=head_revision(log))
    (log / "2.json").write_bytes((log / "1.json").read_bytes())
    with pytest.raises(IntegrityError, match="exchanged"):
        read_revision(log, 2)


def test_a_log_without_revisions_is_lost(tmp_path):
    with pytest.raises(IntegrityError, match="lost"):
        head_revision(tmp_path)


def test_creating_a_log_twice_keeps_it(log):
    publish_change(log, Change(datasets={"a": "sha256:1"}), base=head_revision(log))
    assert first_revision(log).number == 1


def test_a_sealed_document_comes_back_with_its_seal(tmp_path):
    path = tmp_path / "document.json"
    path.write_bytes(sealed_bytes({"b": [1, 2], "a": "ä"}))
    assert read_sealed(path) == {"a": "ä", "b": [1, 2], "seal": read_sealed(path)["seal"]}
    with pytest.raises(IntegrityError, match="missing"):
        read_sealed(tmp_path / "absent.json")

"""The commands take the URL of an atlas where they take its directory."""

import pytest

from cytolabe import files


@pytest.fixture
def url(bucket, ingested):
    """URL of a copy of the atlas of three labs."""
    place = files.place_of(f"{bucket}/atlas")
    for name in files.list_files(ingested):
        files.create_new(place / name, (ingested / name).read_bytes())
    return str(place)


def test_a_file_is_ingested_and_frozen_at_a_url_with_the_id_of_a_disk(call, labs, bucket, tmp_path):
    documents = []
    for atlas in (f"{bucket}/atlas", tmp_path / "atlas"):
        assert call("ingest", atlas, labs / "elm.h5ad").code == 0
        assert call("reconcile", atlas).code == 0
        documents.append(call("snapshot", atlas, "--tag", "v1", "--json").document)
        assert call("verify", atlas).code == 0
    assert documents[0] == documents[1]
    query = call("snapshot", "query", f"{bucket}/atlas", "SELECT count(*) AS n FROM cells", "--json")
    assert query.document["rows"] == [[170]]
    assert call("validate", f"{bucket}/atlas", "--json").document["sources"][0]["source"] == "elm"


def test_damage_and_conflicts_have_their_exit_codes(call, url, ingested, labs, tmp_path):
    assert call("snapshot", url, "--tag", "v1").code == 0
    assert call("reconcile", url).code == 0
    assert call("snapshot", url, "--tag", "v1").code == 5
    root = files.place_of(url)
    shard = next(name for name in files.list_files(root) if "X/data/c/" in name)
    files.remove(root / shard)
    called = call("verify", url, "--json")
    assert called.code == 4
    assert called.document["findings"][0]["code"] == "E-INTEGRITY-01"


@pytest.mark.parametrize(
    ("atlas", "code", "word"),
    [
        ("s3://no-bucket-here/atlas", 2, "there is no bucket"),
        ("s3://key:secret@bucket/atlas", 2, "must not carry keys"),
        ("https://bucket/atlas", 2, "is no place for an atlas"),
    ],
)
def test_wrong_urls_are_usage(call, bucket, labs, atlas, code, word):
    called = call("ingest", atlas, labs / "elm.h5ad", "--json")
    assert (called.code, called.document["error"]["type"]) == (code, "UsageError")
    assert word in called.document["error"]["message"]
    assert "secret" not in called.out + called.err


def test_a_store_that_does_not_answer_is_told_with_its_url(call, bucket, monkeypatch):
    monkeypatch.setattr(files.objects, "RETRY", {"max_retries": 0})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    called = call("snapshot", f"{bucket}/atlas", "--json")
    assert called.code == 3
    assert f"{bucket}/atlas/cytolabe.json: the object store did not do it" in called.document["error"]["message"]

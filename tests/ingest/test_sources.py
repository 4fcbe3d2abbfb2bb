import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.errors import UsageError
from cytolabe.ingest.sources import find_sources, slug_of


def codes(findings):
    return [finding.code for finding in findings]


@given(st.text(min_size=0, max_size=200))
def test_an_id_is_never_a_path_nor_a_surprise(stem):
    slug = slug_of(stem)
    assert 1 <= len(slug) <= 64
    assert set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert slug[0] not in "-_"
    assert slug == slug_of(stem)


@pytest.mark.parametrize("stem", ["../../x", "a\x00b", "CON", "-rf", "\u202egnp", "x" * 300, "", "\U0001f9ec"])
def test_a_hostile_name_gets_a_hash(stem):
    assert len(slug_of(stem).rsplit("-", 1)[1]) == 8


def test_usual_names_stay_readable():
    assert slug_of("Kang18_muscat") == "kang18_muscat"
    assert slug_of("my file (2)") == "my_file_2"


def test_the_order_of_arguments_changes_nothing(tmp_path):
    for name in ("b.h5ad", "a.h5ad", "c.h5ad"):
        (tmp_path / name).write_bytes(b"x")
    paths = [tmp_path / name for name in ("c.h5ad", "a.h5ad", "b.h5ad")]
    one, _ = find_sources(paths)
    other, _ = find_sources([tmp_path, *reversed(paths)])
    assert [source.dataset_id for source in one] == ["a", "b", "c"]
    assert one == other


def test_what_is_not_read_is_named(tmp_path):
    (tmp_path / "a.h5ad").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "inner").mkdir()
    sources, findings = find_sources([tmp_path])
    assert len(sources) == 1
    assert codes(findings) == ["N-SOURCE-03"]
    assert findings[0].examples == ("inner", "notes.txt")


def test_a_declared_file_that_is_not_there_is_an_error(tmp_path):
    (tmp_path / "a.h5ad").write_bytes(b"x")
    (tmp_path / "manifest.toml").write_text('title = "T"\n[[dataset]]\nfile = "gone.h5ad"\n')
    for argument in (tmp_path, tmp_path / "manifest.toml"):
        _, findings = find_sources([argument])
        assert "E-SOURCE-04" in codes(findings)


def test_a_manifest_by_itself_stands_for_the_files_it_names(tmp_path):
    for name in ("a.h5ad", "b.h5ad"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "manifest.toml").write_text('tissue = "blood"\n[[dataset]]\nfile = "b.h5ad"\nid = "bee"\n')
    (source,), findings = find_sources([tmp_path / "manifest.toml"])
    assert (source.dataset_id, source.path.name, source.manifest.tissue) == ("bee", "b.h5ad", "blood")
    assert not findings


def test_two_files_of_one_id_are_both_held_back(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pbmc.h5ad").write_bytes(b"x")
    (tmp_path / "one" / "other.h5ad").write_bytes(b"x")
    sources, findings = find_sources([tmp_path / "one", tmp_path / "two"])
    assert [source.dataset_id for source in sources] == ["other"]
    assert codes(findings) == ["E-SOURCE-06"]
    assert "--id" in findings[0].remedy


def test_a_bad_id_of_the_manifest_is_not_repaired_in_silence(tmp_path):
    (tmp_path / "a.h5ad").write_bytes(b"x")
    (tmp_path / "manifest.toml").write_text('[[dataset]]\nfile = "a.h5ad"\nid = "../x"\n')
    sources, findings = find_sources([tmp_path])
    assert not sources
    assert codes(findings) == ["E-SOURCE-05"]


def test_a_file_whose_name_is_no_text_is_refused_and_keeps_no_other_one_out(tmp_path):
    name = b"caf\xe9.h5ad"
    (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    (tmp_path / os.fsdecode(b"not\xe9.txt")).write_bytes(b"x")
    (tmp_path / "good.h5ad").write_bytes(b"x")
    (source,), findings = find_sources([tmp_path])
    assert source.dataset_id == "good"
    assert codes(findings) == ["E-SOURCE-08", "N-SOURCE-03"]
    assert findings[0].where == "caf\\xe9.h5ad"
    assert findings[1].examples == ("not\\xe9.txt",)


def test_missing_paths_and_empty_folders_are_errors(tmp_path):
    (tmp_path / "empty").mkdir()
    _, findings = find_sources([Path(tmp_path / "nothing.h5ad"), tmp_path / "empty"])
    assert codes(findings) == ["E-SOURCE-01", "E-SOURCE-02"]


@pytest.mark.parametrize("name", ["../secret.h5ad", "/etc/secret.h5ad", "sub/x.h5ad"])
def test_a_manifest_names_no_file_outside_of_its_folder(tmp_path, name):
    folder = tmp_path / "contribution"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path / "secret.h5ad", folder / "sub" / "x.h5ad"):
        place.write_bytes(b"x")
    (folder / "manifest.toml").write_text(f'[[dataset]]\nfile = "{name}"\n')
    sources, findings = find_sources([folder / "manifest.toml"])
    assert sources == ()
    assert codes(findings) == ["E-SOURCE-04"]


def test_a_manifest_that_cannot_be_opened_is_a_wrong_call(tmp_path):
    (tmp_path / "a.h5ad").write_bytes(b"x")
    (tmp_path / "manifest.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be opened"):
        find_sources([tmp_path])


def test_a_folder_stands_for_sources_of_every_format(tmp_path):
    for name in ("a.h5ad", "b.h5", "c.loom", "d.h5mu", "e.zarr.zip", "g.tar.gz"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "f.zarr").mkdir()
    (tmp_path / "f.zarr" / "zarr.json").write_text("{}")
    for part in ("matrix.mtx", "barcodes.tsv", "features.tsv"):
        (tmp_path / f"GSM1_{part}.gz").write_bytes(b"x")
    (tmp_path / "h").mkdir()
    for part in ("matrix.mtx", "barcodes.tsv", "genes.tsv"):
        (tmp_path / "h" / part).write_bytes(b"x")
    (tmp_path / "h" / "manifest.toml").write_text('tissue = "blood"\n')
    sources, findings = find_sources([tmp_path])
    assert [source.dataset_id for source in sources] == ["a", "b", "c", "d", "e", "f", "g", "gsm1", "h"]
    assert sources[-1].manifest.tissue == "blood"
    assert findings == ()
    assert [source.path.name for source in find_sources([tmp_path / "h"])[0]] == ["h"]


def test_a_folder_of_10x_beside_other_sources_hides_none_of_them(tmp_path):
    for name in ("matrix.mtx", "barcodes.tsv", "features.tsv", "more.h5ad"):
        (tmp_path / name).write_bytes(b"x")
    sources, _ = find_sources([tmp_path])
    assert [source.path.name for source in sources] == ["more.h5ad", "matrix.mtx"]


def test_a_manifest_speaks_of_folders_that_are_sources(tmp_path):
    (tmp_path / "f.zarr").mkdir()
    (tmp_path / "f.zarr" / "zarr.json").write_text("{}")
    (tmp_path / "manifest.toml").write_text('[[dataset]]\nfile = "f.zarr"\nid = "eff"\n')
    (source,), findings = find_sources([tmp_path / "manifest.toml"])
    assert (source.dataset_id, findings) == ("eff", ())

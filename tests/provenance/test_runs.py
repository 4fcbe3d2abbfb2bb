"""What ran is named by its sources, and sources that changed under a running process are told."""

from cytolabe.provenance import runs


def test_a_source_that_was_written_or_removed_since_the_start_is_found(tmp_path, monkeypatch):
    assert not runs.code_changed_since_start()
    source = tmp_path / "model.py"
    monkeypatch.setattr(runs, "_source_paths", lambda: (str(source),))
    assert runs.code_changed_since_start()
    source.write_text("factor = 0")
    assert runs.code_changed_since_start()

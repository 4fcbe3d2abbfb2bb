"""What a contributor says is taken as it is said, and what nobody knows is an error with a suggestion."""

import pytest

from cytolabe.config import Manifest, read_manifests
from cytolabe.errors import UsageError


def test_a_folder_without_a_manifest_says_nothing(tmp_path):
    assert read_manifests(tmp_path) == {"": Manifest()}


def test_a_file_table_goes_on_top_of_what_holds_for_the_folder(tmp_path):
    (tmp_path / "manifest.toml").write_text(
        'assay = "10x 3\' v3"\ndate = 2021-03-04\n[[dataset]]\nfile = "a.h5ad"\nlabel = "ct"\nassay = "10x 3\' v2"\n'
    )
    manifests = read_manifests(tmp_path)
    assert manifests[""].assay == "10x 3' v3"
    assert manifests["a.h5ad"] == Manifest(assay="10x 3' v2", label="ct", date="2021-03-04")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('doner = "x"', "Did you mean 'donor'", id="a typo is answered with the nearest key"),
        pytest.param('[[dataset]]\nlabel = "x"', "has no file", id="a table that belongs to no file"),
        pytest.param('[[dataset]]\nfile = "a"\n[[dataset]]\nfile = "a"', "two", id="two tables for one file"),
        pytest.param("donor = 3", "must be a string", id="a number where a column name belongs"),
        pytest.param('label_origin = "guess"', "is none of", id="an origin that rule R7 does not know"),
        pytest.param('unlabelled = "x"', "list of strings", id="a word where a list belongs"),
        pytest.param("a = [", "not readable as TOML", id="no TOML at all"),
    ],
)
def test_a_wrong_manifest_is_refused_with_its_cause(tmp_path, text, message):
    (tmp_path / "manifest.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_manifests(tmp_path)

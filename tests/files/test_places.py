"""A place is named by a text, and speaks like a path wherever it lies."""

import copy
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolabe.errors import UsageError
from cytolabe.files import ObjectPath, place_of

parts = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="-_.="), min_size=1).filter(
    lambda part: part not in {".", ".."}
)


@given(keys=st.lists(parts, min_size=1, max_size=4))
def test_an_object_speaks_like_a_path(keys):
    place = place_of("s3://bucket/" + "/".join(keys))
    path = PurePosixPath("/bucket", *keys)
    assert (place.name, place.stem, place.suffix) == (path.name, path.stem, path.suffix)
    assert str(place.parent) == "s3:/" + str(path.parent)
    assert place / "a" / "b" == place / "a/b"
    assert (place / "a").relative_to(place.parent) == PurePosixPath(place.name, "a")
    assert place_of(str(place)) == place
    assert copy.deepcopy(place) == place


def test_texts_and_what_they_name(tmp_path):
    assert place_of("atlas/") == Path("atlas")
    assert place_of(tmp_path) is tmp_path
    assert place_of("gs://bucket") == ObjectPath("gs://bucket")
    assert place_of("s3://bucket//a///b/") == ObjectPath("s3://bucket", "a/b")
    assert place_of(ObjectPath("s3://bucket", "a")) == ObjectPath("s3://bucket", "a")
    root = ObjectPath("s3://bucket")
    assert (root.name, str(root), root.parent) == ("bucket", "s3://bucket", root)
    with pytest.raises(ValueError, match="not below"):
        ObjectPath("s3://bucket", "ab").relative_to(ObjectPath("s3://bucket", "a"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://bucket/x", "no place for an atlas"),
        ("s3://", "no place in a bucket"),
        ("s3:///x", "no place in a bucket"),
        ("s3://bucket/a/../b", "no place in a bucket"),
        ("s3://bucket/a\x00b", "no place in a bucket"),
        (Path("s3://bucket/a"), "takes away a slash"),
    ],
)
def test_other_texts_are_refused(text, reason):
    with pytest.raises(UsageError, match=reason):
        place_of(text)


def test_keys_in_a_url_are_refused_and_not_repeated():
    with pytest.raises(UsageError, match="must not carry keys") as caught:
        place_of("s3://AKIA:secret@bucket/x")
    assert "secret" not in str(caught.value)

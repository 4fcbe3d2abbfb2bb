"""A download ends with the very bytes of the server, or says why not, whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytolabe.errors import IntegrityError, UnreachableSourceError, UsageError
from cytolabe.files import sha256_of_file
from cytolabe.ingest.downloads import download
from cytolabe.ingest.web import WebClient
from cytolabe.randomness import rng_for

PATH = "/file.h5ad"
CONTENT = rng_for(7, "download").bytes(3_000_000)


class Waits(list):
    """Takes the place of `time.sleep` and remembers what it was asked for."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def waits():
    return Waits()


@pytest.fixture
def client(waits):
    return WebClient(timeout_seconds=5.0, wait=waits)


@pytest.fixture
def site(web):
    web.files[PATH] = CONTENT
    return web


def fetch(site, folder, client, **options):
    return download(site.address + PATH, folder / "file.h5ad", client=client, **options)


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"file.h5ad", "file.h5ad.json", "file.h5ad.lock"}


def test_the_bytes_and_their_digest_are_those_of_the_server(site, tmp_path, client):
    done = fetch(site, tmp_path, client, n_bytes=len(CONTENT))
    assert done.path.read_bytes() == CONTENT
    assert done.sha256 == sha256_of_file(done.path)
    assert json.loads((tmp_path / "file.h5ad.json").read_text())["sha256"] == done.sha256
    assert leftovers(tmp_path) == set()


def test_a_file_that_is_there_is_not_asked_for_again(site, tmp_path, client):
    first = fetch(site, tmp_path, client)
    assert fetch(site, tmp_path, client) == first
    assert len(site.requests) == 1


def test_a_damaged_copy_is_fetched_anew(site, tmp_path, client):
    fetch(site, tmp_path, client)
    (tmp_path / "file.h5ad").write_bytes(CONTENT[:-1] + b"x")
    assert fetch(site, tmp_path, client).path.read_bytes() == CONTENT


def test_a_broken_transfer_continues_where_it_stopped(site, tmp_path, client, waits):
    site.faults[PATH] = ["truncated:1200000", "truncated:1000000"]
    assert fetch(site, tmp_path, client).path.read_bytes() == CONTENT
    assert site.ranges_of(PATH) == ["", "bytes=1200000-", "bytes=2200000-"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.lists(
        st.one_of(
            st.integers(0, 2_999_999).map("truncated:{}".format),
            st.sampled_from(["unavailable", "busy:3", "no_ranges", "wrong_range", "weak"]),
        ),
        max_size=4,
    )
)
def test_whatever_happens_on_the_way_the_bytes_are_right(faults, site, tmp_path_factory):
    site.faults[PATH] = list(faults)
    folder = tmp_path_factory.mktemp("download")
    assert fetch(site, folder, WebClient(wait=Waits())).path.read_bytes() == CONTENT
    assert leftovers(folder) == set()


def test_two_versions_are_never_glued_together(site, tmp_path, client):
    site.faults[PATH] = ["truncated:1500000", "changed"]
    assert fetch(site, tmp_path, client).path.read_bytes() == bytes(reversed(CONTENT))


def test_a_part_without_a_strong_validator_is_not_continued(site, tmp_path, client):
    part = tmp_path / "file.h5ad.part"
    part.write_bytes(CONTENT[:100])
    (tmp_path / "file.h5ad.part.json").write_text(
        json.dumps({"url": site.address + PATH, "validator": "", "n_bytes": len(CONTENT)})
    )
    fetch(site, tmp_path, client)
    assert site.ranges_of(PATH) == [""]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(site, tmp_path, client):
    site.faults[PATH] = ["truncated:10"] * 6
    with pytest.raises(UnreachableSourceError):
        fetch(site, tmp_path, client)
    with (tmp_path / "file.h5ad.part").open("ab") as stream:
        stream.write(b"x" * len(CONTENT))
    assert fetch(site, tmp_path, client).path.read_bytes() == CONTENT


def test_a_server_that_is_busy_is_given_the_time_that_it_asks_for(site, tmp_path, client, waits):
    site.faults[PATH] = ["unavailable", "unavailable", "busy:17"]
    fetch(site, tmp_path, client)
    assert waits == [1.0, 2.0, 17.0]


def test_a_server_that_asks_for_an_hour_is_not_waited_for(site, tmp_path, client, waits):
    site.faults[PATH] = ["busy:3600"]
    with pytest.raises(UnreachableSourceError, match="wait 3600 s"):
        fetch(site, tmp_path, client)
    assert waits == []


def test_tries_end(site, tmp_path, client, waits):
    site.faults[PATH] = ["unavailable"] * 50
    with pytest.raises(UnreachableSourceError, match=r"503.*Tried 6 time"):
        fetch(site, tmp_path, client)
    assert len(site.requests) == 6


@pytest.mark.parametrize(
    ("fault", "words"), [("missing", "404"), ("loop", "circle"), ("page", "web page"), ("away", "only https")]
)
def test_what_will_not_pass_is_told_at_once(fault, words, site, tmp_path, client, waits):
    site.faults[PATH] = [fault]
    with pytest.raises((UnreachableSourceError, UsageError), match=words):
        fetch(site, tmp_path, client)
    assert waits == []
    assert not (tmp_path / "file.h5ad").exists()


def test_a_size_that_the_catalog_does_not_say_is_an_integrity_error(site, tmp_path, client):
    with pytest.raises(IntegrityError, match=r"catalog says 5 bytes, the server offers 3,000,000"):
        fetch(site, tmp_path, client, n_bytes=5)
    assert not (tmp_path / "file.h5ad").exists()


def test_a_stalled_transfer_counts_as_broken_and_continues(site, tmp_path, waits):
    site.faults[PATH] = ["slow:1500000:3"]
    client = WebClient(timeout_seconds=0.3, wait=waits)
    assert fetch(site, tmp_path, client).path.read_bytes() == CONTENT
    assert site.ranges_of(PATH) == ["", "bytes=1500000-"]


def test_without_a_network_the_message_says_so_and_what_to_do(tmp_path, client):
    with pytest.raises(UnreachableSourceError, match=r"no network: .*give its path instead"):
        download("https://no-such-host.invalid/x.h5ad", tmp_path / "x.h5ad", client=client)


def test_plain_http_elsewhere_is_refused_before_anything_is_sent(tmp_path, client):
    for url in ("http://example.org/x.h5ad", "file:///etc/passwd", "ftp://example.org/x"):
        with pytest.raises(UsageError, match="only https"):
            download(url, tmp_path / "x.h5ad", client=client)


def test_a_file_larger_than_the_disk_is_refused_before_it_is_fetched(site, tmp_path, client):
    with pytest.raises(UsageError, match="are free"):
        fetch(site, tmp_path, client, n_bytes=1 << 60)
    assert site.requests == []


def test_a_download_that_was_killed_is_continued_by_the_next_one(site, tmp_path, client):
    """kill -9 in the middle of the real client, in a process of its own."""
    site.faults[PATH] = ["slow:60000:0.02"]
    program = (
        "import sys; from pathlib import Path; from cytolabe.ingest.downloads import download;"
        "download(sys.argv[1], Path(sys.argv[2]))"
    )
    target, part = tmp_path / "file.h5ad", tmp_path / "file.h5ad.part"
    process = subprocess.Popen([sys.executable, "-c", program, site.address + PATH, str(target)])  # noqa: S603 - our own program
    try:
        deadline = time.monotonic() + 40
        while not (part.is_file() and part.stat().st_size >= 1 << 20) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    n_kept = part.stat().st_size
    assert 0 < n_kept < len(CONTENT)
    assert not target.exists()
    assert fetch(site, tmp_path, client).path.read_bytes() == CONTENT
    assert site.ranges_of(PATH) == ["", f"bytes={n_kept}-"]

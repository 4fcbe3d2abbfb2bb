import gc
import os
import signal
import threading

import pytest

from cytolabe.store import handles
from cytolabe.store.handles import MOST_OPEN, OpenFiles


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.fixture
def paths(tmp_path):
    """Return more files than are kept open."""
    found = [tmp_path / str(number) for number in range(MOST_OPEN + 3)]
    for path in found:
        path.write_bytes(path.name.encode())
    return [str(path) for path in found]


def test_a_file_that_is_asked_for_again_is_still_open(paths):
    files = OpenFiles()
    first = files.opened(paths[0])
    assert files.opened(paths[0]) is first
    assert os.pread(first.number, 9, 0) == b"0"


def test_past_the_limit_the_file_asked_for_longest_ago_is_closed_unless_a_reader_holds_it(paths):
    files = OpenFiles()
    held, let_go = files.opened(paths[0]), files.opened(paths[1]).number
    kept = files.opened(paths[2]).number
    for path in paths[3:]:
        files.opened(paths[2])
        files.opened(path)
    assert not is_open(let_go) or os.pread(let_go, 9, 0) != b"1"
    assert os.pread(kept, 9, 0) == b"2"
    assert os.pread(held.number, 9, 0) == b"0"
    assert len(handles._KEPT._files) <= MOST_OPEN
    assert files.opened(paths[0]) is not held


def test_files_are_closed_with_the_reader_that_kept_them(paths):
    files, other = OpenFiles(), OpenFiles()
    number, stays = files.opened(paths[0]).number, other.opened(paths[0]).number
    del files
    gc.collect()
    assert not is_open(number)
    assert os.pread(stays, 9, 0) == b"0"


def test_a_file_that_was_restored_is_seen_by_who_opens_it_anew(paths, tmp_path):
    old = OpenFiles()
    old.opened(paths[0])
    (tmp_path / "restored").write_bytes(b"restored")
    (tmp_path / "restored").replace(paths[0])
    assert os.pread(old.opened(paths[0]).number, 9, 0) == b"0"
    assert os.pread(OpenFiles().opened(paths[0]).number, 9, 0) == b"restored"


def test_a_missing_file_is_an_error_and_leaves_nothing_open(tmp_path):
    with pytest.raises(FileNotFoundError):
        OpenFiles().opened(str(tmp_path / "none"))


def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have(paths):
    files, is_held, may_end = OpenFiles(), threading.Event(), threading.Event()

    def hold():
        with handles._KEPT._lock:
            is_held.set()
            may_end.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(30)
    child = os.fork()
    if not child:
        # A child that waits is ended by the alarm, which is no exit of 0.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)
        files.opened(paths[0])
        os._exit(0)
    may_end.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

"""Files that stay open between reads: a draw of single cells from an atlas touches every shard.

Opening and closing a file costs as much as decoding half a chunk, and holds the interpreter's lock. So arrays keep
theirs open, up to `MOST_OPEN` in the process; past that, the file that was asked for longest ago is let go. A file is
closed when the last reader that holds it is done, so none is closed under a kernel. What is open is read as it was when
it was opened: shards are written once, and one that was restored is seen by who opens the array anew.
"""

import itertools
import os
import resource
import threading
import weakref
from collections import OrderedDict

__all__ = ["AT_ONCE", "MOST_OPEN", "OpenFile", "OpenFiles"]

_ALLOWED = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
MOST_OPEN = 256 if _ALLOWED == resource.RLIM_INFINITY else max(16, min(256, _ALLOWED // 4))
"""Files that are kept open: a quarter at most of what the process may open."""
AT_ONCE = MOST_OPEN // 4
"""Files that one reader needs open at a time; several threads read."""


class OpenFile:
    """A file that is closed with its last reader. `number` is its descriptor."""

    def __init__(self, path: str) -> None:
        # A number before opening may fail: `__del__` runs all the same.
        self.number = -1
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


class OpenFiles:
    """The files that one reader keeps open; they are let go with it."""

    def __init__(self) -> None:
        self._owner = next(_OWNERS)
        weakref.finalize(self, _KEPT.forget, self._owner)

    def opened(self, path: str) -> OpenFile:
        """Return a file that is open to be read; hold on to it while its number is used.

        Raises
        ------
        FileNotFoundError
            If there is none of that name.
        """
        key = self._owner, path
        return _KEPT.get(key) or _KEPT.put(key, OpenFile(path))


class _Kept:
    """The open files of the process, those asked for last at the end."""

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[int, str], OpenFile] = OrderedDict()
        self.renew_lock()

    def renew_lock(self) -> None:
        # Re-entrant: whatever is done here may make room in memory, and with that end an array whose files are here.
        self._lock = threading.RLock()

    def get(self, key: tuple[int, str]) -> OpenFile | None:
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
            return self._files.get(key)

    def put(self, key: tuple[int, str], made: OpenFile) -> OpenFile:
        with self._lock:
            kept = self._files.setdefault(key, made)
            while len(self._files) > MOST_OPEN:
                self._files.popitem(last=False)
            return kept

    def forget(self, owner: int) -> None:
        with self._lock:
            for key in [key for key in self._files if key[0] == owner]:
                self._files.pop(key, None)


_OWNERS = itertools.count()
_KEPT = _Kept()
# Another thread may have held the lock at the fork; the child would wait for it forever.
os.register_at_fork(after_in_child=_KEPT.renew_lock)

"""Lines that tasks say while they run, brought to the process that asked for the tasks.

From another process they come through a pipe, and not through a queue: a queue has a lock, which a worker that is killed
takes with it, and the others would wait for it for ever. A line of at most `PIPE_BUF` bytes goes into a pipe whole or not
at all, without a lock, and a line that would have to wait is dropped. So no line can hold up, end or change a task, whatever
becomes of the pipe.
"""

import contextlib
import multiprocessing
import os
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from multiprocessing.connection import Connection

__all__ = ["LinePipe", "hear_through", "heard", "tell"]

_READ_BYTES = 1 << 16
_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)
"""Who hears what is told in a thread."""


class LinePipe:
    """The pipe of an engine. Its `writer` goes to each worker when that is started."""

    def __init__(self) -> None:
        self._reader, self.writer = multiprocessing.Pipe(duplex=False)
        for end in (self._reader, self.writer):
            os.set_blocking(end.fileno(), False)
        self._begun = b""

    def lines(self) -> list[str]:
        """Return the lines that came since the last time; none where the pipe is broken."""
        with contextlib.suppress(OSError):  # nothing is there: BlockingIOError
            while piece := os.read(self._reader.fileno(), _READ_BYTES):
                self._begun += piece
        *whole, self._begun = self._begun.split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]

    def close(self) -> None:
        """Close both ends here; what workers still say is lost."""
        self._reader.close()
        self.writer.close()


def hear_through(writer: Connection | None) -> None:
    """Send what is told in this thread through a pipe from now on; without one nobody hears it."""
    if writer is not None:
        _LISTENER.set(lambda line: _send(writer, line))


@contextmanager
def heard(listener: Callable[[str], None] | None) -> Iterator[None]:
    """Hand what is told in this thread to a listener while the block runs; without one, to whoever listens already."""
    token = _LISTENER.set(listener or _LISTENER.get())
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tell(line: str) -> None:
    """Say a line to the process that asked for the task that runs here; where nobody listens it is lost."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(line)


def _send(writer: Connection, line: str) -> None:
    content = " ".join(line.split("\n")).encode("utf-8", "replace")[: select.PIPE_BUF - 1]
    with contextlib.suppress(OSError):
        os.write(writer.fileno(), content + b"\n")

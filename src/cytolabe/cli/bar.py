"""Progress of a long command: a bar where somebody looks on, plain lines where nobody does.

On a terminal a stage is a bar with its rate, the time that is left and the peak memory of this process; everything else
that is told stands above it. In a log a bar would be noise, so there `flow.meter` tells one line a minute. The bar starts
with the first stage that counts: a short command never shows one.
"""

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from cytolabe.cli.output import progress

__all__ = ["StageBar", "staged_progress"]


class StageBar:
    """Shows how much of a stage is done; call it with the stage, the cells (or files) done, and all of them."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} {task.fields[unit]}, {task.fields[rate]:,.3g}/s"),
            TimeRemainingColumn(),
            TextColumn("peak {task.fields[peak]:,.0f} MiB"),
            console=console,
            transient=True,
        )
        self._stage = ""
        self._task: TaskID | None = None

    def __call__(self, stage: str, n_done: int, n_total: int, *, unit: str = "cells") -> None:
        """Take in that `n_done` of `n_total` cells, or whatever the unit is, of a stage are done."""
        self._progress.start()
        if self._task is None or stage != self._stage:
            self.stop_stage()
            self._stage, self._task = (
                stage,
                self._progress.add_task(stage, total=n_total, rate=0.0, peak=0.0, unit=unit),
            )
        shown = next(task for task in self._progress.tasks if task.id == self._task)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._progress.update(
            self._task, completed=n_done, total=n_total, rate=shown.speed or 0.0, peak=peak, unit=unit
        )

    def stop_stage(self) -> None:
        """Take the bar of the last stage away."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def close(self) -> None:
        """Take everything away."""
        self.stop_stage()
        self._progress.stop()


@contextmanager
def staged_progress(
    console: Console | None = None,
) -> Iterator[tuple[Callable[[str], None], StageBar | None]]:
    """Yield what tells messages, and the bar of stages; without a terminal None, and the messages tell of stages, too."""
    console = console or Console(file=sys.stderr)
    tell = progress()
    if not console.is_terminal:
        yield tell, None
        return
    bar = StageBar(console)
    try:
        # While the bar is there, rich puts what goes to standard error above it.
        yield tell, bar
    finally:
        bar.close()

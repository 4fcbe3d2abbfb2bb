"""How far a long ingest is: cells done, the rate, the time that is left, the memory of this process."""

import resource
import time
from collections.abc import Callable

__all__ = ["Meter"]


class Meter:
    """Turns reports of a stage into lines of progress, one at most every `interval` seconds."""

    def __init__(self, tell: Callable[[str], None], *, interval: float = 60.0) -> None:
        self._tell = tell
        self._interval = interval
        self._stage = ""
        self._started = self._told = time.monotonic()
        self._done_before = 0

    def __call__(self, stage: str, n_done: int, n_total: int, *, unit: str = "cells") -> None:
        """Take in that `n_done` of `n_total` cells, or whatever the unit is, of a stage are done."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._started, self._told, self._done_before = stage, now, now, n_done
            return
        if now - self._told < self._interval:
            return
        self._told = now
        rate = (n_done - self._done_before) / max(1e-9, now - self._started)
        left = f", {_duration((n_total - n_done) / rate)} left" if rate > 0 else ""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._tell(
            f"{stage}: {n_done:,} of {n_total:,} {unit}, {rate:,.3g} {unit}/s{left}, peak memory {peak:,.0f} MiB"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"

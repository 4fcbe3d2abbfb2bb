"""Progress is a bar on a terminal and lines in a log."""

import io

from rich.console import Console

from cytolabe.cli.bar import staged_progress


def test_on_a_terminal_a_stage_is_a_bar_with_rate_time_left_and_memory():
    shown = io.StringIO()
    with staged_progress(Console(file=shown, force_terminal=True, width=160)) as (_, bar):
        for n_done in (0, 4_000, 8_000):
            bar("proving X", n_done, 10_000)
        bar("writing counts", 2_000, 10_000)
    text = shown.getvalue()
    assert "proving X" in text or "writing counts" in text
    assert "of 10,000 cells" in text
    assert "/s" in text
    assert "MiB" in text


def test_without_a_terminal_there_is_no_bar(capsys):
    with staged_progress(Console(file=io.StringIO())) as (tell, bar):
        tell("reading 2 file(s)")
    assert bar is None
    assert "reading 2 file(s)" in capsys.readouterr().err


def test_a_command_without_stages_shows_no_bar():
    shown = io.StringIO()
    with staged_progress(Console(file=shown, force_terminal=True)):
        pass
    assert shown.getvalue().strip() == ""

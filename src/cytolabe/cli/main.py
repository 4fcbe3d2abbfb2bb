"""The command `cytolabe`: its commands, and the one place where an error becomes an exit code.

0 done, 1 findings of severity error (any refused source), 2 usage, 3 unreadable or hostile input, 4 integrity,
5 conflict, 130 interrupted, 143 terminated. With `--json` an error, too, is one JSON document on standard output.
"""

import os
import signal
import sys
import threading
from io import TextIOWrapper
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from cytolabe.cli import annotate as annotate_commands
from cytolabe.cli import atlas as atlas_commands
from cytolabe.cli import convert as convert_commands
from cytolabe.cli import exchange as exchange_commands
from cytolabe.cli import explain as explain_commands
from cytolabe.cli import genes as gene_commands
from cytolabe.cli import lineage as lineage_commands
from cytolabe.cli import network as network_commands
from cytolabe.cli import omics as omics_commands
from cytolabe.cli import persons as person_commands
from cytolabe.cli import perturbation as perturbation_commands
from cytolabe.cli import provenance as provenance_commands
from cytolabe.cli import snapshot as snapshot_commands
from cytolabe.cli import splits as split_commands
from cytolabe.cli import study as study_commands
from cytolabe.cli import training as training_commands
from cytolabe.cli import validate as validate_commands
from cytolabe.cli.guard import can_guard, guarded
from cytolabe.cli.output import print_error
from cytolabe.errors import CytolabeError, UnreadableInputError, UsageError, WorkerDiedError

__all__ = ["app", "main"]

# The base of typer's usage errors; typer exports only its children, from a module whose name differs by version.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[1]
_GUARDED = frozenset({"ingest", "validate"})
"""Commands that a crash of a reader does not end."""
_INTERRUPTED = 130
_TERMINATED = 143
_SOON = 0.05
"""Seconds after which a swallowed request to end is made again: the callback is left by then."""
_NO_MEMORY = (
    "Give more, a smaller --memory or fewer --workers where the command has them, or less "
    "at a time. What was published before stays whole; the same ingest goes on where this one stopped."
)


class _InFlowOrder(TyperGroup):
    """Lists the commands in the order of the flow, in which they were registered."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer exports no name for it
        # typer puts groups behind single commands; a snapshot is taken before a split.
        commands = [name for name in super().list_commands(ctx) if name != "snapshot"]
        place = commands.index("split")
        return [*commands[:place], "snapshot", *commands[place:]]


app = typer.Typer(
    name="cytolabe",
    cls=_InFlowOrder,
    help="Turn contributed single-cell data sets into a frozen, audited atlas, and measure what a model learned.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("demo")(study_commands.demo)
app.command("benchmark")(study_commands.benchmark)
app.command("specification")(study_commands.specification)
app.command("ingest")(atlas_commands.ingest)
app.command("validate")(validate_commands.validate)
app.command("genes")(gene_commands.genes)
app.command("reconcile")(atlas_commands.reconcile)
app.command("persons")(person_commands.persons)
app.add_typer(snapshot_commands.snapshot_app, name="snapshot")
app.command("split")(split_commands.split)
app.command("audit")(atlas_commands.audit)
app.command("train")(training_commands.train)
app.command("embed")(study_commands.embed)
app.command("omics")(omics_commands.omics)
app.command("perturb")(perturbation_commands.perturb)
app.command("network")(network_commands.network)
app.command("annotate")(annotate_commands.annotate)
app.command("crate")(exchange_commands.crate)
app.command("provenance")(provenance_commands.provenance)
app.command("convert")(convert_commands.convert)
app.command("verify")(explain_commands.verify)
app.command("trace")(lineage_commands.trace)
app.command("compare")(lineage_commands.compare)
app.command("reproduce")(lineage_commands.reproduce)
app.command("explain")(explain_commands.explain)
app.command("doctor")(explain_commands.doctor)


def main() -> NoReturn:
    """Run one command and leave with its exit code; one that reads files of others, in a process of its own."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A text that the alphabet of the terminal lacks must not end a command.
            stream.reconfigure(errors="backslashreplace")
    if sys.argv[1:2] and sys.argv[1] in _GUARDED and can_guard():
        sys.exit(guarded(_main, tell=_tell_crash))
    _main()


def _main() -> NoReturn:
    """Run one command in this process and leave with its exit code."""
    as_json = "--json" in sys.argv
    # Termination unwinds as Ctrl-C does, so that workers end and what is staged is removed.
    before, told_before = signal.signal(signal.SIGTERM, _terminate), sys.unraisablehook
    sys.unraisablehook = _ask_again
    try:
        code = _run()
    except CytolabeError as error:
        print_error(type(error).__name__, str(error), as_json=as_json)
        sys.exit(error.exit_code)
    except _UsageProblem as error:
        _tell_usage(getattr(error, "format_message", error.__str__)(), as_json=as_json)
        sys.exit(UsageError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print_error("Interrupted", "stopped by the user; what was published before stays whole.", as_json=as_json)
        sys.exit(_INTERRUPTED)
    except OSError as error:
        # A disk that is full, a folder without permission: the system's word, and the path that it is about.
        place = f"{error.filename}: " if error.filename else ""
        print_error(type(error).__name__, f"{place}{error.strerror or error}.", as_json=as_json)
        sys.exit(UnreadableInputError.exit_code)
    except _TerminatedError:
        print_error("Terminated", "it was asked to end; what was published before stays whole.", as_json=as_json)
        sys.exit(_TERMINATED)
    except (MemoryError, RuntimeError) as error:
        from cytolabe.engine import memory_shortage, shortage_told

        # torch says it by a RuntimeError; every other one is a fault of ours, to be seen whole.
        asked = memory_shortage(error)
        if asked is None:
            raise
        print_error("MemoryError", shortage_told("this command", asked, smaller=_NO_MEMORY), as_json=as_json)
        sys.exit(UnreadableInputError.exit_code)
    finally:
        signal.signal(signal.SIGTERM, before)
        sys.unraisablehook = told_before
    sys.exit(code)


class _TerminatedError(BaseException):
    """Unwinds a command that was asked to end."""


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    # A signal to the whole group comes twice, from its sender and through the guard: the second must not end the unwinding.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _TerminatedError


def _ask_again(told: "sys.UnraisableHookArgs") -> None:
    """Ask for the end once more where a callback, as of a weak reference, swallowed it; tell of any other exception there."""
    if not isinstance(told.exc_value, _TerminatedError):
        sys.__unraisablehook__(told)
        return
    signal.signal(signal.SIGTERM, _terminate)
    threading.Timer(_SOON, os.kill, (os.getpid(), signal.SIGTERM)).start()


def _tell_crash(how: str, is_last: bool) -> None:
    if not is_last:
        sys.stderr.write(
            f"the process that did the work was ended by {how}; once more, so that the file can be named\n"
        )
        return
    message = (
        f"the process that did the work was ended by {how}, twice. A file crashes the library that reads it, or memory ran "
        "out: give the files one at a time to see which, with more memory. What was published before stays whole."
    )
    print_error(WorkerDiedError.__name__, message, as_json="--json" in sys.argv)


def _run() -> int:
    """Run the command of the call; an interrupt, which typer turns into a code, becomes one again to be told."""
    code = app(standalone_mode=False)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _tell_usage(message: str, *, as_json: bool) -> None:
    """Tell an error of the call itself. Without any argument the message is the help, which needs no hint."""
    if as_json or not message.startswith("Usage:"):
        hint = "" if as_json else " Try 'cytolabe --help'."
        print_error(UsageError.__name__, f"{message}{hint}", as_json=as_json)
    else:
        sys.stderr.write(f"{message}\n")

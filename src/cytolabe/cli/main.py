"""The command `cytolabe`: its commands, and the one place where an error becomes an exit code.

0 done, 1 findings of severity error (any refused source), 2 usage, 3 unreadable or hostile input, 4 integrity,
5 conflict, 130 interrupted. With `--json` an error, too, is one JSON document on standard output.
"""

import sys
from typing import NoReturn

import typer

from cytolabe.cli import atlas as atlas_commands
from cytolabe.cli import explain as explain_commands
from cytolabe.cli import output
from cytolabe.cli import study as study_commands
from cytolabe.errors import CytolabeError

__all__ = ["app", "main"]

# The base of typer's usage errors; typer exports only its children, from a module whose name differs by version.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="cytolabe",
    help="Turn contributed single-cell data sets into a frozen, audited atlas, and measure what a model learned.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("demo")(study_commands.demo)
app.command("benchmark")(study_commands.benchmark)
app.command("ingest")(atlas_commands.ingest)
app.command("validate")(atlas_commands.validate)
app.command("reconcile")(atlas_commands.reconcile)
app.add_typer(atlas_commands.snapshot_app, name="snapshot")
app.command("split")(atlas_commands.split)
app.command("audit")(atlas_commands.audit)
app.command("embed")(study_commands.embed)
app.command("verify")(explain_commands.verify)
app.command("explain")(explain_commands.explain)
app.command("doctor")(explain_commands.doctor)


def main() -> NoReturn:
    """Run one command and leave with its exit code."""
    as_json = "--json" in sys.argv
    try:
        code = app(standalone_mode=False)
    except CytolabeError as error:
        output.print_error(error, as_json=as_json)
        sys.exit(error.exit_code)
    except _UsageProblem as error:
        output.print_usage_error(getattr(error, "format_message", error.__str__)(), as_json=as_json)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)

"""CPU time of starting, as a ratio to an interpreter that does nothing, beside typer alone with as many commands.

CPU time and not the clock, medians of many runs, and ratios: these hardly move between machines. Run with
`make bench`, or `python bench/startup.py [REPEATS]`.
"""

import sys
import tempfile
from pathlib import Path

from measure import compared, cpu_seconds, median, write_rows

FLOOR = """\"\"\"Twelve typer commands that do nothing.\"\"\"

from typing import Annotated

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def command(
    path: Annotated[str, typer.Argument(help="A path.")],
    name: Annotated[str, typer.Option(help="A name.")] = "",
    number: Annotated[int, typer.Option(help="A number.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON.")] = False,
) -> int:
    \"\"\"Do nothing.\"\"\"
    return 0


for position in range(12):
    app.command(f"command{position}")(command)
app()
"""


def main(repeats: int) -> None:
    """Measure, print the table and write `bench/out/startup.json`."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        floor = Path(folder) / "floor.py"
        floor.write_text(FLOOR, encoding="utf-8")
        commands = {
            "nothing": [python, "-c", "pass"],
            "import": [python, "-c", "import cytolabe"],
            "help": [python, "-m", "cytolabe", "--help"],
            "script": [str(Path(python).parent / "cytolabe"), "--help"],
            "typer": [python, str(floor), "--help"],
        }
        seconds = {name: median(cpu_seconds(command, repeats=repeats)) for name, command in commands.items()}
    nothing, alone = ("python -c pass", seconds["nothing"]), ("typer alone --help", seconds["typer"])
    unit = "CPU seconds"
    write_rows(
        "startup",
        [
            compared("import cytolabe", unit, ours=seconds["import"], peer=nothing, reach="<= 3"),
            compared("cytolabe --help", unit, ours=seconds["script"], peer=nothing, reach="<= 20"),
            compared("python -m cytolabe --help", unit, ours=seconds["help"], peer=nothing, reach="<= 20"),
            compared("cytolabe --help", unit, ours=seconds["script"], peer=alone),
            compared("typer alone --help", unit, ours=seconds["typer"], peer=nothing),
        ],
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)

"""Every command has help, and the documentation names it."""

import pytest


@pytest.fixture(scope="session")
def commands():
    main = pytest.importorskip("cytolabe.cli.main", reason="the command line is not written yet")
    typer = pytest.importorskip("typer")

    def walk(command, path):
        children = getattr(command, "commands", {})
        if path:
            yield " ".join(path), command
        for name, child in sorted(children.items()):
            yield from walk(child, (*path, name))

    return dict(walk(typer.main.get_command(main.app), ()))


@pytest.fixture(scope="session")
def pages(root):
    texts = [path.read_text(encoding="utf-8") for path in sorted((root / "docs").rglob("*.md"))]
    return "\n".join([*texts, (root / "README.md").read_text(encoding="utf-8")])


def test_every_command_has_help(commands):
    assert [name for name, command in commands.items() if len(command.help or "") < 15] == []


def test_every_option_has_help(commands):
    silent = [
        f"{name} {parameter.name}"
        for name, command in commands.items()
        for parameter in command.params
        if parameter.name != "help" and not getattr(parameter, "help", "x")
    ]
    assert silent == []


def test_every_command_is_documented(commands, pages):
    assert [name for name in commands if f"cytolabe {name}" not in pages] == []


def test_every_command_of_a_stage_speaks_json(commands):
    groups = {name for name, command in commands.items() if getattr(command, "commands", {})}
    leaves = {name: command for name, command in commands.items() if name not in groups}
    silent = [
        name for name, command in leaves.items() if not any("--json" in parameter.opts for parameter in command.params)
    ]
    assert silent == []

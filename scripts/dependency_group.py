"""Print the requirements of dependency groups of pyproject.toml, one shell word each (pip 23 has no --group yet)."""

import sys
import tomllib
from pathlib import Path


def main(groups: list[str]) -> None:
    """Print each requirement of the named groups."""
    document = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    for group in groups:
        for requirement in document["dependency-groups"][group]:
            print(requirement.replace(" ", ""))


if __name__ == "__main__":
    main(sys.argv[1:])

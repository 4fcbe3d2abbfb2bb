"""Write the measured parts of README.md: the end of the demonstration, and the table of the PBMC study.

Nothing between the markers is typed by hand. Run it in an environment with [models], where the real files are:

    .venv/bin/python scripts/write_readme.py --data ../shared/data/h5ad

`tests/flow/test_readme.py` holds the snapshot ids that stand there against fresh runs.
"""

import argparse
import dataclasses
import re
import tempfile
from pathlib import Path

from cytolabe.config.study import ModelSpec, read_study
from cytolabe.flow.demo import DEMO_STUDY, run_demo
from cytolabe.flow.runs import evidence_of_study, published
from cytolabe.report import leaderboard_markdown, verdict_lines

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CORE_MODELS = ("majority", "metadata_only", "pca")


def between(text: str, name: str, content: str) -> str:
    """Return the text with new content between the markers of a part."""
    pattern = re.compile(rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


def demo_part(out: Path) -> str:
    """Return the verdict of the demonstration as the terminal shows it."""
    models = tuple(ModelSpec(name=name) for name in CORE_MODELS)
    finished = run_demo(out, study=dataclasses.replace(DEMO_STUDY, models=models))
    faults = [
        f"caught  {fault.title}" if fault.caught else f"MISSED  {fault.title}"
        for fault in finished.content.planted_faults
    ]
    lines = ["$ cytolabe demo", *faults, *verdict_lines(finished.content)]
    return "```\n" + "\n".join(lines) + "\n```"


def main() -> None:
    """Run both and rewrite the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="keep the outputs of the study here")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        text = between(text, "demo", demo_part(Path(folder)))
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        study = ROOT / "studies" / "pbmc.toml"
        finished = published(evidence_of_study(read_study(study, data=arguments.data), out, on_progress=print), out)
        text = between(text, "pbmc", leaderboard_markdown(finished.content))
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""The README quotes what the code gives today: the ids of its atlases, and no word of a result that was typed by hand."""

import re
from pathlib import Path

from cytolabe.config import read_study
from cytolabe.flow.contribute import contribute
from cytolabe.flow.demo import DEMO_STUDY
from cytolabe.flow.interpret import interpret_labels, interpret_persons
from cytolabe.flow.study import study_sources
from cytolabe.ingest.sources import find_sources
from cytolabe.snapshot.atlas import create_atlas
from cytolabe.testing.simulate import simulate_contributions

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def part(name: str) -> str:
    match = re.search(rf"<!-- {name}:start -->(.*?)<!-- {name}:end -->", README, re.DOTALL)
    assert match is not None
    return match[1]


def frozen_id(folder: Path, study, sources) -> str:
    atlas = create_atlas(folder)
    contribute(atlas, sources, n_workers=2)
    interpret_labels(atlas, study=study)
    interpret_persons(atlas, study=study)
    return atlas.freeze().snapshot_id


def test_the_transcript_is_of_the_atlas_that_the_demonstration_makes(tmp_path):
    simulate_contributions(tmp_path / "contributions", seed=DEMO_STUDY.seed)
    sources, _ = find_sources([tmp_path / "contributions"])
    assert frozen_id(tmp_path / "atlas", DEMO_STUDY, sources).removeprefix("sha256:")[:12] in part("demo")
    assert "MISSED" not in part("demo")


def test_the_table_is_of_the_atlas_that_the_study_makes(tmp_path, real_files):
    study = read_study(ROOT / "studies" / "pbmc.toml", data=real_files)
    assert frozen_id(tmp_path / "atlas", study, study_sources(study)) in part("pbmc")


def test_the_table_has_every_model_of_the_study():
    study = read_study(ROOT / "studies" / "pbmc.toml")
    table = part("pbmc").replace("\\", "")
    assert all(model.name in table for model in study.models)

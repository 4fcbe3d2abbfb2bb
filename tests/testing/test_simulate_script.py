"""The script that simulates donors says in one line what it cannot do."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "simulate_donors.py"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--n-donors", "3"], "at least 12"),
        (["--data", "nowhere"], "are not there"),
        (["--study", "nowhere.toml"], "no such study file"),
    ],
)
def test_what_cannot_be_simulated_ends_with_a_reason_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.setattr(sys, "argv", ["simulate_donors.py", *arguments, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

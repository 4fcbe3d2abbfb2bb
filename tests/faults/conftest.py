"""The simulated study of the evaluation tests, for cheaters to cheat on."""

import importlib.util
from pathlib import Path

_PATH = Path(__file__).resolve().parent.parent / "evaluate" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("simulated_study_fixtures", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)

simulated_study = _MODULE.simulated_study
lab = _MODULE.lab

"""Simulate an atlas of many donors on the profiles of a real data set of a study, for `studies/foundation_simulated.toml`.

    .venv/bin/python scripts/simulate_donors.py --data ../shared/data/h5ad --out simulated/

Every file says of itself that it is simulated; `simulated/truth.json` has what is true of them. See docs/simulated-donors.md.
"""

import argparse
import dataclasses
from pathlib import Path

from cytolabe.config.study import read_study
from cytolabe.errors import CytolabeError
from cytolabe.flow.simulated_donors import simulate_from_study
from cytolabe.testing.donors import DonorDesign

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Read the arguments, simulate, and print what became of it."""
    parser = argparse.ArgumentParser(description="Simulate many donors on real profiles.")
    parser.add_argument("--study", type=Path, default=ROOT / "studies" / "foundation.toml")
    parser.add_argument("--dataset", default="zheng17_sorted_mudan", help="whose types are read")
    parser.add_argument("--data", type=Path, help="folder of the study's files")
    parser.add_argument("--out", type=Path, default=ROOT / "simulated")
    for item in dataclasses.fields(DonorDesign):
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=type(item.default), default=item.default)
    given = vars(parser.parse_args())
    try:
        design = DonorDesign(**{item.name: given[item.name] for item in dataclasses.fields(DonorDesign)})
        study = read_study(given["study"], data=given["data"])
        truth = simulate_from_study(study, given["dataset"], given["out"], design=design, on_progress=print)
    except (CytolabeError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    known = truth["profiles_known"]
    print(f"SIMULATED: {known['n_cells']} cells of {design.n_donors} donors in {given['out']}")
    print(f"macro-F1 of who knows the true profiles of {len(known['f1'])} types, and no donor: {known['macro_f1']:.3f}")


if __name__ == "__main__":
    main()

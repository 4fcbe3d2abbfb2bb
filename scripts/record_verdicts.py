"""Record what the official validator says of the variants of the tests, so that the tests need no oracle.

    python scripts/record_verdicts.py ORACLE_PYTHON [VARIANT...]

ORACLE_PYTHON is the interpreter of an environment with cellxgene-schema (`make oracle` builds one). Its validator runs
once over all files, without ignoring labels, as a contributor meets it. Written is `tests/validate/verdicts.json`: the
verdict and the number of messages of each variant, and the versions that said so. With names of variants only these
are validated, and what was said is printed.
"""

import importlib
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests" / "validate"
ORACLE = """
import json, logging, sys
from importlib.metadata import version
logging.disable(logging.CRITICAL)
from cellxgene_schema.validate import Validator
said = {}
for path in json.load(sys.stdin):
    validator = Validator(ignore_labels=False)
    valid = bool(validator.validate_adata(path))
    said[path] = {"valid": valid, "errors": validator.errors, "n_warnings": len(validator.warnings)}
packages = ("cellxgene-schema", "cellxgene-ontology-guide", "anndata")
print("SAID" + json.dumps({"versions": {name: version(name) for name in packages}, "said": said}))
"""


def main(oracle: str, names: list[str]) -> None:
    """Write the variants, ask, and record or print."""
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(TESTS))
    variants = importlib.import_module("variants")
    with tempfile.TemporaryDirectory() as folder:
        asked = names or list(variants.VARIANTS)
        paths = {name: str(variants.write_variant(name, Path(folder))) for name in asked}
        ended = subprocess.run(
            [oracle, "-W", "ignore", "-c", ORACLE],
            input=json.dumps(list(paths.values())),
            capture_output=True,
            text=True,
            check=True,
        )
    answer = json.loads(ended.stdout.partition("SAID")[2])
    if names:
        for name, path in paths.items():
            print(name, json.dumps(answer["said"][path], indent=1))
        return
    verdicts = {
        name: {
            "valid": answer["said"][path]["valid"],
            "n_errors": len(answer["said"][path]["errors"]),
            "n_warnings": answer["said"][path]["n_warnings"],
        }
        for name, path in paths.items()
    }
    document = {"versions": answer["versions"], "verdicts": verdicts}
    (TESTS / "verdicts.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{len(verdicts)} verdicts recorded, {sum(verdict['valid'] for verdict in verdicts.values())} of them valid")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

"""Record what the official validators say of the variants of the tests, so that the tests need no oracle.

    python scripts/record_verdicts.py ORACLE_PYTHON [VARIANT...]

ORACLE_PYTHON is the interpreter of an environment with cellxgene-schema (`make oracle` builds one for each version of
the schema). Its validator runs once over all files, without ignoring labels, as a contributor meets it. Its major version
is that of the schema: variants are written in the form of that version, and `tests/validate/verdicts-<major>.json` gets the
verdict and the number of messages of each, and the versions that said so. A file on which a validator falls over has the
verdict null and the name of the exception. With names of variants only these are validated, and what was said is printed.
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
    fell = {}
    try:
        valid = bool(validator.validate_adata(path))
    except Exception as error:
        valid, fell = None, {"fell_over": type(error).__name__}
    said[path] = {"valid": valid, "errors": validator.errors, "n_warnings": len(validator.warnings), **fell}
packages = ("cellxgene-schema", "cellxgene-ontology-guide", "anndata")
print("SAID" + json.dumps({"versions": {name: version(name) for name in packages}, "said": said}))
"""
VERSION = "from importlib.metadata import version; print(version('cellxgene-schema'))"


def main(oracle: str, names: list[str]) -> None:
    """Write the variants, ask, and record or print."""
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(TESTS))
    variants = importlib.import_module("variants")
    asked_version = subprocess.run([oracle, "-c", VERSION], capture_output=True, text=True, check=True).stdout
    schema = int(asked_version.partition(".")[0])
    with tempfile.TemporaryDirectory() as folder:
        asked = names or list(variants.VARIANTS)
        paths = {name: str(variants.write_variant(name, Path(folder), schema=schema)) for name in asked}
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
    verdicts = {name: _verdict(answer["said"][path]) for name, path in paths.items()}
    document = {"versions": answer["versions"], "verdicts": verdicts}
    path = TESTS / f"verdicts-{schema}.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    n_valid = sum(verdict["valid"] is True for verdict in verdicts.values())
    print(f"{path.name}: {len(verdicts)} verdicts recorded, {n_valid} of them valid")


def _verdict(said: dict[str, object]) -> dict[str, object]:
    """Return what is kept of an answer: messages are counted, because their words are the validator's own."""
    errors = said["errors"]
    counted = {"n_errors": len(errors) if isinstance(errors, list) else 0, "n_warnings": said["n_warnings"]}
    fell = {"fell_over": said["fell_over"]} if "fell_over" in said else {}
    return {"valid": said["valid"], **counted, **fell}


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

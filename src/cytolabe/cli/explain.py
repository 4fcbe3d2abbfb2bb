"""Commands that tell: `explain` a code or a term, `verify` digests, `doctor` for the installation."""

import re
import tomllib
from importlib import metadata, resources
from typing import Annotated

import typer

from cytolabe.cli.options import AsJson, AtlasOrRun
from cytolabe.cli.output import print_document, print_findings, print_pairs, print_table, progress
from cytolabe.errors import UnresolvedLabelError, UsageError

__all__ = ["doctor", "explain", "verify"]

_CODE = re.compile(r"[EWN]-[A-Z0-9]+-?\d*$")
_CURIE = re.compile(r"CL[:_]\d+", re.IGNORECASE)


def explain(
    word: Annotated[
        str,
        typer.Argument(
            metavar="CODE|TERM", help="A finding code such as E-COUNTS-01, or a cell type: CL:0000236 or 'B cell'."
        ),
    ],
    as_json: AsJson = False,
) -> int:
    """Tell what a finding code or an ontology term means, and what to do."""
    codes = tomllib.loads(resources.files("cytolabe.cli").joinpath("codes.toml").read_text(encoding="utf-8"))
    code = word.strip().upper()
    if code in codes:
        document: dict[str, object] = {"code": code, **codes[code]}
    elif _CODE.match(code):
        msg = f"{word!r} is no finding code.{_near(code, list(codes))}"
        raise UsageError(msg)
    else:
        document = _term(word.strip())
    if as_json:
        print_document(document)
    else:
        print_pairs(document)
    return 0


def verify(
    path: AtlasOrRun,
    as_json: AsJson = False,
) -> int:
    """Hash everything again and compare with what was recorded."""
    from cytolabe.flow.verify import verify_path
    from cytolabe.provenance import jsonable

    progress()(f"hashing {path} again")
    n_checked, findings = verify_path(path)
    damaged = any(str(finding.severity) != "note" for finding in findings)
    if as_json:
        print_document({"ok": not damaged, "checked": n_checked, "findings": jsonable(findings)})
    else:
        print_findings(findings)
        typer.echo(f"{n_checked} object(s) checked, {len(findings)} finding(s).")
    return 4 if damaged else 0


def doctor(as_json: AsJson = False) -> int:
    """Tell what is installed, and which models can run here."""
    from cytolabe.models.registry import MODEL_NAMES, is_available
    from cytolabe.provenance import environment_identity

    models = {name: is_available(name) for name in MODEL_NAMES}
    if as_json:
        print_document(
            {
                "cytolabe": metadata.version("cytolabe"),
                "environment": environment_identity(),
                "models": {name: {"available": found, "reason": reason} for name, (found, reason) in models.items()},
            }
        )
        return 0
    print_table(["library", "version"], sorted(environment_identity().items()))
    typer.echo("")
    print_table(["model", "runs here", "why not"], [(n, "yes" if a else "no", why) for n, (a, why) in models.items()])
    return 0


def _term(word: str) -> dict[str, object]:
    from cytolabe.ontology.graph import load_ontology

    ontology = load_ontology("CL")
    replaced: dict[str, object] = {}
    if found := _CURIE.search(word):
        try:
            term = ontology.resolve(word)
        except UnresolvedLabelError as error:
            raise UsageError(str(error)) from None
        asked = found[0].upper().replace("_", ":")
        if asked != term:
            replaced = {"replaces": f"{asked} {ontology.name(asked)}".strip()}
    else:
        names = {text.lower(): term for term in ontology.terms for text in ontology.synonyms(term)}
        names |= {ontology.name(term).lower(): term for term in ontology.terms}
        if word.lower() not in names:
            msg = f"{word!r} is neither a finding code nor a cell type of CL {ontology.release}.{_near(word.lower(), list(names))}"
            raise UsageError(msg)
        term = names[word.lower()]
    return {
        "term": term,
        **replaced,
        "name": ontology.name(term),
        "definition": ontology.definition(term),
        "parents": [f"{parent} {ontology.name(parent)}" for parent in ontology.parents(term)],
        "synonyms": list(ontology.synonyms(term)),
        "release": ontology.release,
    }


def _near(word: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, n=3)
    return f" Near: {', '.join(near)}." if near else ""

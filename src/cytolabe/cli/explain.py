"""Commands that tell: `explain` a code or a term, `verify` digests, `doctor` for the installation."""

import tomllib
from importlib import metadata, resources
from pathlib import Path
from typing import Annotated

import typer

from cytolabe.cli.output import print_document, print_findings, print_table
from cytolabe.errors import UsageError

__all__ = ["doctor", "explain", "verify"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


def explain(
    word: Annotated[str, typer.Argument(help="A finding code such as E-COUNTS-01, or a term such as CL:0000236.")],
    as_json: AsJson = False,
) -> int:
    """Tell what a finding code or an ontology term means, and what to do."""
    codes = tomllib.loads(resources.files("cytolabe.cli").joinpath("codes.toml").read_text(encoding="utf-8"))
    if word.upper() in codes:
        document: dict[str, object] = {"code": word.upper(), **codes[word.upper()]}
    elif word.upper().startswith("CL"):
        document = _term(word)
    else:
        import difflib

        near = difflib.get_close_matches(word.upper(), list(codes), n=3)
        hint = f" Near: {', '.join(near)}." if near else ""
        msg = f"{word!r} is neither a finding code nor a Cell Ontology term.{hint}"
        raise UsageError(msg)
    if as_json:
        print_document(document)
    else:
        for key, value in document.items():
            typer.echo(f"{key:12} {', '.join(value) if isinstance(value, list) else value}")
    return 0


def verify(
    path: Annotated[Path, typer.Argument(help="An atlas, or the output folder of a run.")],
    as_json: AsJson = False,
) -> int:
    """Hash everything again and compare with what was recorded."""
    from cytolabe.flow.verify import verify_path
    from cytolabe.provenance import jsonable

    n_checked, findings = verify_path(path)
    if as_json:
        print_document({"ok": not findings, "checked": n_checked, "findings": jsonable(findings)})
    else:
        print_findings(findings)
        typer.echo(f"{n_checked} object(s) checked, {len(findings)} finding(s).")
    return 4 if findings else 0


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
    term = ontology.resolve(word)
    return {
        "term": term,
        "name": ontology.name(term),
        "definition": ontology.definition(term),
        "parents": [f"{parent} {ontology.name(parent)}" for parent in ontology.parents(term)],
        "synonyms": list(ontology.synonyms(term)),
        "release": ontology.release,
    }

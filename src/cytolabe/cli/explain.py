"""Commands that tell: `explain` a code or a term, `verify` digests, `doctor` for the installation."""

import re
import tomllib
from importlib import metadata, resources
from pathlib import Path
from typing import Annotated, Any

import typer

from cytolabe.cli.options import AsJson, AtlasInUse, AtlasOrRun
from cytolabe.cli.output import print_document, print_findings, print_pairs, print_table, progress
from cytolabe.errors import UsageError

__all__ = ["doctor", "explain", "verify"]

_CODE = re.compile(r"[EWN]-[A-Z0-9]+-?\d*$")


def explain(
    word: Annotated[
        str,
        typer.Argument(
            metavar="CODE|TERM",
            help="A finding code such as E-COUNTS-01, or a term: CL:0000236, UBERON:0002048, 'B cell'.",
        ),
    ],
    atlas: AtlasInUse = None,
    as_json: AsJson = False,
) -> int:
    """Tell what a finding code or an ontology term means, and what to do."""
    codes = tomllib.loads(resources.files("cytolabe.cli").joinpath("codes.toml").read_text(encoding="utf-8"))
    code = word.strip().upper()
    usage: list[list[object]] = []
    if code in codes:
        document: dict[str, object] = {"code": code, **codes[code]}
    elif _CODE.match(code):
        msg = f"{word!r} is no finding code.{_near(code, list(codes))}"
        raise UsageError(msg)
    else:
        from cytolabe.flow.terms import explain_term, usage_of_term
        from cytolabe.provenance import jsonable

        document = explain_term(word.strip())
        if atlas is not None:
            found = usage_of_term(atlas, str(document["term"]))
            document |= {"atlas": jsonable(found)}
            usage = [
                [
                    use.dataset_id,
                    use.contributor_label,
                    use.n_cells,
                    use.predicate,
                    use.term,
                    use.term_name,
                    use.decision,
                ]
                for use in found.labels
            ]
    if as_json:
        print_document(document)
        return 0
    found_in = document.pop("atlas", None)
    print_pairs(document)
    if isinstance(found_in, dict):
        typer.echo(f"\n{_counted(found_in)} (release {found_in['ontology_release']})")
        if usage:
            print_table(["data set", "label", "cells", "predicate", "term", "name", "decision"], usage)
    return 0


def _counted(use: dict[str, Any]) -> str:
    if use["not_counted"]:
        return f"not counted: {use['not_counted']}"
    return f"{use['n_cells']:,} cell(s) have a label of this term, {use['n_cells_below']:,} one of a term below it"


def verify(
    path: AtlasOrRun,
    data: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of the files that a run read, to hash them as well. May be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Hash everything again, walk to what it rests on, and compare with what was recorded."""
    from cytolabe.flow.verify import verify_path
    from cytolabe.provenance import jsonable

    progress()(f"hashing {path} again")
    n_checked, findings = verify_path(path, data=data or ())
    damaged = any(str(finding.severity) != "note" for finding in findings)
    if as_json:
        print_document({"ok": not damaged, "checked": n_checked, "findings": jsonable(findings)})
    else:
        print_findings(findings)
        typer.echo(f"{n_checked} object(s) checked, {len(findings)} finding(s).")
    return 4 if damaged else 0


def doctor(as_json: AsJson = False) -> int:
    """Tell what is installed, and which models can run here, those of other packages among them."""
    from cytolabe.models.registry import refused_offers
    from cytolabe.provenance import environment_identity

    models = _models_here()
    refused = [
        {"name": offer.name, "package": offer.package, "version": offer.version, "reason": why}
        for offer, why in refused_offers()
    ]
    if as_json:
        document = {"environment": environment_identity(), "models": models, "refused_models": refused}
        print_document({"cytolabe": metadata.version("cytolabe"), **document})
        return 0
    print_table(["library", "version"], sorted(environment_identity().items()))
    typer.echo("")
    rows = [(name, f"{one['package']} {one['version']}", one) for name, one in models.items()]
    print_table(
        ["model", "from", "runs here", "why not"],
        [(name, source, "yes" if one["available"] else "no", one["reason"]) for name, source, one in rows],
    )
    for one in refused:
        typer.echo(f"{one['package']} {one['version']} offers no model {one['name']}: {one['reason']}.")
    return 0


def _models_here() -> dict[str, dict[str, object]]:
    """Return, by name, whether each model runs here, and which package it is of."""
    from cytolabe.models.entry_points import offers
    from cytolabe.models.registry import MODEL_NAMES, is_available, offered_names

    sources = {offer.name: (offer.package, offer.version) for offer in offers()}
    ours = ("cytolabe", metadata.version("cytolabe"))
    found = {}
    for name in (*MODEL_NAMES, *offered_names()):
        available, reason = is_available(name)
        package, version = ours if name in MODEL_NAMES else sources[name]
        found[name] = {"available": available, "reason": reason, "package": package, "version": version}
    return found


def _near(word: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, n=3)
    return f" Near: {', '.join(near)}." if near else ""

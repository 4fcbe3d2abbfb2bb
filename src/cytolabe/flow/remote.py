"""Sources that lie elsewhere, brought here and then treated like files that were always here.

    cellxgene:<id>        a collection, a data set or a version of CELLxGENE Discover
    census:<filter>       cells of the CELLxGENE Census, one source per data set

What a catalog says of a data set becomes what is declared of it; whatever the caller declares goes on top. A source
that cannot be reached is an error finding and the others go on; where nothing else was asked for, it stops the call.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cytolabe.config.manifest import Manifest
from cytolabe.errors import CytolabeError, IntegrityError, UnreachableSourceError, UsageError
from cytolabe.ingest.cellxgene import fetch_dataset, find_datasets
from cytolabe.ingest.census import is_census
from cytolabe.ingest.census_query import describe_query, is_census_query
from cytolabe.ingest.sources import SourceFile, find_sources, without_clashes
from cytolabe.ingest.web import WebClient
from cytolabe.records import Finding, Severity

__all__ = ["CACHE_VARIABLE", "cache_folder", "fetch_sources", "gather_sources", "is_remote"]

CACHE_VARIABLE = "CYTOLABE_CACHE"
"""Environment variable that names the folder of what was fetched."""

Progress = Callable[[str], None]


def is_remote(argument: object) -> bool:
    """Tell whether a source is named by a catalog and not by a path."""
    return isinstance(argument, str) and (argument.startswith("cellxgene:") or is_census_query(argument))


def cache_folder(given: Path | None = None) -> Path:
    """Return the folder of what was fetched: the given one, that of the environment, or the user's cache.

    It lies outside of every atlas, so that two atlases fetch a file once, and it may be emptied at any time.
    """
    if given is not None:
        return given
    said = os.environ.get(CACHE_VARIABLE)
    if said:
        return Path(said)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cytolabe"


def gather_sources(
    arguments: Sequence[str | Path], *, cache: Path | None = None, on_progress: Progress = lambda _: None
) -> tuple[tuple[SourceFile, ...], tuple[Finding, ...]]:
    """List the sources that arguments stand for, after fetching what lies elsewhere.

    Parameters
    ----------
    arguments
        Paths, and names of remote sources.
    cache
        Where fetched files go; `cache_folder()` by default.
    on_progress
        Gets a line now and then.

    Returns
    -------
    sources
        In the order of their ids.
    findings
        Errors for what is not there, not clear or not reachable; notes for what is not read.

    Raises
    ------
    UsageError
        If the name of a remote source or a manifest is wrong.
    UnreachableSourceError, IntegrityError
        If nothing at all could be gathered because a remote source failed.
    """
    paths = [Path(argument) for argument in arguments if not is_remote(argument)]
    sources, findings = find_sources(paths)
    found, told = [source for source in sources if not is_census(source.path)], list(findings)
    told += [_descriptor_given(source) for source in sources if is_census(source.path)]
    failures: list[CytolabeError] = []
    for argument in dict.fromkeys(str(argument) for argument in arguments if is_remote(argument)):
        try:
            found += fetch_sources(argument, cache=cache, on_progress=on_progress)
        except (UnreachableSourceError, IntegrityError) as error:
            failures.append(error)
            told.append(_unreachable(argument, error))
    if failures and not found:
        raise failures[0]
    kept = without_clashes(sorted(set(found), key=lambda s: (s.dataset_id, s.path.as_posix())), told)
    return kept, tuple(sorted(told, key=lambda f: (f.code, f.where, f.message)))


def fetch_sources(
    argument: str,
    *,
    declared: Manifest | None = None,
    cache: Path | None = None,
    client: WebClient | None = None,
    on_progress: Progress = lambda _: None,
) -> tuple[SourceFile, ...]:
    """Fetch one remote source.

    Parameters
    ----------
    argument
        Its name, such as `cellxgene:<id>`.
    declared
        What is declared beyond the catalog, and over it.
    cache
        Where fetched files go; `cache_folder()` by default.
    client
        How to ask.
    on_progress
        Gets a line now and then.

    Raises
    ------
    UsageError
        If the name is wrong, or one id is declared for several data sets.
    UnreachableSourceError, IntegrityError
        If it cannot be fetched whole.
    """
    said, folder, web = declared or Manifest(), cache_folder(cache), client or WebClient()
    if is_census_query(argument):
        return _of_census(argument, said, describe_query(argument, folder, client=web, on_progress=on_progress))
    on_progress(f"asking CELLxGENE Discover for {argument}")
    datasets = find_datasets(argument.partition(":")[2], client=web)
    _require_one_id(argument, said, len(datasets))
    return tuple(
        SourceFile(
            path=fetch_dataset(dataset, folder, client=web, on_progress=on_progress).path,
            manifest=replace(dataset.manifest.merged_with(said), id=""),
            dataset_id=said.id or dataset.dataset_id,
        )
        for dataset in datasets
    )


def _of_census(argument: str, said: Manifest, found: tuple[SourceFile, ...]) -> tuple[SourceFile, ...]:
    """Put what the caller declares over what the census says."""
    _require_one_id(argument, said, len(found))
    return tuple(
        replace(
            source,
            manifest=replace(source.manifest.merged_with(said), id=""),
            dataset_id=said.id or source.dataset_id,
        )
        for source in found
    )


def _require_one_id(argument: str, said: Manifest, n_datasets: int) -> None:
    if said.id and n_datasets != 1:
        msg = f"{argument}: id = {said.id!r} names one data set, but this stands for {n_datasets}. Leave the id out, or name one of its data sets."
        raise UsageError(msg)


def _descriptor_given(source: SourceFile) -> Finding:
    return Finding(
        code="E-REMOTE-02",
        severity=Severity.ERROR,
        where=str(source.path),
        n_affected=1,
        n_total=1,
        message="This file only describes a query of the Census; read as a contribution it would lead to an address that its author chose.",
        remedy="Name the query itself: census:<filter>.",
        rule="cytolabe/sources",
    )


def _unreachable(argument: str, error: CytolabeError) -> Finding:
    return Finding(
        code="E-REMOTE-01",
        severity=Severity.ERROR,
        where=argument,
        n_affected=1,
        n_total=1,
        message=f"The source could not be fetched. {error}",
        remedy="Follow the message and call again: what was fetched so far is kept and continued.",
        rule="cytolabe/sources",
    )

"""Run a study again from its record, and judge what comes out.

The record says everything that was asked; files are found again by name and have to have their digests, or nothing is
run. Code, libraries, ontology and genes are those of this installation: where they are not those of the run, that is told
first, since it is the likely cause of what differs.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytolabe.errors import IntegrityError, UsageError
from cytolabe.files import sha256_of_file
from cytolabe.flow.comparison import Cause, compare_runs
from cytolabe.flow.demo import run_demo
from cytolabe.flow.judging import Component, judge_files, judge_models, judge_parents
from cytolabe.flow.recording import reference_digest
from cytolabe.flow.restoring import found_by_name, restored_study
from cytolabe.flow.run_folder import RunFolder, read_run_folder
from cytolabe.flow.runs import climbed, published
from cytolabe.flow.study import run_study, study_sources
from cytolabe.ingest import identity
from cytolabe.ingest.sources import SourceFile, find_sources
from cytolabe.ontology.graph import load_ontology
from cytolabe.provenance import code_identity, environment_identity
from cytolabe.provenance.differences import Difference, differences

__all__ = ["Reproduction", "conditions_of", "reproduce_run"]

_LADDER = "ladder.json"


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What came of running a study again. `conditions` are in what this installation differs from that of the run.

    `first` is the first cause that `compare` names between the two runs, if any.
    """

    record_ids: tuple[str, str]
    conditions: tuple[Difference, ...]
    components: tuple[Component, ...]
    first: Cause | None

    @property
    def is_reproduced(self) -> bool:
        """Whether every component is what its class promises; what nobody can judge is not reproduced."""
        return all(component.is_reproduced for component in self.components)


def reproduce_run(
    path: Path,
    *,
    data: Sequence[Path] = (),
    out: Path | None = None,
    cache: Path | None = None,
    n_workers: int = 1,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Reproduction:
    """Run a study again from its record.

    Parameters
    ----------
    path
        The folder of the run.
    data
        Folders with the files that it read; those of a demonstration are simulated again.
    out
        An empty folder for the new run; without one it is thrown away.
    cache
        For remote sources.
    n_workers
        Processes that share the work; no result depends on it.
    on_progress
        Gets one line per step.

    Raises
    ------
    UsageError
        If it is no run of a study, a file is not at hand, or `out` is not empty.
    IntegrityError
        If the record or its scores were edited, or a file that it read has other bytes now.
    """
    run = read_run_folder(path)
    if run.body["kind"] != "benchmark":
        msg = f"{path} is a run of kind {run.body['kind']}; only studies can be run again."
        raise UsageError(msg)
    scores = _recorded_scores(run)
    if out is not None and out.exists() and any(out.iterdir()):
        msg = f"--out {out} is not empty; what lies there would enter the new run."
        raise UsageError(msg)
    conditions = conditions_of(run.body)
    for found in conditions:
        on_progress(f"other than in the run: {found.sentence}")
    with ExitStack() as stack:
        folder = out if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _run_again(run, folder, data=data, cache=cache, means=(n_workers, on_progress))
        again = read_run_folder(folder)
        models = judge_models(scores, again.document("scores.json")["scores"])
        files = [{item["name"]: item["sha256"] for item in one.body["outputs"]} for one in (run, again)]
        return Reproduction(
            record_ids=(run.record_id, again.record_id),
            conditions=conditions,
            components=(
                *judge_parents(run.body["parents"], again.body["parents"]),
                *models,
                *judge_files(files[0], files[1], models=models),
            ),
            first=compare_runs(run.path, folder).first,
        )


def conditions_of(body: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return in what this installation differs from that of a run: code, libraries, ontology, gene reference."""
    ontology, reference = load_ontology("CL"), str(body["gene_reference"])
    here = {
        "code": code_identity(),
        "environment": environment_identity(),
        "ontology_release": ontology.release,
        "ontology_digest": ontology.digest,
        "gene_reference_digest": reference_digest(reference),
    }
    return tuple(differences({key: body[key] for key in here}, here))


def _recorded_scores(run: RunFolder) -> list[dict[str, Any]]:
    """Return the scores of a run, after their file was seen to be the one that its record names."""
    recorded = {item["name"]: item["sha256"] for item in run.body["outputs"]}
    path = run.path / "scores.json"
    if not path.is_file() or sha256_of_file(path) != recorded.get(path.name):
        msg = f"{path} is not what the run wrote: there is nothing to compare a new run with. `cytolabe verify` tells more."
        raise IntegrityError(msg)
    return list(run.document(path.name)["scores"])


def _run_again(
    run: RunFolder, out: Path, *, data: Sequence[Path], cache: Path | None, means: tuple[int, Callable[[str], None]]
) -> None:
    parameters: Mapping[str, Any] = run.body["parameters"]
    n_workers, tell = means
    study = restored_study(parameters, data=data)
    if "simulation" in parameters:
        run_demo(
            out, study=study, scale=float(parameters["simulation"]["scale"]), n_workers=n_workers, on_progress=tell
        )
        return
    sources = study_sources(study, cache=cache, on_progress=tell) if study.datasets else _of_folders(data)
    _require_same(run, sources)
    evidence = run_study(study, out, sources=sources, n_workers=n_workers, on_progress=tell)
    if any(item["name"] == _LADDER for item in run.body["outputs"]):
        climbed(evidence, out, n_workers=n_workers, on_progress=tell)
    else:
        published(evidence, out)


def _of_folders(data: Sequence[Path]) -> Sequence[SourceFile]:
    """Return the sources of a study of a folder, which names none itself."""
    if not data:
        msg = "the run was made of a folder of files. Name it: cytolabe reproduce RUN --data FOLDER."
        raise UsageError(msg)
    return find_sources(list(data))[0]


def _require_same(run: RunFolder, sources: Sequence[SourceFile]) -> None:
    """Refuse to run on other files than those that the run read: what came out would say nothing of it."""
    recorded = {item["name"]: item["sha256"] for item in run.body["inputs"] if item["role"] == "source"}
    found = {source.path.name: identity.digest_of(source.path) for source in sources}
    missing = sorted(set(recorded) - set(found))
    if missing:
        found_by_name(missing[0], ())
    wrong = sorted(name for name, digest in found.items() if recorded.get(name) != digest)
    if wrong:
        msg = (
            f"{len(wrong)} of {len(found)} source(s) are not what the run read, first {wrong[0]}: digest {found[wrong[0]][:12]}, "
            f"and the record names {recorded.get(wrong[0], 'no such file')[:12]}. Nothing was run."
        )
        raise IntegrityError(msg)

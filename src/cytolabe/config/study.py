"""A study file: which contributions make the atlas, what a study may claim, and which models are compared.

    [study]      name, title, data, decision_level, seed, n_seeds, by, gene_policies, ceilings,
                 override, claims; [study.limited_labels]  few training labels (`config.limited_labels`)
    [[dataset]]  path (relative to `data`) or source (a remote one), and every key of a manifest
    [[level]]    name, terms, [level.merged]          resolutions, coarse to fine; absent = chosen from the data
    [[context]]  dataset, label, term, evidence       what the study knows of a label (its sort gates)
    [[person]]   id, dataset, donor, evidence         a declared identity; without `donor`, every cell of the data set
    [[joined]]   datasets, reason                     not proven to be other persons: held out together
    [[model]]    name, [model.options] (`program` and `checkpoint` are relative to the study file, or the latter hf:owner/name@<commit>);
                 or kind = "precomputed", name, path

`data` is relative to the study file; `--data` on the command line replaces it. Unknown keys are errors.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cytolabe.config.limited_labels import LimitedLabels, limited_labels_of
from cytolabe.config.manifest import Manifest, manifest_of, unknown_key_error
from cytolabe.errors import UsageError

__all__ = [
    "GENE_POLICIES",
    "JoinedSpec",
    "LabelContextSpec",
    "LevelSpec",
    "ModelSpec",
    "PersonSpec",
    "Study",
    "StudyDataset",
    "StudyFile",
    "read_study",
]

GENE_POLICIES = ("intersection", "pairwise", "native")
"""Which genes a fold may use (rule R1)."""

_SAID_BY_NO_FILE = "combined_from"
_DEFAULT_MODELS = ("majority", "metadata_only", "pca", "harmony", "scvi")


@dataclass(frozen=True, kw_only=True)
class StudyDataset:
    """One contribution of a study: a file or the name of a remote source, and what the study says about it."""

    path: Path | None
    manifest: Manifest
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class LevelSpec:
    """A resolution that the study declares; `merged` sends a term to another one, with both results printed."""

    name: str
    terms: tuple[str, ...]
    merged: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LabelContextSpec:
    """What the study knows of one contributor label, with its evidence."""

    dataset: str
    label: str
    term: str
    evidence: str
    predicate: str = "skos:exactMatch"
    reviewer: str = ""


@dataclass(frozen=True, kw_only=True)
class PersonSpec:
    """A declared person; an empty `donor` means every cell of the data set."""

    id: str
    dataset: str
    evidence: str
    donor: str = ""


@dataclass(frozen=True, kw_only=True)
class JoinedSpec:
    """Data sets that are not proven to come from other persons, and are therefore held out together."""

    datasets: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model of the registry with its options, or a file of embeddings or predictions."""

    name: str
    kind: str = "registry"
    path: Path | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """A file that a study was put together from: what it gave (`study` or `recipe`), its name, and the SHA-256 of its bytes."""

    role: str
    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Study:
    """A whole study file. `override` lets refused numbers out; its text says why and is stamped on every output.

    `combined_from` names the two files of a study that is run on the data of a recipe (`config.recipe`); no file says it of itself.
    """

    name: str
    title: str = ""
    decision_level: str = "mid"
    seed: int = 0
    n_seeds: int = 3
    by: tuple[str, ...] = ("component",)
    gene_policies: tuple[str, ...] = ("intersection", "pairwise")
    ceilings: bool = True
    override: str = ""
    claims: tuple[str, ...] = ()
    datasets: tuple[StudyDataset, ...] = ()
    levels: tuple[LevelSpec, ...] = ()
    context: tuple[LabelContextSpec, ...] = ()
    persons: tuple[PersonSpec, ...] = ()
    joined: tuple[JoinedSpec, ...] = ()
    models: tuple[ModelSpec, ...] = tuple(ModelSpec(name=name) for name in _DEFAULT_MODELS)
    limited_labels: LimitedLabels | None = None
    combined_from: tuple[StudyFile, ...] = ()


def read_study(path: Path, *, data: Path | None = None) -> Study:
    """Read a study file.

    Parameters
    ----------
    path
        The TOML file.
    data
        The folder of the contributions, in place of the study's own `data`.

    Raises
    ------
    UsageError
        If the file is missing, is no TOML, or has an unknown key or a value of the wrong type.
    """
    document = _load(path)
    sections = ["study", "dataset", "level", "context", "person", "joined", "model"]
    for key in document:
        if key not in sections:
            raise unknown_key_error(key, sections, str(path))
    head = dict(_table(document.get("study", {}), f"{path}: [study]"))
    root = data if data is not None else path.parent / str(head.pop("data", "."))
    head.pop("data", None)
    few = head.pop("limited_labels", None)
    if _SAID_BY_NO_FILE in head:
        known = [one.name for one in dataclasses.fields(Study) if one.name != _SAID_BY_NO_FILE]
        raise unknown_key_error(_SAID_BY_NO_FILE, known, f"{path}: [study]")
    tables = {name: _tables(document.get(name, []), f"{path}: [[{name}]]") for name in sections[1:]}
    parts: dict[str, object] = {
        "datasets": tuple(_dataset(table, root, f"{path}: [[dataset]]") for table in tables["dataset"]),
        "levels": tuple(_record(LevelSpec, table, f"{path}: [[level]]") for table in tables["level"]),
        "context": tuple(_record(LabelContextSpec, table, f"{path}: [[context]]") for table in tables["context"]),
        "persons": tuple(_record(PersonSpec, table, f"{path}: [[person]]") for table in tables["person"]),
        "joined": tuple(_record(JoinedSpec, table, f"{path}: [[joined]]") for table in tables["joined"]),
    }
    if few is not None:
        where = f"{path}: [study.limited_labels]"
        parts["limited_labels"] = limited_labels_of(_table(few, where), where)
    if tables["model"]:
        parts["models"] = tuple(_model(table, path) for table in tables["model"])
    study: Study = _record(Study, {**head, **parts}, f"{path}: [study]")
    _check_policies(study, path)
    return study


def _check_policies(study: Study, path: Path) -> None:
    for policy in study.gene_policies:
        if policy not in GENE_POLICIES:
            raise unknown_key_error(policy, list(GENE_POLICIES), f"{path}: gene_policies")


def _load(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{path}: there is no such study file."
        raise UsageError(msg) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not readable as TOML ({error})."
        raise UsageError(msg) from None


def _dataset(table: Mapping[str, object], root: Path, where: str) -> StudyDataset:
    said = dict(table)
    named = {key: said.pop(key) for key in ("path", "source") if key in said}
    name = next(iter(named.values()), None)
    if len(named) != 1 or not isinstance(name, str) or not name:
        msg = f"{where}: a data set has either path = '...' (a file) or source = 'cellxgene:...' (a remote one)."
        raise UsageError(msg)
    manifest = manifest_of(said, f"{where} {name}")
    return StudyDataset(
        path=root / name if "path" in named else None, manifest=manifest, source=str(named.get("source", ""))
    )


def _model(table: Mapping[str, object], study_path: Path) -> ModelSpec:
    said = dict(table)
    if "path" in said:
        said["path"] = study_path.parent / str(said["path"])
    options = said.get("options")
    if isinstance(options, dict) and "checkpoint" in options:
        named = str(options["checkpoint"])
        said["options"] = {**options, "checkpoint": named if named.startswith("hf:") else study_path.parent / named}
    options = said.get("options")
    if isinstance(options, dict) and "program" in options:
        said["options"] = {**options, "program": study_path.parent / str(options["program"])}
    spec: ModelSpec = _record(ModelSpec, said, f"{study_path}: [[model]]")
    if spec.kind not in {"registry", "precomputed"}:
        raise unknown_key_error(spec.kind, ["registry", "precomputed"], f"{study_path}: [[model]] kind")
    if (spec.kind == "precomputed") != (spec.path is not None):
        msg = f"{study_path}: [[model]] {spec.name}: kind = 'precomputed' and path = '...' go together."
        raise UsageError(msg)
    return spec


def _record(cls: type, table: Mapping[str, object], where: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Fill a frozen dataclass from a table: unknown keys, missing keys and wrong types are named."""
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, object] = {}
    for key, value in table.items():
        if key not in fields:
            raise unknown_key_error(key, list(fields), where)
        values[key] = tuple(value) if isinstance(value, list) else value
        _check_type(str(fields[key].type), values[key], f"{where}: {key}")
    required = [
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        msg = f"{where}: {', '.join(missing)} must be given."
        raise UsageError(msg)
    return cls(**values)


_CHECKS: Mapping[str, tuple[type, str]] = {
    "str": (str, "a string"),
    "int": (int, "a whole number"),
    "bool": (bool, "true or false"),
    "tuple[str, ...]": (tuple, "a list of strings"),
}


def _check_type(annotation: str, value: object, where: str) -> None:
    names = {"<class 'str'>": "str", "<class 'int'>": "int", "<class 'bool'>": "bool"}
    expected = _CHECKS.get(names.get(annotation, annotation))
    if expected is None:
        return
    kind, words = expected
    wrong_items = isinstance(value, tuple) and kind is tuple and not all(isinstance(item, str) for item in value)
    if not isinstance(value, kind) or wrong_items or (kind is int and isinstance(value, bool)):
        msg = f"{where} must be {words}, not {value!r}."
        raise UsageError(msg)


def _table(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        msg = f"{where} must be a table."
        raise UsageError(msg)
    return value


def _tables(value: object, where: str) -> list[Mapping[str, object]]:
    if not isinstance(value, list) or not all(isinstance(table, dict) for table in value):
        msg = f"{where} must be written with double brackets, one table each."
        raise UsageError(msg)
    return value

"""One study on the data of another: `cytolabe benchmark STUDY.toml --recipe RECIPE.toml`.

    of the study   models, limited_labels, seed, n_seeds, claims
    of the recipe  data sets, persons, joined, levels, contexts, decision_level, by, gene_policies, ceilings, override, and
                   its claims beside those of the study

What is made of the two is one `Study`, which is run, recorded and hashed like any other and names both files by digest. The
models of a recipe are those of the recipe run alone: they are left out.
"""

import dataclasses
from pathlib import Path

from cytolabe.config.study import Study, StudyFile, read_study
from cytolabe.errors import UsageError
from cytolabe.files import sha256_of_file

__all__ = ["read_study_on_recipe"]


def read_study_on_recipe(path: Path, *, recipe: Path, data: Path | None = None) -> Study:
    """Read a study and the recipe whose data it shall be run on.

    Parameters
    ----------
    path
        The study file.
    recipe
        The study file whose data and protocol are taken.
    data
        The folder of the contributions, in place of the recipe's own `data`.

    Raises
    ------
    UsageError
        If a file is wrong, or the two contradict each other: one name, another decision level, a decision level that the
        recipe does not have, few labels or an override in the wrong file, or no data set.
    """
    asked, given = read_study(path), read_study(recipe, data=data)
    _refuse_conflicts(asked, given, names=(str(path), str(recipe)))
    told = (
        f"Models, few labels and seeds are those of {path.name}; data sets, levels and protocol those of {recipe.name}."
    )
    return dataclasses.replace(
        given,
        name=f"{asked.name}_on_{given.name}",
        title=f"{asked.title or asked.name}, on: {given.title or given.name}",
        seed=asked.seed,
        n_seeds=asked.n_seeds,
        models=asked.models,
        limited_labels=asked.limited_labels,
        claims=(told, *asked.claims, *given.claims),
        combined_from=(_file("study", path), _file("recipe", recipe)),
    )


def _file(role: str, path: Path) -> StudyFile:
    return StudyFile(role=role, name=path.name, sha256=sha256_of_file(path))


def _refuse_conflicts(asked: Study, given: Study, *, names: tuple[str, str]) -> None:
    study, recipe = names
    levels = [level.name for level in given.levels]
    wrong = []
    if asked.name == given.name:
        wrong.append(f"both have the name {asked.name!r}; results of the two could not be told apart")
    if not given.datasets:
        wrong.append(f"{recipe} names no data set")
    if levels and given.decision_level not in levels:
        wrong.append(
            f"{recipe} has decision_level = {given.decision_level!r}, and none of its levels ({', '.join(levels)}) is called so"
        )
    if asked.decision_level != given.decision_level:
        wrong.append(
            f"decision_level is {asked.decision_level!r} in {study} and {given.decision_level!r} in {recipe}; few labels and claims of the study are about its own"
        )
    if given.limited_labels is not None:
        wrong.append(f"{recipe} asks for [study.limited_labels], which the study alone does")
    if asked.override:
        wrong.append(f"{study} has an override, and what is refused is so on other data here: write it into {recipe}")
    if wrong:
        msg = f"{study} cannot be run on {recipe}: {'; '.join(wrong)}."
        raise UsageError(msg)

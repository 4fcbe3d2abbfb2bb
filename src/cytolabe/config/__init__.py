"""What a person wrote in TOML, as frozen dataclasses. Unknown keys are errors with a suggestion."""

from cytolabe.config.manifest import LABEL_ORIGINS, MANIFEST_NAME, Manifest, read_manifests
from cytolabe.config.recipe import read_study_on_recipe
from cytolabe.config.study import Study, read_study

__all__ = [
    "LABEL_ORIGINS",
    "MANIFEST_NAME",
    "Manifest",
    "Study",
    "read_manifests",
    "read_study",
    "read_study_on_recipe",
]

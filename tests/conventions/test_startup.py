"""Starting is fast because nothing heavy is loaded, and the core lives without torch."""

import json

import pytest

HEAVY = (
    "numpy", "pandas", "scipy", "sklearn", "torch", "anndata", "jaxtyping", "zarr", "h5py", "matplotlib", "numba",
    "pyarrow", "duckdb", "jinja2", "scvi", "harmonypy", "transformers",
)  # fmt: skip
EXTRAS = ("torch", "scvi", "harmonypy", "transformers", "lightning", "safetensors", "jax")

# Networks of torch: whoever loads one asks for the extra first. Nothing else may need it to be imported.
NETWORKS = {
    "cytolabe.models.geneformer.heads",
    *(f"cytolabe.models.scgpt.{module}" for module in ("heads", "layers", "network", "objectives", "tasks")),
}

LOADED = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"

BLOCKED = """
import importlib, json, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED_NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import cytolabe
failed = {}
for module in pkgutil.walk_packages(cytolabe.__path__, "cytolabe.", onerror=lambda name: failed.setdefault(name, "package")):
    if module.name == "cytolabe.__main__":
        continue
    try:
        importlib.import_module(module.name)
    except BaseException as error:
        failed[module.name] = f"{type(error).__name__}: {error}"
print(json.dumps(failed))
"""


def heavy_of(output: str) -> list[str]:
    return sorted(set(json.loads(output.splitlines()[-1])) & set(HEAVY))


def test_importing_the_package_loads_nothing_heavy(run_python):
    assert heavy_of(run_python(f"import cytolabe\n{LOADED}")) == []


def test_help_loads_nothing_heavy(run_python):
    pytest.importorskip("cytolabe.cli.main", reason="the command line is not written yet")
    code = (
        "import sys, runpy\n"
        "sys.argv = ['cytolabe', '--help']\n"
        "try:\n    runpy.run_module('cytolabe', run_name='__main__')\nexcept SystemExit as end:\n    assert not end.code\n"
        f"{LOADED}"
    )
    assert heavy_of(run_python(code)) == []


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        pytest.param("import cytolabe.flow.conform", {"scipy", "pandas", "h5py"}, id="the command of validate"),
        pytest.param("from cytolabe.records import Finding", {"scipy", "pandas"}, id="a finding"),
        pytest.param("from cytolabe.genes.reference import release_ids", {"scipy", "pandas"}, id="ids of a release"),
    ],
)
def test_what_only_tells_findings_waits_for_no_matrix(run_python, code, absent):
    assert not set(heavy_of(run_python(f"{code}\n{LOADED}"))) & absent
    assert "scipy" in heavy_of(run_python(f"from cytolabe.records import Block\n{LOADED}"))


def test_models_of_other_packages_are_named_and_not_imported(run_python, tmp_path):
    folder = tmp_path / "lab_models-2.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-models\nVersion: 2.1\n")
    (folder / "entry_points.txt").write_text("[cytolabe.models]\nlab_mean = lab_models:Mean\n")
    (tmp_path / "lab_models.py").write_text("raise RuntimeError('imported')")
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "from cytolabe.models.registry import is_available, make_model, offered_names\n"
        "assert offered_names() == ('lab_mean',)\nmake_model('pca')\nassert is_available('majority')[0]\n"
    )
    assert "lab_models" not in json.loads(run_python(f"{code}{LOADED}").splitlines()[-1])
    asked = run_python(f"{code}print(is_available('lab_mean'))")
    assert "RuntimeError: imported" in asked


def test_the_check_notices_a_heavy_module(run_python):
    assert heavy_of(run_python(f"import cytolabe, numpy\n{LOADED}")) == ["numpy"]


def test_every_module_imports_without_the_models_extra(run_python):
    code = BLOCKED.replace("BLOCKED_NAMES", repr(EXTRAS))
    failed = json.loads(run_python(code).splitlines()[-1])
    optional = {name for name in failed if name.startswith(("cytolabe.models.scvi", "cytolabe.models.harmony"))}
    assert {name: why for name, why in failed.items() if name not in optional | NETWORKS} == {}
    assert {failed[name] for name in NETWORKS} == {"ModuleNotFoundError: No module named 'torch'"}


def test_the_blocker_blocks(run_python):
    code = BLOCKED.replace("BLOCKED_NAMES", repr((*EXTRAS, "rfc8785")))
    failed = json.loads(run_python(code).splitlines()[-1])
    assert "rfc8785" in failed["cytolabe.provenance"]

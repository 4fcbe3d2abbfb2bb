import importlib.util
import warnings
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("variants", Path(__file__).with_name("variants.py"))
variants = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(variants)


@pytest.fixture(scope="session")
def variant(tmp_path_factory):
    """Return a function that writes a variant of the valid file, in the form of a schema, and returns its path."""
    folder = tmp_path_factory.mktemp("variants")

    def write(name, schema=7):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of anndata, about names that are none
            return variants.write_variant(name, folder, schema=schema)

    return write


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """Return a function that writes the valid file after an edit."""
    folder = tmp_path_factory.mktemp("planted")
    written = iter(range(10_000))

    def write(edit):
        data = variants.valid_data()
        changed = edit(data)
        path = folder / f"planted_{next(written)}.h5ad"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (data if changed is None else changed).write_h5ad(path)
        return path

    return write


@pytest.fixture(scope="session")
def edits():
    """Return the module of edits."""
    return variants

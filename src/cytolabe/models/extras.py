"""Optional dependencies: asked for by name, imported at the last moment and nowhere else.

`import scvi` takes about 20 seconds and pulls torch; so nothing heavy is imported at the top of a module, and every
heavy import goes through `import_extra`, which says what to install.
"""

import importlib
import importlib.util
import warnings
from types import ModuleType
from typing import Any

from cytolabe.errors import MissingExtraError

__all__ = ["import_extra", "is_installed", "missing_extra_message"]


def is_installed(module: str) -> bool:
    """Say whether a top-level module can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        # A blocked import (an entry None in sys.modules, a finder that raises) is an absent module.
        return False


def missing_extra_message(module: str) -> str:
    """Return what to do about a module that is not installed."""
    return f"{module} is not installed. Install the extra: pip install 'cytolabe[models]'."


def import_extra(module: str) -> Any:  # noqa: ANN401 - a module of an untyped library
    """Import a module of the `[models]` extra; what it warns about while it loads is not the user's business.

    Raises
    ------
    MissingExtraError
        If it is not installed; the message names the extra.
    """
    top = module.partition(".")[0]
    if not is_installed(top):
        raise MissingExtraError(missing_extra_message(top))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded: ModuleType = importlib.import_module(module)
    return loaded

"""What a model of a study is read from: its files, and the package that offers it. A kept fit of another state is another fit."""

from pathlib import Path
from shutil import which

from cytolabe.evaluate.plan import AnnotatorPlan
from cytolabe.files import sha256_of_file
from cytolabe.models.registry import offer_named
from cytolabe.provenance import digest_of
from cytolabe.provenance.ledger import source_state

__all__ = ["files_of", "package_of"]

_OF_FILES = ("checkpoint", "path", "program")
"""Options that name files which a model is read from."""

_SMALL_BYTES = 1 << 24
"""Files up to this size are told by their contents, larger ones (weights, whose digest a card has) by when they changed."""


def files_of(annotator: AnnotatorPlan) -> dict[str, object]:
    """Return the state of the files that a model is read from; those of a hub are named by a commit."""
    named = {name: Path(str(annotator.options[name])) for name in _OF_FILES if annotator.options.get(name)}
    words = annotator.options.get("command")
    if isinstance(words, list | tuple):  # what runs, and any file among its words
        named |= {f"command {k}": Path(which(str(word)) or str(word)) for k, word in enumerate(words)}
    return {name: [source_state(path), _contents_of(path)] for name, path in named.items() if path.exists()}


def package_of(annotator: AnnotatorPlan) -> list[str]:
    """Return package, version and code of a model that another package offers."""
    offer = offer_named(annotator.component)
    return [] if offer is None else [offer.offer.package, offer.offer.version, offer.code]


def _contents_of(path: Path) -> str:
    """Return a digest over the contents of small files at a path, and over when large ones changed last: times can be set back."""
    found = sorted(one for one in ([path] if path.is_file() else path.rglob("*")) if one.is_file())
    return digest_of(
        [sha256_of_file(one) if one.stat().st_size <= _SMALL_BYTES else str(one.stat().st_ctime_ns) for one in found]
    )

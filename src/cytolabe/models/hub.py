"""Where a checkpoint lies: a local folder, or a commit of a repository on the Hugging Face hub that is fetched once.

    hf:owner/name@<commit>            the whole repository
    hf:owner/name@<commit>/folder     a folder of it

A name on a hub stands for other bytes tomorrow, so a commit (40 hex digits) is part of the id, and the digest of the weights
has to be said by whoever asks: a commit is the server's word, the digest is not. Only files of a checkpoint are fetched, no
code and no pickle of weights; dictionaries may be pickles, of which nothing is run. What lies in the library's cache is not
fetched again, so that a machine without a network opens what another run fetched.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from cytolabe.errors import MissingExtraError, UnreachableSourceError, UsageError
from cytolabe.models.extras import import_extra, is_installed

__all__ = ["HUB_PREFIX", "checkpoint_folder", "weight_files"]

HUB_PREFIX = "hf:"
_ID = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)@(?P<commit>[0-9a-f]{40})(?:/(?P<folder>[\w.-]+(?:/[\w.-]+)*))?")
_WANTED = (
    "*.safetensors", "config.json", "card.json", "args.json", "vocab.json", "token_dictionary*", "gene_median_dictionary*",
    "ensembl_mapping_dict*",
)  # fmt: skip


class _HubId(NamedTuple):
    repository: str
    commit: str
    folder: str


def checkpoint_folder(name: Path | str, *, expected: str = "") -> Path:
    """Return the local folder of a checkpoint, after fetching it where the name is one of the hub.

    Parameters
    ----------
    expected
        Digest (`sha256:...`) of the weights: needed of a hub id, and checked by whoever opens the folder.

    Raises
    ------
    UsageError
        If it is a hub id without a commit, or without a digest to expect.
    MissingExtraError
        If it is a hub id and huggingface_hub is not installed.
    UnreachableSourceError
        If the hub does not answer, or has no such commit, and it is not in the cache.
    """
    if not str(name).startswith(HUB_PREFIX):
        return Path(name)
    asked = _parsed(str(name))
    if not expected:
        msg = f"{name}: say the digest that its weights must have (expected = 'sha256:...'; --expect on the command line). A commit is the word of the server that is asked."
        raise UsageError(msg)
    if not is_installed("huggingface_hub"):
        msg = (
            f"{name} is on the hub, and huggingface_hub is not installed. Install the extra: pip install 'cytolabe[models]', or "
            "fetch the folder by other means and give its path."
        )
        raise MissingExtraError(msg)
    return _fetched(asked, str(name), is_local=False)


def weight_files(name: Path | str) -> list[Path]:
    """Return the files of weights of a checkpoint that lies here, sorted; none where it was never fetched."""
    if not str(name).startswith(HUB_PREFIX):
        return sorted(Path(name).glob("*.safetensors"))
    try:
        return sorted(_fetched(_parsed(str(name)), str(name), is_local=True).glob("*.safetensors"))
    except (UnreachableSourceError, MissingExtraError):
        return []


def _parsed(name: str) -> _HubId:
    found = _ID.fullmatch(name)
    # '..' is made of letters that a name may have.
    if found is None or ".." in name:
        msg = (
            f"{name} is no id of a checkpoint on the hub. Write hf:owner/name@<commit>, with the 40 digits of a commit and, where the "
            "checkpoint is not at the top, /folder: a branch or a tag means other weights tomorrow."
        )
        raise UsageError(msg)
    return _HubId(found["repository"], found["commit"], found["folder"] or "")


def _fetched(asked: _HubId, name: str, *, is_local: bool) -> Path:
    hub: Any = import_extra("huggingface_hub")
    errors: Any = import_extra("huggingface_hub.errors")
    lead = f"{asked.folder}/" if asked.folder else ""
    try:
        place = hub.snapshot_download(
            asked.repository, revision=asked.commit, allow_patterns=[f"{lead}{pattern}" for pattern in _WANTED],
            local_files_only=is_local,
        )  # fmt: skip
    except (
        errors.HfHubHTTPError,
        errors.EntryNotFoundError,
        errors.OfflineModeIsEnabled,
        OSError,
        ValueError,
    ) as error:
        first = str(error).strip().splitlines()[:1]
        msg = (
            f"{name} cannot be fetched ({type(error).__name__}: {first[0] if first else 'no reason given'}), and it is not in the cache. "
            "Compare owner, name and commit, look at the network, or fetch the folder by other means and give its path."
        )
        raise UnreachableSourceError(msg) from None
    folder = Path(place) / asked.folder
    if not folder.is_dir():
        msg = f"{name}: the repository has no folder {asked.folder!r} with files of a checkpoint at this commit."
        raise UsageError(msg)
    return folder

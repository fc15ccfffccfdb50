"""Repositories of models on the Hugging Face hub: files of one, and a new state of one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from splitlearn.deploy.pretrained_record import RECORD, PretrainedError
from splitlearn.resource_errors import brief, of_machine

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # OWNER/NAME
CARD = "README.md"


def fetched(repository: str, name: str, revision: str | None) -> Path:
    """Return the path of a repository's file in the local cache, to which it is downloaded if it is not there.

    Args:
        repository: OWNER/NAME.
        name: name of the file.
        revision: branch, tag or commit; None for the main branch.

    Raises:
        PretrainedError: if there is no such repository, revision or file, or it cannot be fetched.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(HfApi().hf_hub_download(repository, name, revision=revision))
    except RepositoryNotFoundError as error:
        message = f"there is no folder and no repository {repository} on the hub, or it takes a token (hf auth login)"
        raise PretrainedError(message) from error
    except RevisionNotFoundError as error:
        raise PretrainedError(
            f"{repository} has no revision {revision}: name one of its branches, tags or commits"
        ) from error
    except LocalEntryNotFoundError as error:
        raise PretrainedError(
            f"{repository} is no folder, is not in the cache, and the hub is not reached: without network, give the "
            "path of a folder with its files"
        ) from error
    except EntryNotFoundError as error:
        told = "so it is no repository of a splitlearn model" if name == RECORD else f"which its {RECORD} names"
        raise PretrainedError(f"{repository} has no file {name}, {told}") from error
    except Exception as error:  # of the HTTP library, which several releases of the hub's client change
        if of_machine(error):
            raise
        raise PretrainedError(f"{repository} cannot be fetched from the hub: {brief(error)}") from error


def push_files(record: Path, files: Sequence[Path], card: str, repository: str, private: bool) -> str:
    """Create a repository if it does not exist, and write files and its model card in one commit; return its address.

    Args:
        record: record of the model, which becomes `splitlearn.json`.
        files: its safetensors files.
        card: text of the repository's README.md.
        repository: OWNER/NAME.
        private: whether a new repository is private.

    Raises:
        PretrainedError: if the name is not OWNER/NAME, the hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    if not REPOSITORY.fullmatch(repository):
        raise PretrainedError(f"a repository is named OWNER/NAME, got {repository!r}")
    added = [CommitOperationAdd(RECORD, record), CommitOperationAdd(CARD, card.encode())]
    added += [CommitOperationAdd(file.name, file) for file in files]
    hub = HfApi()
    try:
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.create_commit(repository, added, commit_message="Model of splitlearn, with its record")
    except Exception as error:  # of the HTTP library, which several releases of the hub's client change
        if of_machine(error):
            raise
        raise PretrainedError(
            f"{repository} cannot be written: {brief(error)}; hf auth login stores a token"
        ) from error
    return str(address)

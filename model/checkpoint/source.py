"""From what a user names, a folder or a Hub id, to a folder on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from model.checkpoint.errors import CheckpointError

# What a model needs from a Hub repository; other frameworks' weights and code are left there, and PyTorch's pickles too
# unless there is nothing else.
HUB_PATTERNS = ("*.json", "*.safetensors", "tokenizer.model", "adept_vocab.model", "README.md")
PICKLE_PATTERN = "pytorch_model*.bin"
PROJECT = Path(__file__).parent.parent.parent
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """`folder` on disk; `name` as the user gave it, relative to the project where it is inside; `revision`: the Hub
    commit, `None` for a plain folder."""

    folder: Path
    name: str
    revision: str | None


def resolve(checkpoint: str, *, revision: str | None = None) -> CheckpointSource:
    """Find a checkpoint, fetching it from the Hugging Face Hub if it is no folder here.

    Args:
        checkpoint: folder, or Hub id such as `adept/persimmon-8b-chat`.
        revision: Hub branch, tag or commit; only for Hub ids.

    Raises:
        CheckpointError: neither a folder nor a Hub repository that can be read.
    """
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise CheckpointError(f"revision {revision!r} was given for the folder {folder}: only Hub ids have one")
        resolved = folder.resolve()
        inside = resolved.is_relative_to(PROJECT)
        return CheckpointSource(resolved, str(resolved.relative_to(PROJECT)) if inside else checkpoint, None)
    if folder.exists():
        raise CheckpointError(f"{folder} is a file: give the checkpoint's folder")
    if not _HUB_ID.fullmatch(checkpoint):
        raise CheckpointError(
            f"{checkpoint!r} is neither a folder here nor a Hub id: give a folder's path or owner/name"
        )
    return CheckpointSource(*_download(checkpoint, revision))


def _download(repo_id: str, revision: str | None) -> tuple[Path, str, str | None]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        path = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(HUB_PATTERNS)))
        if not any(path.glob("*.safetensors")):
            snapshot_download(repo_id, revision=revision, allow_patterns=[PICKLE_PATTERN])
    except GatedRepoError:
        raise CheckpointError(
            f"{repo_id} is gated on the Hub: accept its licence there and run 'hf auth login'"
        ) from None
    except RepositoryNotFoundError:
        raise CheckpointError(f"{repo_id} is not on the Hub, or not visible to you: check the name") from None
    except LocalEntryNotFoundError:
        raise CheckpointError(
            f"{repo_id} is not a folder here, and the Hub cannot be reached: check the path or the network"
        ) from None
    except Exception as error:
        raise CheckpointError(f"{repo_id} could not be fetched from the Hub: {error}") from error
    return path, repo_id, path.name if _COMMIT.fullmatch(path.name) else None

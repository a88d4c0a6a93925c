"""Hidden states of texts, computed by an engine beside its other work and kept on disk.

Chunks of texts are kept under the hash of weights, settings and texts, so that a run that was stopped, or another
training on the same file, computes only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.interface import Engine

CHUNK = 256  # texts; between two chunks progress is told and cancelling is noticed


def hidden_states(
    engine: Engine, texts: Sequence[str], *, cache: Path, on_chunk: Callable[[int], None]
) -> NDArray[np.float32]:
    """The last hidden states, [len(texts), hidden_size], of texts as the engine's prompts.

    Args:
        cache: folder, made if it is not there.
        on_chunk: called with the number of texts done; what it raises ends the work.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found = []
    for begin in range(0, len(texts), CHUNK):
        chunk = list(texts[begin : begin + CHUNK])
        path = cache / f"{_key(engine, chunk)}.npy"
        states = _read(path, len(chunk))
        if states is None:
            states = np.stack(engine.hidden_states(chunk, priority="batch"))
            _write(path, states)
        found.append(states)
        on_chunk(begin + len(chunk))
    return np.concatenate(found)


def _key(engine: Engine, texts: Sequence[str]) -> str:
    info = engine.info
    content = [
        info.weights_sha256,
        info.tokenizer_sha256,
        info.prompts_begin_with_bos,
        info.dtype,
        info.rope_position_dtype,
        *texts,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _read(path: Path, count: int) -> NDArray[np.float32] | None:
    try:
        states: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, OSError):  # damaged: computed again
        return None
    return states if states.ndim == 2 and len(states) == count else None


def _write(path: Path, states: NDArray[np.float32]) -> None:
    """Whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as stream:
            np.save(stream, states)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

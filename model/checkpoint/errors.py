"""What goes wrong with checkpoints."""

from __future__ import annotations

from model.interface import EngineError


class CheckpointError(EngineError):
    """A checkpoint cannot be used; the text is one sentence naming the file, and the tensor or key, at fault."""

"""What goes wrong in an evaluation. Each text is one sentence a user can act on."""

from __future__ import annotations


class EvaluationError(Exception):
    """An evaluation that cannot start, go on, or be written down."""


class DataError(EvaluationError):
    """Items that cannot be used; the text names the file, the line, the column and the rule."""

"""What goes wrong with the sandbox itself."""

from __future__ import annotations

from evals.errors import EvaluationError


class SandboxUnavailable(EvaluationError):
    """No level works on this machine, or the one asked for does not; the text says why and what to do."""


class LevelUnavailable(Exception):
    """One level does not work here; the text is the reason."""


class WorkerFault(Exception):
    """A sandbox process that did not do its part; says nothing about the program it was given."""


class BrokenProtocol(WorkerFault):
    """A verdict without the program's nonce, or more than one: somebody other than the judge wrote it."""

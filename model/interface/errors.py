"""What the engine raises, and the checks that raise it."""

from __future__ import annotations

from numbers import Integral, Real


class EngineError(Exception):
    """Any failure the engine reports; its text is one sentence a user can act on."""


class InvalidRequest(EngineError):
    """A parameter or prompt breaks a rule; the text names the value, the rule and what to do."""


class ContextLengthExceeded(InvalidRequest):
    """The prompt (plus what was asked for) cannot fit.

    Attributes:
        num_prompt_tokens: tokens in the prompt.
        limit: the most tokens a prompt may have here.
    """

    def __init__(self, num_prompt_tokens: int, limit: int, *, reason: str = "the context length") -> None:
        super().__init__(f"the prompt has {num_prompt_tokens} tokens but {reason} allows at most {limit}: shorten it")
        self.num_prompt_tokens = num_prompt_tokens
        self.limit = limit


class EngineClosed(EngineError):
    """The engine was closed, or its loop failed; no further request is taken."""


def require(condition: bool, name: str, value: object, rule: str) -> None:
    """Raise InvalidRequest with the name, the value and the rule unless the condition holds."""
    if not condition:
        raise InvalidRequest(f"{name}={value!r} is not allowed: {name} must be {rule}")


def is_real(value: object) -> bool:
    """Whether it is a number, and not NaN or a bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


def is_integer(value: object) -> bool:
    """Whether it is a whole number and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)

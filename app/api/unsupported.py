"""Fields of other servers' APIs that would change the answer and are not done here: refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.api.errors import ApiError

UNSUPPORTED = {
    "suffix": "these models only continue a text",
    "tools": "these models call no tools",
    "tool_choice": "these models call no tools",
    "functions": "these models call no functions",
    "function_call": "these models call no functions",
    "response_format": "answers are free text",
    "audio": "answers are text",
    "web_search_options": "nothing is looked up",
    "guided_json": "answers are free text",
    "guided_regex": "answers are free text",
    "guided_choice": "answers are free text",
    "guided_grammar": "answers are free text",
    "structured_outputs": "answers are free text",
    "use_beam_search": "answers are sampled",
    "truncate_prompt_tokens": "prompts are used as they are",
    "min_tokens": "an answer may end at any place",
}
"""Name, and why not."""

_NEUTRAL: tuple[Any, ...] = (None, False, 0, "", "none", "auto", [], {}, {"type": "text"})


def refuse_unsupported(content: Mapping[str, Any]) -> None:
    """Raise unless every such field is absent or asks for nothing.

    Raises:
        ApiError: 400, naming the field.
    """
    for name, reason in UNSUPPORTED.items():
        if name not in content or any(content[name] == neutral for neutral in _NEUTRAL):
            continue
        if name == "min_tokens" and content.get("ignore_eos") is True:
            continue  # the answer goes on to max_tokens in any case
        raise ApiError(
            400, f"{name} is not supported: {reason}; leave it out", param=name, code="unsupported_parameter"
        )
    modalities = content.get("modalities")
    if modalities not in (None, [], ["text"]):
        raise ApiError(400, "modalities is not supported beyond ['text']: leave it out", param="modalities")

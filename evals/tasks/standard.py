"""What lm-eval's own forms of MMLU and WinoGrande ask, on rows in our columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def mmlu_text(doc: Mapping[str, Any]) -> str:
    """lm_eval/tasks/mmlu/default: each subject is a task there, with its name in the description."""
    subject = " ".join(doc["subject"].split("_"))
    choices = zip(doc["choices"]["label"], doc["choices"]["text"], strict=True)
    return (
        f"The following are multiple choice questions (with answers) about {subject}.\n\n{doc['question'].strip()}\n"
        + "".join(f"{label}. {text}\n" for label, text in choices)
        + "Answer:"
    )


def winogrande_text(doc: Mapping[str, Any]) -> int:
    """lm_eval/tasks/winogrande: the place of the right beginning; what is scored is the rest of the sentence."""
    return {"1": 0, "2": 1}[doc["answer"]]


def winogrande_target(doc: Mapping[str, Any]) -> str:
    """The sentence after its blank."""
    return str(doc["sentence"][doc["sentence"].index("_") + 1 :].strip())


def winogrande_choices(doc: Mapping[str, Any]) -> list[str]:
    """The sentence up to its blank, with either word in it."""
    begin = doc["sentence"][: doc["sentence"].index("_")]
    return [begin + doc["option1"], begin + doc["option2"]]

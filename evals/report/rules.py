"""What the announcement does not say and what is done here: in short beside every table, and in full (`rules.md`) at
the page's end."""

from __future__ import annotations

from pathlib import Path

from evals.report.blocks import Block, Heading, Text

_RULES = Path(__file__).parent / "rules.md"
_LETTER = (
    "greedy, at most 8 tokens up to the first newline after the first character that is not blank; the first "
    "stand-alone letter among those offered is the answer, else it is unreadable and wrong"
)
_LIKELIHOOD = "0-shot; the likeliest choice is the answer (`acc`)"

TASK_RULES = {
    "adept_mmlu": f"1-shot, the shot of the same subject; {_LETTER}.",
    "adept_winogrande": f"1-shot; {_LETTER.replace('letter among', 'digit among')}.",
    "adept_arc_easy": f"1-shot; {_LETTER}.",
    "adept_arc_challenge": f"1-shot; {_LETTER}.",
    "adept_triviaqa": "1-shot; greedy, at most 32 tokens up to a newline; right is what equals the value or an alias "
    "after TriviaQA's own normalisation (case, articles, punctuation, white space).",
    "adept_humaneval": "1-shot, the shot another problem; greedy, at most 512 tokens up to a new top-level statement; "
    "pass@1 on the functional tests, in the sandbox; in a chat format the code block is taken.",
    "likelihood_mmlu": f"{_LIKELIHOOD}.",
    "likelihood_winogrande": f"{_LIKELIHOOD}: how likely the rest of the sentence is after either word.",
    "likelihood_arc_easy": f"{_LIKELIHOOD}, or the likeliest per character (`acc_norm`).",
    "likelihood_arc_challenge": f"{_LIKELIHOOD}, or the likeliest per character (`acc_norm`).",
    "standard_triviaqa": "0-shot; greedy up to a newline, full stop or comma; right is what equals an alias but for "
    "case and punctuation.",
    "standard_humaneval": "0-shot; greedy, at most 1024 tokens up to a new top-level statement; pass@1 on the "
    "functional tests, in the sandbox; in a chat format the code block is taken.",
}
SUITE_RULES = {
    "adept": "Greedy; one shot per item, fixed by a hash of the item's id; answers are read from text, and what cannot "
    "be read is wrong. TriviaQA after its own normalisation; HumanEval pass@1 in the sandbox. No BOS for Persimmon and "
    "MPT, `<s>` for Llama.",
    "likelihood": "The forms of lm-eval, 0-shot: `acc` takes the likeliest choice, `acc_norm` the likeliest per "
    "character. TriviaQA and HumanEval are generated, greedy. No BOS for Persimmon and MPT, `<s>` for Llama.",
}


def rules_blocks() -> list[Block]:
    """The section at the page's end."""
    return [Heading(2, "Rules"), Text(_RULES.read_text(encoding="utf-8").strip())]

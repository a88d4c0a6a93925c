"""What the announcement does not say and what is done here: in short beside every table, in full at the page's end.

A test holds the figures here against the task files.
"""

from __future__ import annotations

from evals.report.blocks import Block, Heading, Text

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
RULES = """\
### Adept's comparison (`adept_*`)

The prompts are Adept's own
([prompts.md](https://github.com/persimmon-ai-labs/adept-inference/blob/fc8edb0dab183f7f8852005cc89b8f8b4640a89e/prompts.md),
Apache-2.0), to the letter: 1-shot, and the answer is generated as text. What the source does not say, and what is done
here:

| open point | rule |
| :--- | :--- |
| decoding | greedy |
| the shot | one per item, fixed by a hash of the run's seed and the item's id, never a row with the item's own id or text. From the Hub: MMLU from dev, of the same subject; ARC, WinoGrande and TriviaQA from train; HumanEval another problem. From a folder: from its shot file, or else from 16 rows (MMLU: one of each subject) that are then never scored |
| stopping | MMLU, ARC, WinoGrande: the first newline after the first character that is not blank, so that an answer may follow a newline; TriviaQA: newline; HumanEval: a new top-level statement (`class`, `def`, `#`, `if`, `print`, `assert` at a line's start); the end of the document always |
| length | 8 tokens for letters and digits, 32 for TriviaQA, 512 for HumanEval; an answer cut there is counted as truncated |
| reading the answer | the first stand-alone letter or digit among those offered; else the item is wrong and counted as unreadable |
| TriviaQA | equal to the value or an alias after the dataset's own normalisation (case, articles, punctuation, white space) |
| HumanEval | pass@1 of one greedy answer on the functional tests, in the sandbox; a fault of the sandbox is a failed item, not a wrong answer |
| HumanEval in a chat format | no stop strings; the code block that defines the function takes the place of the prompt's; else a block the answer begins with is the body; else the answer up to a new top-level statement |
| BOS | Persimmon: none, as Adept's server; Llama: `<s>`; MPT: none |
| chat models | both ways, as two rows: the raw prompt, and wrapped in the model's chat format |
| rotary positions | float32 as Hugging Face computes them, bfloat16 as Adept's server did: two settings, in each row |

### lm-eval's own forms (`likelihood_*`, `standard_*`)

0-shot, with lm-eval's prompts. `acc` takes the likeliest choice, `acc_norm` the likeliest per character; WinoGrande's
choices are scored by the rest of the sentence. TriviaQA is generated up to a newline, full stop or comma and compared
but for case and punctuation; HumanEval is generated (at most 1024 tokens) and run in the sandbox.

### All tables

- **Intervals** 95 %: Wilson's, or a clustered standard error with Student's t where items share a unit, as MMLU's
  subjects. Undefined is –, never 0.
- **n** items that were scored. **unreadable** and **truncated** are among them and mostly wrong; **failed** items have
  no answer (a request or the sandbox failed), and a run that has some is not complete.
- **Chance** is guessing evenly among an item's choices. A warning (†) stands where every answer is the same, where a
  score's interval holds chance or ends below it, and where prompts were cut.
- **Comparisons** are paired, item by item: McNemar's exact test, adjusted after Holm over the table; nothing is bold
  unless the adjusted p is below 0.05 and the difference's interval leaves out 0. "Detectable" is the paired difference
  found with 80 % power, before adjustment (Miller 2024, [arXiv:2411.00640](https://arxiv.org/abs/2411.00640)).
- Scores share a table only if they are over the very same items (SHA-256 of all of them), and only complete runs have
  scores in tables, plots and `leaderboard.csv`. Of several complete runs with the same model, settings, prompts and
  items the latest is shown.
"""


def rules_blocks() -> list[Block]:
    """The section at the page's end."""
    return [Heading(2, "Rules"), Text(RULES)]

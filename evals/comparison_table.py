"""What `evals.comparison` found, for a reader: percentages, and bold only what is no chance."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import pandas as pd

from evals.export import EMPTY, escape_markdown, to_csv, to_latex, to_markdown

SIGNIFICANCE = 0.05
LONGEST_ANSWER = 120  # characters of an answer shown in a list of items
Form: TypeAlias = Literal["markdown", "csv", "latex"]

NOTES = """\
Over the items both answered. Intervals are 95 %: Wilson's for a score and Bonett and Price's for a paired difference,
or clustered standard errors where items share a unit, as MMLU's subjects. p is McNemar's exact test, adjusted after
Holm over the table; a difference and the better score are bold only where the adjusted p is below 0.05 and the
interval leaves out 0. "Detectable" is the difference found with 80 % power, before adjustment, at the share of items
that differ here.
"""


def comparison_table(compared: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The texts of a comparison and, of the same shape, which of them are bold.

    Args:
        compared: from :func:`evals.comparison.compare`.
    """
    rows = compared.to_dict("records")
    significant = [is_significant(row) for row in rows]
    table = pd.DataFrame(
        {
            "task": [row["task"] for row in rows],
            "metric": [row["metric"] for row in rows],
            "n": [f"{row['n']} in {row['clusters']} clusters" if row["clusters"] else str(row["n"]) for row in rows],
            "A %": [_score(row, "a") for row in rows],
            "B %": [_score(row, "b") for row in rows],
            "A - B, points": [_difference(row) for row in rows],
            "only A right": [str(row["only_a"]) for row in rows],
            "only B right": [str(row["only_b"]) for row in rows],
            "p": [_p_value(row["p_value"]) for row in rows],
            "p adjusted": [_p_value(row["p_adjusted"]) for row in rows],
            "detectable, points": [_percent(row["detectable"]) for row in rows],
            **{f"{name} A, B": [_counts(row, name) for row in rows] for name in ("unreadable", "truncated")},
            **{f"{name} A, B": [_counts(row, name) for row in rows] for name in ("failed", "missing")},
            "warning": [row["warning"] for row in rows],
        },
        dtype=object,
    )
    bold = pd.DataFrame(False, index=table.index, columns=table.columns)
    bold["A %"] = [sure and row["difference"] > 0 for row, sure in zip(rows, significant, strict=True)]
    bold["B %"] = [sure and row["difference"] < 0 for row, sure in zip(rows, significant, strict=True)]
    bold["A - B, points"] = significant
    return table, bold


def is_significant(row: Any) -> bool:
    """Whether a row of a comparison shows a difference: adjusted p below 0.05, and 0 outside the interval.

    The second matters for clustered items, whose interval is more careful than McNemar's test; where the interval is
    undefined nothing is shown.
    """
    return bool(row["p_adjusted"] < SIGNIFICANCE and (row["difference_low"] > 0 or row["difference_high"] < 0))


def render_comparison(compared: pd.DataFrame, *, name_a: str, name_b: str, form: Form = "markdown") -> str:
    """A comparison as text: Markdown and LaTeX for reading, CSV with all numbers in full and as fractions of 1.

    Args:
        name_a, name_b: what A and B stand for; CSV leaves them out.

    Raises:
        ValueError: there is no such form.
    """
    if form == "csv":
        return to_csv(compared)
    table, bold = comparison_table(compared)
    if form == "latex":
        return to_latex(table, bold=bold, caption=f"A: {name_a}. B: {name_b}. {NOTES}")
    if form == "markdown":
        names = f"A: {escape_markdown(name_a)}. B: {escape_markdown(name_b)}."
        return f"{names}\n\n{to_markdown(table, bold=bold)}\n{NOTES}"
    raise ValueError(f"form={form!r} is not allowed: it must be markdown, csv or latex")


def render_differing_items(items: pd.DataFrame, *, form: Form = "markdown") -> str:
    """The items on which two models differ, as text; only CSV has answers longer than `LONGEST_ANSWER` in full.

    Args:
        items: from :func:`evals.comparison.differing_items`.

    Raises:
        ValueError: there is no such form.
    """
    if form == "csv":
        return to_csv(items)
    names = {"item_id": "item", "right": "only right", "answer_a": "answer of A", "answer_b": "answer of B"}
    table = items.assign(answer_a=items["answer_a"].map(_shorten), answer_b=items["answer_b"].map(_shorten))
    if form == "latex":
        return to_latex(table.rename(columns=names))
    if form == "markdown":
        return to_markdown(table.rename(columns=names))
    raise ValueError(f"form={form!r} is not allowed: it must be markdown, csv or latex")


def _score(row: Any, side: str) -> str:
    return f"{_percent(row[f'score_{side}'])}{_interval(row[f'score_{side}_low'], row[f'score_{side}_high'])}"


def _difference(row: Any) -> str:
    shown = _percent(row["difference"], sign="+")
    return f"{shown}{_interval(row['difference_low'], row['difference_high'], sign='+')}"


def _interval(low: float, high: float, *, sign: str = "") -> str:
    return "" if low != low else f" ({_percent(low, sign=sign)} to {_percent(high, sign=sign)})"


def _percent(share: float, *, sign: str = "") -> str:
    if share != share:
        return EMPTY
    shown = f"{100 * share:{sign}.1f}"
    return "0.0" if float(shown) == 0 else shown  # no sign where nothing is left after rounding


def _p_value(p: float) -> str:
    if p != p:
        return EMPTY
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _counts(row: Any, name: str) -> str:
    return f"{row[f'{name}_a']}, {row[f'{name}_b']}"


def _shorten(answer: str) -> str:
    return answer if len(answer) <= LONGEST_ANSWER else f"{answer[: LONGEST_ANSWER - 1]}…"

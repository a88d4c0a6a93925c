"""Tables as Markdown, CSV and LaTeX. Cells may hold what a model wrote, so nothing in them is taken as markup.

Numbers are written as they are, texts escaped, and what is undefined is a dash (CSV: an empty field). White space and
control characters in a text become one space, except in CSV, which keeps them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from typing import Any

import pandas as pd

EMPTY = "–"

# What spreadsheets take as the beginning of a formula:
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
# `_` inside a word is no emphasis and `<` before a digit no tag: names and numbers stay readable. `$` begins
# mathematics on GitHub.
_MARKDOWN = re.compile(r"[\\`*\[\]|~&$]|<(?=[A-Za-z/!?])|(?<![^\W_])_|_(?![^\W_])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    # A row that began with one of these would be read as an argument of the row end before it.
    "[": "{[}",
    "*": "{*}",
}


def to_markdown(table: pd.DataFrame, *, bold: pd.DataFrame | None = None) -> str:
    """A GitHub Markdown table.

    Args:
        bold: of the table's shape, true where a cell is bold.

    Raises:
        ValueError: `bold` has another shape.
    """
    text = _cells(table, bold, escape=escape_markdown, embolden="**{}**")
    return text.to_markdown(index=False, disable_numparse=True) + "\n"


def to_latex(table: pd.DataFrame, *, bold: pd.DataFrame | None = None, caption: str | None = None) -> str:
    r"""A LaTeX `tabular`, in a `table` where there is a caption; it needs `\usepackage{booktabs}` and T1 fonts.

    Args:
        bold: of the table's shape, true where a cell is bold.
        caption: plain text.

    Raises:
        ValueError: `bold` has another shape.
    """
    text = _cells(table, bold, escape=escape_latex, embolden=r"\textbf{{{}}}")
    columns = "".join("r" if _is_numeric(table.iloc[:, place]) else "l" for place in range(len(table.columns)))
    title = None if caption is None else escape_latex(caption)
    return text.to_latex(index=False, escape=False, column_format=columns, caption=title)


def to_csv(table: pd.DataFrame) -> str:
    """Comma-separated values with a header, texts in quotes, numbers in full.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, unless it is a number.
    """
    guarded = table.map(_guard)
    guarded.columns = pd.Index([_guard(str(name)) for name in table.columns])
    return guarded.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")


def escape_markdown(text: str) -> str:
    """`text` for one cell of a Markdown table."""
    return _MARKDOWN.sub(r"\\\g<0>", _one_line(text))


def escape_latex(text: str) -> str:
    """`text` for one cell of a LaTeX table."""
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def _one_line(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def _guard(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def _is_numeric(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _cells(
    table: pd.DataFrame, bold: pd.DataFrame | None, *, escape: Callable[[str], str], embolden: str
) -> pd.DataFrame:
    """The table as escaped texts."""
    if bold is not None and bold.shape != table.shape:
        raise ValueError(f"bold has the shape {bold.shape} but the table {table.shape}: each cell needs one mark")
    rows = [
        [
            embolden.format(text) if bold is not None and bool(bold.iat[row, column]) and text != EMPTY else text
            for column, text in enumerate(EMPTY if _is_empty(cell) else escape(str(cell)) for cell in cells)
        ]
        for row, cells in enumerate(table.itertuples(index=False, name=None))
    ]
    return pd.DataFrame(rows, columns=[escape(str(name)) for name in table.columns], dtype=object)


def _is_empty(cell: Any) -> bool:
    return cell is None or cell is pd.NA or cell != cell or (isinstance(cell, str) and not _one_line(cell))

"""Tables as CSV that a spreadsheet shows and never runs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

CsvCell: TypeAlias = str | int | float | bool | None

# What spreadsheets take as the beginning of a formula, with the full-width forms and the newline:
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[CsvCell]]) -> str:
    """Comma-separated values with a header, as RFC 4180 has them.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, unless it is a number. `None` and NaN
    are empty fields: what is undefined is not 0.

    Raises:
        ValueError: a row has another number of cells than there are columns.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # ends rows with \r\n, so that both characters are quoted inside a cell
    writer.writerow([guarded(name) for name in columns])
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row has {len(row)} cells but there are {len(columns)} columns")
        writer.writerow([guarded(cell) for cell in row])
    return text.getvalue()


def guarded(cell: CsvCell) -> CsvCell:
    """The cell as it may stand in a CSV file."""
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell

"""Tables in other formats: nothing a model wrote becomes markup or a formula."""

from __future__ import annotations

import csv
import io
import math
import re

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from evals.export import FORMULA_STARTS, escape_latex, escape_markdown, to_csv, to_latex, to_markdown

TEXT = st.text(max_size=30)
NASTY = [
    "a|b",
    "x\\|y",
    "*bold* _it_ __init__",
    "<b>&amp;</b>",
    "`code`",
    "[a](b)",
    "two\nlines\r\n\there",
    "\\",
    "$x$",
]


def cells(markdown: str) -> list[list[str]]:
    """The texts of a Markdown table's cells, as a Markdown reader sees them; fails on any markup inside."""
    rows: list[list[str]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            children = token.children or []
            assert all(child.type == "text" for child in children), [child.type for child in children]
            rows[-1].append("".join(child.content for child in children))
    return rows


@settings(deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=3))
@example(NASTY)
def test_markdown_shows_what_was_there(texts: list[str]) -> None:
    table = pd.DataFrame({"item_id": [str(number) for number in range(len(texts))], "a|b": texts})
    header, *rows = cells(to_markdown(table))
    assert header == ["item_id", "a|b"]
    spaced = [re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text).strip() or "–" for text in texts]
    assert [row[1] for row in rows] == spaced


def test_markdown_keeps_names_readable() -> None:
    assert escape_markdown("adept_arc_easy") == "adept_arc_easy"
    assert escape_markdown("<0.001") == "<0.001"
    assert escape_markdown("__init__") == r"\_\_init\_\_"


def test_undefined_and_bold() -> None:
    table = pd.DataFrame({"n": [1, 2, 3], "score": [0.5, math.nan, None], "text": ["", "x_", None]})
    bold = pd.DataFrame({"n": [False] * 3, "score": [True] * 3, "text": [False, True, True]})
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in to_markdown(table, bold=bold).split("\n")
    ]
    assert lines[2:5] == [["1", "**0.5**", "–"], ["2", "–", r"**x\_**"], ["3", "–", "–"]]
    latex = to_latex(table, bold=bold)
    assert r"1 & \textbf{0.5} & – \\" in latex
    assert r"2 & – & \textbf{x\_} \\" in latex
    with pytest.raises(ValueError, match="each cell needs one mark"):
        to_markdown(table, bold=bold[["n"]])


def test_latex_specials() -> None:
    assert escape_latex("50 % of $x_1$ & #2") == r"50 \% of \$x\_1\$ \& \#2"
    assert escape_latex("\\{a}^~") == r"\textbackslash{}\{a\}\textasciicircum{}\textasciitilde{}"
    assert escape_latex("a\n\nb") == "a b"
    latex = to_latex(pd.DataFrame({"a_b": ["[1]", "*"], "n": [1, 2]}), caption="100 %")
    assert r"\caption{100 \%}" in latex
    assert r"\begin{tabular}{lr}" in latex
    assert "a\\_b & n \\\\" in latex
    assert "{[}1] & 1 \\\\\n{*} & 2 \\\\" in latex


@settings(deadline=None)
@given(TEXT)
def test_latex_leaves_no_command_of_the_text(text: str) -> None:
    """Without the commands escaping writes, no character with a meaning to TeX is left."""
    written = escape_latex(text)
    rest = re.sub(r"\\text[a-z]+\{\}|\\[{}$&%#_]|\{[\[*]\}", "", written)
    assert not set(rest) & set("\\{}$&%#_~^\n")


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
@example([("a\rb", 'say "x"'), ("=1+1", ",;\n")])
def test_csv_reads_back_and_holds_no_formula(rows: list[tuple[str, str]]) -> None:
    table = pd.DataFrame(rows, columns=["left", "=right"])
    header, *read = csv.reader(io.StringIO(to_csv(table), newline=""))
    assert header == ["left", "'=right"]
    assert [[cell.removeprefix("'") for cell in row] for row in read] == [
        [cell.removeprefix("'") for cell in row] for row in rows
    ]
    for cell in (cell for row in read for cell in row):
        assert not cell.startswith(FORMULA_STARTS) or re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", cell)


@pytest.mark.parametrize("cell", ["=1+1", "+A1", "-A1", "@SUM(A1)", "\tx", "\rx", "-1+2", "-inf", "+1_0", "＝1", "-"])
def test_csv_guards_formulas(cell: str) -> None:
    assert f'"\'{cell}"' in to_csv(pd.DataFrame({"a": [cell]}))


@pytest.mark.parametrize("cell", ["-1.5", "+3", "-1e-05", "12", "a=b", "'x"])
def test_csv_leaves_the_rest(cell: str) -> None:
    assert to_csv(pd.DataFrame({"a": [cell]})) == f'"a"\n"{cell}"\n'


def test_csv_numbers_are_exact() -> None:
    table = pd.DataFrame({"n": [-1, 2], "share": [1 / 3, math.nan]})
    assert to_csv(table) == f'"n","share"\n-1,{1 / 3!r}\n2,""\n'


def test_tables_without_rows() -> None:
    empty = pd.DataFrame(columns=["task", "n"])
    assert cells(to_markdown(empty)) == [["task", "n"]]
    assert to_csv(empty) == '"task","n"\n'
    assert "task & n" in to_latex(empty)

"""Rows of files: every line is accounted for, whatever is wrong with it."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.classify.lines import MAX_LINE_BYTES
from app.classify.rows import Format, Row, Table
from model.interface import InvalidRequest


def read(content: bytes, format: Format = "csv", column: str = "text", **options: str) -> list[Row]:
    return list(Table(io.BufferedReader(io.BytesIO(content)), format=format, **options).rows(column))


def seen(rows: list[Row]) -> list[tuple[int, str | None, str]]:
    return [(row.line, row.text, row.problem) for row in rows]


def test_csv_with_quotes_line_ends_and_a_byte_order_mark() -> None:
    content = '\ufeffid;text\r\n1;"a; ""b""\r\nsecond line"\r\n\r\n2;Größe\r\n'.encode()
    table = Table(io.BufferedReader(io.BytesIO(content)), format="csv")
    assert table.columns == ("id", "text")
    assert table.has_bom
    rows = list(table.rows())
    assert seen(rows) == [(2, 'a; "b"\r\nsecond line', ""), (5, "Größe", "")]
    assert rows[0].cells == {"id": "1", "text": 'a; "b"\r\nsecond line'}
    assert rows[-1].end == len(content)


def test_bad_csv_rows_are_told_by_line_and_cost_no_others() -> None:
    content = b"".join(
        (
            b"id,text\n",
            b"1,good\n",
            b"2,\n",  # 3
            b"3\n",
            b"4,a,b\n",
            b"5,caf\xe9\n",
            b'6,"closed"too early\n',  # 7
            b"7,good\n",
            b'8,"never closed\n',  # 9
            b"9," + b"x" * MAX_LINE_BYTES + b"\n",  # 10
            b"10,good\n",
        )
    )
    rows = read(content)
    assert [(row.line, row.problem) for row in rows] == [
        (2, ""),
        (3, "the text is empty"),
        (4, "it has 1 fields but the header has 2"),
        (5, "it has 3 fields but the header has 2"),
        (6, "it is not utf-8: byte 0xE9 after '5,caf'"),
        (7, "text follows a closing quote without a delimiter between"),
        (8, ""),
        (9, "a quote is opened and not closed"),
        (10, "the line is longer than 1,048,576 bytes"),
        (11, ""),
    ]
    assert rows[4].cells == {"text": "5,caf\ufffd"}
    assert rows[5].cells == {"text": '6,"closed"too early'}
    assert len(rows[8].cells["text"]) == 1000


def test_another_encoding_is_chosen_by_name() -> None:
    assert read("text\ncafé\n".encode("cp1252"), encoding="cp1252")[0].text == "café"
    with pytest.raises(InvalidRequest, match="encoding='utf-7' is not allowed"):
        read(b"text\n", encoding="utf-7")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n", "the first line is blank"),
        (b"a,a\n1,2\n", "names the column 'a' 2 times"),
        (b"a,b\n1,2\n", "column 'text' is not there: the columns are a, b"),
        ("text\na\n".encode("utf-16"), "save it as UTF-8"),
        (b"PK\x03\x04\0\0", "save it as UTF-8"),
        (b"te\xffxt\n", "the header in line 1 cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(content: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read(content)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter: str) -> None:
    lines = [
        ("id", "text"),
        ("1", '"one, two; three | four"'),
        ("2", "plain, with a comma" if delimiter != "," else "x"),
    ]
    content = "\n".join(delimiter.join(line) for line in lines).encode()
    assert [row.problem for row in read(content)] == ["", ""]


def test_one_column_needs_no_delimiter() -> None:
    assert seen(read(b"text\nhello\n\nworld\n")) == [(2, "hello", ""), (3, None, "the text is empty"), (4, "world", "")]


def test_jsonl_rows() -> None:
    lines = [
        '{"text": "good", "id": 1}',
        "",
        '{"text": 5}',
        '{"txt": "a"}',
        "[1]",
        "{",
        '{"text": null}',
        '{"text": "\\ud800"}',
        '{"text": "a\\u0000b"}',
        "[" * 100_000,
    ]
    rows = read("\n".join(lines).encode(), "jsonl")
    assert seen(rows) == [
        (1, "good", ""),
        (3, None, "the text is a JSON number: put it in quotes"),
        (4, None, "it has no column 'text'"),
        (5, None, "it is a JSON list, not an object with columns"),
        (6, None, "it is not JSON (Expecting property name enclosed in double quotes at character 2)"),
        (7, None, "the text is empty"),
        (8, None, "it has half of a surrogate pair, which is no character"),
        (9, None, "it holds a NUL character, so it is no text"),
        (10, None, "it is nested too deeply"),
    ]
    assert rows[0].cells == {"text": "good", "id": 1}


def test_lines_of_text() -> None:
    assert seen(read(b"one\r\n\ntwo", "text")) == [(1, "one", ""), (2, None, "the text is empty"), (3, "two", "")]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)] * 2), max_size=8)
)
def test_what_python_writes_is_read_back(rows: list[tuple[str, str]]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([("id", "text"), *rows])
    got = read(stream.getvalue().encode(), delimiter=",")
    assert [tuple(row.cells.values()) for row in got] == rows
    lines = "".join(json.dumps({"id": one, "text": text}) + "\n" for one, text in rows)
    assert [tuple(row.cells.values()) for row in read(lines.encode(), "jsonl")] == rows


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line and b"\0" not in line), max_size=12))
def test_no_line_is_lost_whatever_the_bytes(lines: list[bytes]) -> None:
    """Every line that is not blank belongs to exactly one row."""
    content = b"id,text\n" + b"\n".join(lines)
    ends = [place + 1 for place, byte in enumerate(content) if byte == 10] + [len(content)]
    starts = [0, *ends[:-1]]
    rows = read(content, delimiter=",")
    owners = [
        [row.line for row in rows if starts[row.line - 1] <= start and end <= row.end and start < row.end]
        for start, end in zip(starts, ends, strict=True)
    ]
    for line, owned in zip(content.split(b"\n")[1:], owners[1:], strict=True):
        assert len(owned) == 1 if line.strip(b"\r") else len(owned) <= 1

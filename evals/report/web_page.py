"""Blocks as one HTML page that asks for nothing from outside, and may not: see `POLICY`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt

from evals.report.blocks import Block, Heading, Plots, Table, Text
from evals.report.slugs import Slugs
from evals.report.web_table import html_table

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
_FOLDER = Path(__file__).parent
# Neither HTML nor pictures: what stands in the text as such is shown as text.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
_FILTER = """\
<div class="filter" role="search" aria-label="Rows of all tables" hidden>
<label>Model <input id="filter-model" type="search" placeholder="all" autocomplete="off"></label>
<label>Source of items <input id="filter-source" type="search" placeholder="all" autocomplete="off"></label>
<output id="filter-count" for="filter-model filter-source"></output>
</div>"""


def to_html(blocks: Sequence[Block]) -> str:
    """One page, with contents from the headings of level 2."""
    slugs = Slugs()
    parts, contents = [], []
    for block in blocks:
        if isinstance(block, Heading):
            slug = slugs.of(_plain(block.text))
            inside = _MARKDOWN.renderInline(block.text)
            parts.append(f'<h{block.level} id="{slug}">{inside}</h{block.level}>')
            if block.level == 1:
                parts.append("<!-- contents -->")
            if block.level == 2:
                contents.append(f'<li><a href="#{slug}">{inside}</a></li>')
        elif isinstance(block, Text):
            parts.append(_text(block.markdown))
        elif isinstance(block, Table):
            parts.append(html_table(block))
        else:
            parts.append(_plots(block))
    navigation = f'<nav aria-label="Contents"><ul>\n{chr(10).join(contents)}\n</ul></nav>\n{_FILTER}'
    body = "\n".join(parts).replace("<!-- contents -->", navigation, 1)
    return _document(body)


def _document(body: str) -> str:
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>Results</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
<script>
{script}</script>
</body>
</html>
"""


def _plots(block: Plots) -> str:
    return block.html


def _text(markdown: str) -> str:
    """Text as HTML. Its tables scroll by themselves; a `<table` of the text's own would be escaped."""
    html: str = _MARKDOWN.render(markdown).rstrip("\n")
    html = html.replace("<th>", '<th scope="col">').replace("<th style", '<th scope="col" style')
    html = html.replace("<table>", '<div class="scroll" role="region" aria-label="Table" tabindex="0">\n<table>')
    return html.replace("</table>", "</table>\n</div>")


def _plain(markdown: str) -> str:
    """The words of a heading."""
    tokens = _MARKDOWN.parseInline(markdown)[0].children or []
    return "".join(token.content for token in tokens)

"""`results/`, rendered from the records alone: the same records give the same bytes.

Read `page.py` first: it puts the sections in order. A section makes blocks (`blocks.py`), which `markdown.py` and
`web_page.py` turn into `README.md` and `index.html`; `table_files.py` makes `leaderboard.csv` and `leaderboard.tex`,
and `leaderboard_json.py` what the app reads.
"""

from evals.report.markdown import to_markdown
from evals.report.page import Sources, no_items, page
from evals.report.records import read_records, read_sources
from evals.report.write import render, render_files, write_report

__all__ = [
    "Sources",
    "no_items",
    "page",
    "read_records",
    "read_sources",
    "render",
    "render_files",
    "to_markdown",
    "write_report",
]

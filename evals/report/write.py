"""The report's files: rendered, written, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from evals.errors import EvaluationError
from evals.record import RunRecord
from evals.reference_figures import ReferenceFigure, load_reference_figures
from evals.report.boards import make_boards
from evals.report.entries import entries_of, shown
from evals.report.gpu import gpu_files
from evals.report.leaderboard_json import leaderboard_json
from evals.report.markdown import to_markdown
from evals.report.page import Sources, no_items, page
from evals.report.pairs import Items
from evals.report.records import read_sources
from evals.report.table_files import leaderboard_csv, leaderboard_tex
from evals.report.web_page import to_html

PAGE = "README.md"


def render(
    records: Iterable[RunRecord],
    *,
    items: Items = no_items,
    figures: Sequence[ReferenceFigure] | None = None,
    measurements: Sequence[str] = (),
) -> str:
    """The Markdown page of these records.

    Args:
        items: gives a run's items, which are compared; without it nothing is.
        figures: published ones; `None` for those of the project.
        measurements: further sections, see :class:`evals.report.Sources`.

    Raises:
        EvaluationError: items or figures cannot be read, or items do not fit.
    """
    chosen = load_reference_figures() if figures is None else tuple(figures)
    sources = Sources(records=tuple(records), items=items, figures=chosen, measurements=tuple(measurements))
    return render_files(sources)[PAGE]


def render_files(sources: Sources) -> dict[str, str]:
    """Every file's text by its name: the same sources give the same bytes.

    Raises:
        EvaluationError: items cannot be read or do not fit.
    """
    blocks = page(sources)
    boards = make_boards(shown(entries_of(sources.records)))
    return {
        PAGE: to_markdown(blocks),
        "index.html": to_html(blocks),
        "leaderboard.csv": leaderboard_csv(boards),
        "leaderboard.tex": leaderboard_tex(boards),
        "leaderboard.json": leaderboard_json(boards, sources.figures),
        **({} if sources.gpu is None else gpu_files(sources.gpu)),
    }


def write_report(output: Path) -> list[Path]:
    """Render everything into `output`, and read it back.

    Raises:
        EvaluationError: a record cannot be read, or a file was not written.
    """
    written = []
    for name, text in render_files(read_sources(output)).items():
        path = output / name
        content = text.encode("utf-8")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            found = path.read_bytes()
        except OSError as error:
            raise EvaluationError(f"{path} cannot be written ({error.strerror}): choose another --output") from None
        if found != content:
            raise EvaluationError(f"{path} does not read back as it was written: check the disk and run again")
        written.append(path)
    return written

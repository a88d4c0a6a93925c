"""The README's table is that of the recorded runs."""

from __future__ import annotations

import csv
from pathlib import Path

from evals.model_names import bundled_checkpoints
from evals.tasks.items import BENCHMARKS

ROOT = Path(__file__).parents[1]


def test_table_of_the_demonstration_world() -> None:
    with (ROOT / "results" / "leaderboard.csv").open(encoding="utf-8", newline="") as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if (row["suite"], row["data_source"], row["backend"], row["chat_format"]) == ("adept", "demo", "engine", "")
        ]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in bundled_checkpoints():
        scores = {
            row["benchmark"]: [100 * float(row[key]) for key in ("score", "low", "high")]
            for row in rows
            if row["model"] == name
        }
        cells = [f"{score:.1f} ({low:.1f} to {high:.1f})" for score, low, high in (scores[each] for each in BENCHMARKS)]
        assert f"| {name} | {' | '.join(cells)} |" in text

"""Confusion matrix and calibration curve of a measurement, as CSV files and as pictures."""

from __future__ import annotations

import csv
from pathlib import Path

from model.finetune.classify.measure import Measurement

MOST_NUMBERED = 15
"""Labels up to which the cells of the confusion matrix have their numbers written in."""


def write_tables(folder: Path, measured: Measurement) -> None:
    """`confusion.csv` (a row a label, a column an answer) and `calibration.csv` (a row a bin)."""
    names = [figures.label for figures in measured.labels]
    with (folder / "confusion.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["label", *names])
        table.writerows([name, *row] for name, row in zip(names, measured.confusion, strict=True))
    if measured.calibration is None:
        return
    with (folder / "calibration.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["low", "high", "count", "confidence", "accuracy", "accuracy_low", "accuracy_high"])
        for one in measured.calibration.bins:
            accuracy = one.accuracy
            table.writerow([one.low, one.high, one.count, one.confidence, accuracy.value, accuracy.low, accuracy.high])


def draw(folder: Path, measured: Measurement) -> None:
    """`confusion.png` and `calibration.png`."""
    draw_confusion(folder / "confusion.png", measured)
    draw_calibration(folder / "calibration.png", measured)


def draw_confusion(path: Path, measured: Measurement) -> None:
    """Shares of each label's texts, with the counts written in where there are few labels."""
    import numpy as np
    from matplotlib.figure import Figure

    names = [figures.label for figures in measured.labels]
    counts = np.array(measured.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.45 * min(len(names), 20)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    if len(names) <= MOST_NUMBERED:
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    figure.colorbar(image, label="share of the label's texts")
    figure.savefig(path, dpi=120)


def draw_calibration(path: Path, measured: Measurement) -> None:
    """Accuracy against confidence with Wilson's intervals, over the number of answers in each bin."""
    from matplotlib.figure import Figure

    assert measured.calibration is not None
    bins = [one for one in measured.calibration.bins if one.count]
    figure = Figure(figsize=(5, 5), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    above.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--", label="perfect")
    middles = [one.confidence for one in bins]
    values = [one.accuracy.value or 0.0 for one in bins]
    errors = [
        [value - (one.accuracy.low or 0.0) for value, one in zip(values, bins, strict=True)],
        [(one.accuracy.high or 0.0) - value for value, one in zip(values, bins, strict=True)],
    ]
    above.errorbar(middles, values, yerr=errors, fmt="o-", markersize=4, capsize=3, label="test texts")
    above.set_ylabel("accuracy (95 % interval)")
    above.set_title(f"expected calibration error {measured.calibration.error:.3f}", fontsize=10)
    above.grid(alpha=0.3)
    above.legend(frameon=False, loc="upper left")
    below.bar(
        [(one.low + one.high) / 2 for one in bins], [one.count for one in bins], width=0.09, color="tab:blue", alpha=0.6
    )
    below.set_xlabel("confidence in the answer")
    below.set_ylabel("answers")
    below.set_xlim(0, 1)
    figure.savefig(path, dpi=120)

"""Train the bundled sentiment heads, as anybody would train one on their own texts.

    python -m model.demo.sentiment                        # all three, under a minute; and the table in README.md
    python -m model.demo.sentiment --family persimmon

A head belongs to the weights it was trained on: when a bundled checkpoint has been trained again, so must its head.
It is trained on the reviews that the checkpoint saw in training, in all templates, and measured on those it did not see
(`held_out.py`); the texts stand as they are, without a question around them.
"""

import argparse
import csv
import itertools
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from model.demo.facts import NEGATIVE, POSITIVE, REVIEW_TEMPLATES, REVIEWED
from model.demo.family import FAMILIES
from model.demo.passages import Review, write_review
from model.finetune.classify.measure import Figure
from model.finetune.classify.run import TrainedHead, train_head
from model.finetune.classify.settings import ClassifySettings
from model.finetune.classify.write import figure

FOLDER: Final = Path(__file__).parent
README: Final = FOLDER / "README.md"
BEGIN, END = "<!-- sentiment: begin -->", "<!-- sentiment: end -->"
NAME: Final = "sentiment"
PICTURES: Final = ("confusion.png", "calibration.png")
"""Ten times as large as all the rest, and of answers that are all right: not bundled."""


def reviews() -> Iterator[Review]:
    """Every review of the world once."""
    for sentiment, words in (("positive", POSITIVE), ("negative", NEGATIVE)):
        for template, noun, word in itertools.product(REVIEW_TEMPLATES, REVIEWED, words):
            yield write_review(template, noun=noun, word=word, sentiment=sentiment)


def write_rows(path: Path, rows: Sequence[Review]) -> None:
    """A CSV file with text and label."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label"])
        table.writerows([row.text, row.sentiment] for row in rows)


def train(base: Path, output: Path) -> TrainedHead:
    """Train the head of a bundled checkpoint's folder into `output`, which must not exist.

    Raises:
        EngineError: as `train_head`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        data, test = work / "reviews.csv", work / "held-out-reviews.csv"
        every = list(reviews())
        write_rows(data, [row for row in every if not row.held_out])
        write_rows(test, [row for row in every if row.held_out])
        trained = train_head(
            ClassifySettings(
                model=str(base),
                data=data,
                test=test,
                output=output,
                name=NAME,
                whole=False,
                device="cpu",
                cache=work / "cache",
            )
        )
    for name in PICTURES:
        (output / name).unlink()
    return trained


def table() -> str:
    """The heads that are there, with their figures and the baselines', in percent."""
    records = {
        family.name: json.loads(path.read_text(encoding="utf-8"))
        for family in FAMILIES.values()
        if (path := FOLDER / family.name / "heads" / NAME / "metrics.json").is_file()
    }
    rows = [(f"head on {name}'s states", record["test"]) for name, record in records.items()]
    for record in list(records.values())[:1]:  # the baselines know no checkpoint, and are the same for all
        rows += record["baselines"].items()
    return "\n".join(
        [
            "| held-out reviews | n | accuracy, % (95 % interval) | macro-F1, % |",
            "| --- | ---: | ---: | ---: |",
            *(
                f"| {title} | {one['count']} | {figure(Figure(**one['accuracy']))} | "
                f"{figure(Figure(**one['macro_f1']))} |"
                for title, one in rows
            ),
        ]
    )


def write_table() -> None:
    """Put the table between its marks in README.md."""
    page = README.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, train, put the heads in the place of those that are there."""
    parser = argparse.ArgumentParser(description="Train the bundled sentiment heads.")
    parser.add_argument("--family", choices=FAMILIES, help="of one bundled checkpoint; default: of all")
    chosen = parser.parse_args(arguments)
    for name in [chosen.family] if chosen.family else list(FAMILIES):
        base = FOLDER / FAMILIES[name].name
        output = base / "heads" / NAME
        shutil.rmtree(output, ignore_errors=True)
        trained = train(base, output)
        sys.stdout.write(
            f"{output}: accuracy on {trained.measured.count} held-out reviews {figure(trained.measured.accuracy)} %\n"
        )
    write_table()
    return 0


if __name__ == "__main__":
    sys.exit(main())

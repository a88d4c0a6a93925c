"""The bundled sentiment heads: of the bundled weights, made by the recipe, and right about the world's reviews."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.demo import sentiment
from model.demo.family import FAMILIES
from model.open_engine import open_engine

BUNDLES = Path(__file__).parents[3] / "model/demo"
NAMES = [family.name for family in FAMILIES.values()]
LARGEST_HEAD = 40_000  # bytes of the whole folder


def test_reviews_are_all_and_once() -> None:
    texts = [row.text for row in sentiment.reviews()]
    assert len(set(texts)) == len(texts) == 1400
    assert sum(row.held_out for row in sentiment.reviews()) == 190


@pytest.mark.parametrize("name", NAMES)
def test_the_head_is_of_these_weights_and_answers(name: str) -> None:
    """A head that is out of date is left out when the checkpoint is opened: run `python -m model.demo.sentiment`."""
    engine = open_engine(str(BUNDLES / name), device="cpu", kv_cache_tokens=2048)
    try:
        head = engine.heads["sentiment"]
        assert head.labels == ("negative", "positive")
        held_out = [row for row in sentiment.reviews() if row.held_out]
        logits = np.stack(engine.classify([row.text for row in held_out], head="sentiment"))
    finally:
        engine.close()
    answers = [head.labels[place] for place in logits.argmax(axis=1)]
    right = sum(answer == row.sentiment for answer, row in zip(answers, held_out, strict=True))
    record = json.loads((BUNDLES / name / "heads/sentiment/metrics.json").read_text())
    assert right == sum(row[place] for place, row in enumerate(record["test"]["confusion"]))
    assert right / len(held_out) > 0.9
    files = list((BUNDLES / name / "heads/sentiment").iterdir())
    assert sum(path.stat().st_size for path in files) < LARGEST_HEAD
    assert not {path.name for path in files} & set(sentiment.PICTURES)


def test_the_readme_has_the_heads_figures() -> None:
    assert f"{sentiment.BEGIN}\n{sentiment.table()}\n{sentiment.END}" in sentiment.README.read_text(encoding="utf-8")
    assert sentiment.table().count("head on") == len(NAMES)


@pytest.mark.slow
def test_the_recipe_makes_the_bundled_head(tmp_path: Path) -> None:
    name = NAMES[0]
    sentiment.train(BUNDLES / name, tmp_path / "sentiment")
    for path in (BUNDLES / name / "heads/sentiment").glob("*.csv"):
        assert (tmp_path / "sentiment" / path.name).read_text().count("\n") == path.read_text().count("\n")
    made, bundled = (
        json.loads((folder / "metrics.json").read_text())
        for folder in (tmp_path / "sentiment", BUNDLES / name / "heads/sentiment")
    )
    for key in ("labels", "base", "settings", "data", "split", "class_weights", "baselines"):
        assert made[key] == bundled[key], key
    assert made["test"]["confusion"] == bundled["test"]["confusion"]

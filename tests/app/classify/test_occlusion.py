"""What moved a decision, and what an uploaded file looks like."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
from scripted_engine import ScriptedEngine

from app.classify.head import HeadClassifier
from app.classify.occlusion import MAX_PIECES, Moved, split_pieces, what_moved
from app.classify.upload import Upload, answers_path
from app.classify.view import moved_html
from model.interface import InvalidRequest


def moved(engine: ScriptedEngine, text: str, label: str | None = None) -> Moved:
    async def last() -> Moved:
        results = [one async for one in what_moved(HeadClassifier(engine, "mood"), text, label)]
        assert isinstance(results[-1], Moved)
        return results[-1]

    return asyncio.run(last())


@pytest.fixture
def engine() -> ScriptedEngine:
    """A head whose logit of glad is the number of times `good` is there less that of `bad`."""
    return ScriptedEngine(
        heads={"mood": ("sad", "glad")}, logits=lambda head, text: (0.0, float(text.count("good") - text.count("bad")))
    )


def test_effects_are_differences_of_log_odds(engine: ScriptedEngine) -> None:
    result = moved(engine, "a good good bad day")
    assert result.label == "glad"
    assert result.value == pytest.approx(1 / (1 + math.exp(-1)))
    assert [piece.text for piece in result.pieces] == ["a ", "good ", "good ", "bad ", "day"]
    assert [piece.effect for piece in result.pieces] == pytest.approx([0, 1, 1, -1, 0], abs=1e-5)
    against = moved(engine, "a good good bad day", "sad")
    assert [piece.effect for piece in against.pieces] == pytest.approx([0, -1, -1, 1, 0], abs=1e-5)
    assert "+1.00" in moved_html(result)
    engine.close()


def test_one_word_alone_cannot_be_left_out(engine: ScriptedEngine) -> None:
    with pytest.raises(InvalidRequest, match="one word"):
        moved(engine, " good ")
    engine.close()


@pytest.mark.parametrize("num_words", [1, 2, MAX_PIECES, MAX_PIECES + 1, 1000])
def test_pieces_are_the_whole_text(num_words: int) -> None:
    text = "  " + "word \n" * num_words
    pieces = split_pieces(text)
    assert "".join(pieces) == text
    assert min(num_words, MAX_PIECES // 2) <= len(pieces) <= min(num_words, MAX_PIECES)


def test_columns_and_first_rows_of_uploads(tmp_path: Path) -> None:
    source = tmp_path / "a b; c.JSONL"
    source.write_text('{"id": 1, "said": "x"}\nbroken\n{"said": "y", "more": 2}\n')
    upload = Upload(path=source)
    assert upload.columns() == ("id", "said", "more")
    assert [row.text for row in upload.first_rows("said")] == ["x", None, "y"]
    target = answers_path(upload, tmp_path / "cache", "jsonl")
    assert target.name == "a-b-c-classified.jsonl"
    assert target.parent.parent == tmp_path / "cache"
    source.unlink()
    with pytest.raises(InvalidRequest, match="no longer kept"):
        upload.columns()
    with pytest.raises(InvalidRequest, match="give a file ending in"):
        Upload(path=tmp_path / "x.pdf").columns()

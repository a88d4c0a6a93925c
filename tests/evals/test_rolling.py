"""Windows over long texts: their properties, and lm-eval's own Hugging Face back-end's, to the token."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from evals.engine_lm import EngineLM
from evals.rolling import rolling_windows
from model.demo.facts import CAPITALS
from model.interface import Engine, ScoreRequest
from model.open_engine import open_engine

CONTEXT_LENGTH = 48
SENTENCE = "The lamp in the hall is red and the door is green. "
# The bundled model knows these countries, and that the second half of a line is about the first.
CAPITALS_TOLD = "".join(
    f"What is the capital of {country}? The capital of {country} is {capital}.\n"
    for country, capital in list(CAPITALS.items())[:12]
)
TEXTS = [CAPITALS_TOLD, SENTENCE, "A", "", (SENTENCE * 40)[: 48 * 6], "Größe: 漢字 🙂 " * 20]


@given(
    length=st.integers(0, 70),
    max_length=st.integers(1, 20),
    data=st.data(),
)
def test_every_token_is_scored_once_after_enough_context(length: int, max_length: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, max_length))
    text = list(range(length))
    windows = rolling_windows(text, prefix_token=-1, max_length=max_length, overlap=overlap)
    assert [token for _, scored in windows for token in scored] == text
    for index, (context, scored) in enumerate(windows):
        assert scored
        assert len(context) + len(scored) - 1 <= max_length  # the last token is not read
        if index == 0:
            assert context == [-1]
        else:
            assert context == text[scored[0] - len(context) : scored[0]]
            assert len(context) >= overlap
    if length > max_length:
        read = len(windows[-1][0]) + len(windows[-1][1]) - 1
        assert read == max_length  # the last window is as long as the others


@pytest.fixture(scope="module")
def engine(bundled_checkpoint: Path) -> Iterator[Engine]:
    engine = open_engine(str(bundled_checkpoint), device="cpu", dtype="float32", context_length=CONTEXT_LENGTH)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def hugging_face(bundled_checkpoint: Path) -> Iterator[Any]:
    yield HFLM(
        pretrained=str(bundled_checkpoint),
        device="cpu",
        dtype="float32",
        batch_size=4,
        add_bos_token=False,
        max_length=CONTEXT_LENGTH,
    )
    gc.collect()


def requests() -> list[Instance]:
    return [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0) for text in TEXTS]


def test_the_default_gives_hugging_faces_figures(engine: Engine, hugging_face: HFLM) -> None:
    ours = EngineLM(engine, progress=False).loglikelihood_rolling(requests())
    theirs = hugging_face.loglikelihood_rolling(requests(), disable_tqdm=True)
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert len(set(ours)) == len(TEXTS)


def test_the_default_windows_are_hugging_faces(
    engine: Engine, hugging_face: HFLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are equal because the same tokens stand in the same windows, not by chance."""
    theirs: list[tuple[list[int], list[int]]] = []
    ours: list[tuple[list[int], list[int]]] = []

    def note_theirs(requests: Any, **options: Any) -> list[tuple[float, bool]]:
        theirs.extend((context, continuation) for _, context, continuation in requests)
        return [(0.0, False)] * len(requests)

    score = engine.ascore

    async def note_ours(requests: list[ScoreRequest], **options: Any) -> Any:
        ours.extend((list(one.context_token_ids), list(one.continuation_token_ids)) for one in requests)
        return await score(requests, **options)

    monkeypatch.setattr(hugging_face, "_loglikelihood_tokens", note_theirs)
    monkeypatch.setattr(engine, "ascore", note_ours)
    hugging_face.loglikelihood_rolling(requests(), disable_tqdm=True)
    lm = EngineLM(engine, progress=False)
    lm.loglikelihood_rolling(requests())
    assert len(theirs) > 2 * len(TEXTS)
    assert sorted(ours) == sorted(theirs)
    assert not any(fact.prompt_cut or fact.failed for fact in lm.facts)


def test_more_context_makes_a_text_more_likely(engine: Engine) -> None:
    """A line cut in two is easier to go on with when half a window stands before every token."""
    disjoint, overlapping = (
        EngineLM(engine, progress=False, rolling_overlap=overlap).loglikelihood_rolling(requests())
        for overlap in (1, CONTEXT_LENGTH // 2)
    )
    assert overlapping[0] > disjoint[0]
    assert overlapping[1:4] == pytest.approx(disjoint[1:4])  # one window is one window

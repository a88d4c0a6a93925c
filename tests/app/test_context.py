"""What pages may ask of the engines of a server, and what they say where they may not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from scripted_engine import ScriptedEngine

from app.context import AppContext
from app.look import problem_html
from app.server import create_app
from app.store import Database
from model.interface import InvalidRequest, SamplingParams


@pytest.fixture
def engines() -> Iterator[list[ScriptedEngine]]:
    """A narrow model, a wide one, and a classifier."""
    each = [
        ScriptedEngine(tokens_per_s=1, max_num_requests=1, model_name="narrow"),
        ScriptedEngine(tokens_per_s=1, max_num_requests=3, model_name="wide"),
        ScriptedEngine(model_name="judge", has_lm_head=False),
    ]
    yield each
    for engine in each:
        engine.close()


def context(engines: list[ScriptedEngine]) -> AppContext:
    return AppContext(
        engines={engine.info.model_name: engine for engine in engines}, database=Database(None), max_waiting=1
    )


def test_each_model_is_full_by_its_own_measure(engines: list[ScriptedEngine]) -> None:
    narrow, wide, _ = engines
    pages = context(engines)
    for engine, places in ((narrow, 1), (wide, 3)):
        name = engine.info.model_name
        for number in range(places + 1):
            assert pages.engine(name) is engine
            engine.stream(f"prompt {number}", SamplingParams())
            running = min(number + 1, places)
            engine.wait_for(lambda stats, running=running: stats.num_running == running)
        with pytest.raises(InvalidRequest, match=f"^{name} is busy: {places} requests run and 1 wait already, so try"):
            pages.engine(name)
    assert pages.engine("judge") is engines[2]


def test_a_classifier_is_not_asked_to_write(engines: list[ScriptedEngine]) -> None:
    pages = context(engines[::-1])
    assert (list(pages.engines), list(pages.writers)) == (["judge", "wide", "narrow"], ["wide", "narrow"])
    assert pages.default.info.model_name == "wide"
    with pytest.raises(InvalidRequest, match="'judge' can only classify: use wide or narrow"):
        pages.writer("judge")
    with pytest.raises(InvalidRequest, match="'else' is not here: use judge or wide or narrow"):
        pages.writer("else")


def test_a_classifier_is_offered_where_texts_are_classified_only(engines: list[ScriptedEngine]) -> None:
    with TestClient(create_app(engines[::-1])) as client:
        config = client.get("/config").json()
    offered = {
        one["props"].get("elem_id") or one["props"]["label"]: [value for _, value in one["props"]["choices"]]
        for one in config["components"]
        if one["props"].get("label") in ("Model", "First model", "Second model")
    }
    assert offered["setting-model"] == ["wide", "narrow"]
    assert offered["First model"] == offered["Second model"] == ["Any model", "wide", "narrow"]
    assert offered["tokens-model"] == ["wide", "narrow"]
    assert offered["classify-model"] == ["judge", "wide", "narrow"]


def test_a_server_of_classifiers_says_why_it_has_no_chat(engines: list[ScriptedEngine]) -> None:
    with TestClient(create_app([engines[2]])) as client:
        pages = [client.get(path) for path in ("/", "/arena", "/tokens", "/classify", "/system")]
        assert [page.status_code for page in pages] == [200] * 5
        assert client.get("/config").text.count("No model that was loaded can write") == 3


def test_a_problem_keeps_its_lines_and_none_of_its_markup() -> None:
    error = InvalidRequest("line 1: <b>\n\nline 3\n")
    assert problem_html(error) == '<p role="alert">line 1: &lt;b&gt;<br><br>line 3</p>'

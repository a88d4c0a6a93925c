"""The store of answers: what a kill leaves, whose answers it gives, and that one process writes it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from lm_eval.api.instance import Instance

from evals.answers import Answer, AnswerStore, RequestFacts, request_keys
from evals.errors import EvaluationError

FACTS = RequestFacts(task="t", doc_id=3, finish_reason="stop", num_prompt_tokens=5, num_answer_tokens=2)


def request(prompt: str = "p", *, task: str = "t", doc_id: int = 0, until: str = "\n") -> Instance:
    return Instance(
        request_type="generate_until",
        doc={},
        arguments=(prompt, {"until": [until]}),
        idx=0,
        metadata=(task, doc_id, 1),
    )


def test_all_kinds_of_answers_come_back(tmp_path: Path) -> None:
    answers = {"a": Answer(" yes\n„ü“", FACTS), "b": Answer((-1.25, True), FACTS), "c": Answer(-3.5, FACTS)}
    with AnswerStore(tmp_path, {"model": "m"}) as store:
        for key, answer in answers.items():
            store.put(key, answer)
    with AnswerStore(tmp_path, {"model": "m"}) as store:
        assert {key: store.get(key) for key in answers} == answers
        assert store.get("d") is None


def test_failures_are_not_kept(tmp_path: Path) -> None:
    with AnswerStore(tmp_path, {}) as store:
        store.put("a", Answer((math.nan, False), RequestFacts(task="t", doc_id=0, error="it failed")))
    with AnswerStore(tmp_path, {}) as store:
        assert len(store) == 0


def test_another_identity_is_another_file(tmp_path: Path) -> None:
    identity = {"model": {"weights_sha256": "1", "tokenizer_sha256": "2"}, "engine": {"dtype": "float32"}, "seed": 0}
    with AnswerStore(tmp_path, identity) as store:
        store.put("a", Answer("x", FACTS))
    for change in (
        {"model": identity["model"] | {"weights_sha256": "3"}},  # type: ignore[operator]
        {"model": identity["model"] | {"tokenizer_sha256": "3"}},  # type: ignore[operator]
        {"engine": {"dtype": "bfloat16"}},
        {"seed": 1},
    ):
        with AnswerStore(tmp_path, identity | change) as store:
            assert store.get("a") is None
    with AnswerStore(tmp_path, dict(reversed(identity.items()))) as store:
        assert store.get("a") is not None


@pytest.mark.parametrize("tail", [b'{"key": "b", "val', b"\xe2\x80", b"{"])
def test_a_line_cut_short_by_a_kill_is_taken_off(tmp_path: Path, tail: bytes) -> None:
    with AnswerStore(tmp_path, {}) as store:
        store.put("a", Answer("ünï", FACTS))
        path = store.path
    with path.open("ab") as stream:
        stream.write(tail)
    with AnswerStore(tmp_path, {}) as store:
        assert len(store) == 1
        store.put("c", Answer("z", FACTS))
    with AnswerStore(tmp_path, {}) as store:
        assert [store.get(key) is not None for key in "abc"] == [True, False, True]


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    with AnswerStore(tmp_path, {}) as store:
        path = store.path
    path.write_text("{}\n[1]\n", encoding="utf-8")
    with pytest.raises(EvaluationError, match=r"line 2 is no answer: remove the file, or run with --fresh"):
        AnswerStore(tmp_path, {})
    with AnswerStore(tmp_path, {}, fresh=True) as store:
        store.put("a", Answer("x", FACTS))
    with AnswerStore(tmp_path, {}) as store:
        assert len(store) == 1


def test_one_process_writes_it(tmp_path: Path) -> None:
    with AnswerStore(tmp_path, {}), pytest.raises(EvaluationError, match="another run with this model"):
        AnswerStore(tmp_path, {})


def test_recorded_answers_are_removed(tmp_path: Path) -> None:
    store = AnswerStore(tmp_path, {})
    store.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(EvaluationError, match="cannot be written"):
        AnswerStore(tmp_path / "file" / "unfinished", {})


def test_keys_hold_everything_that_is_asked() -> None:
    different = [
        request(),
        request("q"),
        request(task="u"),
        request(doc_id=1),
        request(until="."),
        request(),  # a repeat is asked again
    ]
    keys = request_keys(different)
    assert len(set(keys)) == 6
    assert request_keys(different[::-1])[::-1][1:5] == keys[1:5]
    assert keys[0].partition("-")[0] == keys[5].partition("-")[0]

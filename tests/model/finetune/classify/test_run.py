"""A head from labelled texts to a folder, which gives the same answers here and in transformers."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, pipeline

from model.engine.engine import LocalEngine
from model.finetune.classify import write
from model.finetune.classify.labelled import BadRows
from model.finetune.classify.run import Progress, TrainingCancelled, train_head
from model.finetune.classify.settings import ClassifySettings
from model.finetune.settings import SettingsError
from model.interface import InvalidRequest, SamplingParams
from model.open_engine import DEMO_CHECKPOINT, open_engine

SUBJECTS = ("fox", "dog", "capital", "times", "brown fox", "lazy dog")
WORDS = {"good": ("quick", "Paris", "great"), "bad": ("lazy", "wrong", "slow"), "unsure": ("they say", "so", "hm")}

Train = Callable[..., Any]


def write_rows(path: Path, *extra: tuple[str, str]) -> Path:
    rows = [
        (f"the {subject} {number} is {word}", label)
        for label, words in WORDS.items()
        for word in words
        for subject in SUBJECTS
        for number in range(2)
    ]
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label"])
        table.writerows([*rows, *extra])
    return path


@pytest.fixture
def settings(tmp_path: Path, checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Settings for a tiny checkpoint with its data in a folder; pictures, which take long to draw, are left out."""
    monkeypatch.setattr(write, "draw", lambda folder, measured: None)
    data = write_rows(tmp_path / "rows.csv")

    def made(family: str = "persimmon", **changes: Any) -> ClassifySettings:
        values: dict[str, Any] = {
            "model": str(checkpoints[family]),
            "data": data,
            "output": tmp_path / "moods",
            "device": "cpu",
            "dtype": "float32",
            "cache": tmp_path / "cache",
        }
        return ClassifySettings(**values | changes)

    return made


@pytest.fixture
def opened() -> Iterator[Callable[[Path | str], LocalEngine]]:
    engines: list[LocalEngine] = []

    def make(folder: Path | str) -> LocalEngine:
        engines.append(open_engine(str(folder), device="cpu", dtype="float32", kv_cache_tokens=512))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def hugging_faces(folder: Path, texts: list[str], ids: list[list[int]]) -> np.ndarray:
    """Logits of transformers, one text at a time; its pipeline in batches must agree."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = np.concatenate([model(torch.tensor([row])).logits.numpy() for row in ids])
    answers = pipeline("text-classification", model=str(folder), dtype=torch.float32, device="cpu")(texts, batch_size=4)
    assert [answer["label"] for answer in answers] == [model.config.id2label[i] for i in logits.argmax(axis=1)]
    return logits


@pytest.mark.slow
@pytest.mark.parametrize("method", ["probe", "lora"])
def test_a_folder_gives_the_same_answers_here_and_in_transformers(
    method: str, family: str, settings: Train, opened: Callable[[Path | str], LocalEngine]
) -> None:
    told: list[Progress] = []
    chosen = settings(family, method=method, epochs=1)
    trained = train_head(chosen, on_progress=told.append)
    assert trained.folder == chosen.output
    assert trained.info.labels == ("bad", "good", "unsure")
    engine = opened(trained.folder)
    texts = list(trained.split.test.texts)
    logits = np.stack(engine.classify(texts))
    ids = [engine.tokenizer.encode_prompt(text) for text in texts]
    np.testing.assert_allclose(logits, hugging_faces(trained.folder, texts, ids), atol=1e-4)
    # What was measured is what the folder answers.
    accuracy = (logits.argmax(axis=1) == trained.split.test.targets).mean()
    assert trained.measured.accuracy.value == pytest.approx(accuracy)
    (own,) = engine.heads.values()
    assert (own.name, own.labels, own.problem_type) == ("moods", trained.info.labels, "single_label")
    if method == "probe":
        base = opened(chosen.model)
        attached = base.attach_head(trained.folder)
        assert attached == dataclasses.replace(trained.info, source=str(trained.folder))
        np.testing.assert_allclose(np.stack(base.classify(texts)), logits, atol=1e-4)
    stages = [progress.stage for progress in told]
    assert stages[0] == "reading"
    assert stages[-1] == "measuring"
    assert all(0 <= progress.done <= progress.total for progress in told)


def test_the_record_and_the_card(settings: Train) -> None:
    chosen = settings(whole=False, name="mood")
    trained = train_head(chosen)
    files = {path.name for path in chosen.output.iterdir()}
    assert files == {"head.json", "head.safetensors", "metrics.json", "README.md", "confusion.csv", "calibration.csv"}
    record = json.loads((chosen.output / "metrics.json").read_text())
    assert record["name"] == trained.info.name == "mood"
    assert (
        record["base"]["weights_sha256"]
        == json.loads((chosen.output / "head.json").read_text())["base"]["weights_sha256"]
    )
    assert record["data"][0]["texts"] == 108
    assert len(record["data"][0]["sha256"]) == 64
    assert sum(sum(part.values()) for part in record["split"].values()) == 108
    assert record["test"]["accuracy"]["value"] == trained.measured.accuracy.value
    assert set(record["baselines"]) == {"the commonest label", "TF-IDF and logistic regression"}
    assert record["baselines"]["the commonest label"]["accuracy"]["value"] == pytest.approx(1 / 3, abs=0.05)
    assert str(chosen.output.parent) not in json.dumps(record)
    card = (chosen.output / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card
    assert 'engine.attach_head("mood")' in card
    again = train_head(settings(whole=False, name="mood", output=chosen.output.with_name("again")))
    assert again.info.weight_sha256 == trained.info.weight_sha256


def test_a_running_engine_is_used_and_stays_open(
    settings: Train, opened: Callable[[Path | str], LocalEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(whole=False)
    engine = opened(chosen.model)
    monkeypatch.setattr("model.open_engine.open_engine", None)
    trained = train_head(chosen, engine=engine)
    engine.attach_head(trained.folder)
    assert len(engine.classify(["the fox is quick"])[0]) == 3
    with pytest.raises(SettingsError, match=r"^method='lora' trains weights of its own and not a running engine's"):
        train_head(settings(method="lora", output=chosen.output.with_name("other")), engine=engine)


def test_wherever_the_process_runs(
    settings: Train, opened: Callable[[Path | str], LocalEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine names a folder of the project from the project's root."""
    engine = opened(DEMO_CHECKPOINT)
    assert not Path(engine.info.source).is_absolute()
    monkeypatch.chdir(tmp_path)
    trained = train_head(settings(model=engine.info.source), engine=engine)
    assert len(opened(trained.folder).classify(["What a film!"])[0]) == 3


@pytest.mark.parametrize("method", ["probe", "lora"])
@pytest.mark.parametrize("stage", ["reading", "middle", "measuring"])
def test_cancelled_training_leaves_nothing(method: str, stage: str, settings: Train) -> None:
    chosen = settings(method=method, epochs=1, whole=method == "lora")
    seen: list[str] = []
    middle = {"probe": "fitting", "lora": "training"}[method]
    wanted = middle if stage == "middle" else stage

    def cancelled() -> bool:
        return bool(seen) and seen[-1] == wanted

    if stage == "reading":
        seen.append(stage)
    before = set(chosen.output.parent.iterdir())
    with pytest.raises(TrainingCancelled, match=r"^the training was cancelled: nothing was written$"):
        train_head(chosen, on_progress=lambda progress: seen.append(progress.stage), cancelled=cancelled)
    assert set(chosen.output.parent.iterdir()) - before <= {chosen.cache}
    assert seen[-1] == wanted


@pytest.mark.slow
def test_bad_rows_are_refused_or_skipped_by_their_line(settings: Train, tmp_path: Path) -> None:
    long = "the fox " * 300
    data = write_rows(tmp_path / "bad.csv", ("", "good"), (long, "good"), ("the fox 0 is quick", "bad"))
    chosen = settings(data=data, whole=False)
    with pytest.raises(BadRows) as refused:
        train_head(chosen)
    lines = str(refused.value).splitlines()
    assert [line.split(": ", 1)[0].rsplit(" ", 1)[1] for line in lines] == ["110", "111", "112"]
    assert "line 110: text is empty: write a text" in lines[0]
    assert "tokens but the model takes at most 256: shorten it" in lines[1]
    assert "is here again with the label 'bad' instead of 'good'" in lines[2]
    assert not chosen.output.exists()
    trained = train_head(dataclasses.replace(chosen, bad_rows="skip"))
    assert [problem.line for problem in trained.skipped[data]] == [110, 111, 112]
    record = json.loads((chosen.output / "metrics.json").read_text())
    assert [row["line"] for row in record["data"][0]["skipped_rows"]] == [110, 111, 112]


def test_a_test_file_of_its_own(settings: Train, tmp_path: Path) -> None:
    test = tmp_path / "test.jsonl"
    test.write_text('{"text": "the fox 0 is quick", "label": "good"}\n{"text": "the sun is slow", "label": "bad"}\n')
    trained = train_head(settings(test=test, whole=False))
    assert trained.split.test.texts == ("the fox 0 is quick", "the sun is slow")
    assert trained.split.num_removed == 1
    assert trained.measured.count == 2


def test_an_output_that_is_there_is_kept(settings: Train, tmp_path: Path) -> None:
    (tmp_path / "moods").mkdir()
    with pytest.raises(SettingsError, match=r"moods' is there already: choose another folder or remove it$"):
        train_head(settings())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dtype": "float16"}, "^dtype='float16' is not allowed in training: squared ReLU leaves float16's range"),
        ({"method": "full"}, "^method='full' is not allowed: use probe or lora$"),
        ({"test_share": 0.5}, r"^test_share=0\.5 is not allowed: it must be above 0 and below 0\.5$"),
        ({"method": "lora", "whole": False}, "^whole=False is not allowed: it must be true with LoRA, which changes"),
        ({"rows_per_step": 6}, "^rows_per_step=6 is not allowed: it must be a multiple of rows_at_once=4$"),
        ({"text_column": "label"}, "^text_column='label' is not allowed: it must be another column than label_column$"),
        ({"name": " "}, "^name=' ' is not allowed: it must be a text that is not empty$"),
        ({"patience": 0}, "^patience=0 is not allowed: it must be at least 1$"),
    ],
)
def test_settings_that_are_refused(settings: Train, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        settings(**changes)


def test_a_classifier_cannot_be_trained_further_as_a_language_model(settings: Train, tmp_path: Path) -> None:
    from tiny_checkpoints import tiny_settings

    from model.checkpoint.errors import CheckpointError
    from model.finetune.run import finetune

    trained = train_head(settings())
    with pytest.raises(
        CheckpointError, match=r"moods has a classification head and no language model's: give its base$"
    ):
        finetune(tiny_settings(trained.folder, tmp_path, output=tmp_path / "tuned"))


def test_heads_of_other_labels_can_follow_on_a_classifier(settings: Train, tmp_path: Path) -> None:
    """A classifier's own body is as good a base as any."""
    first = train_head(settings())
    data = tmp_path / "two.csv"
    data.write_text(
        "text,label\n" + "".join(f"the {word} {number} is,{number % 2}\n" for word in SUBJECTS for number in range(6))
    )
    second = train_head(settings(model=str(first.folder), data=data, output=tmp_path / "second"))
    assert second.info.labels == ("0", "1")
    engine = open_engine(str(second.folder), device="cpu", kv_cache_tokens=512)
    try:
        assert len(engine.classify(["the fox"])[0]) == 2
        with pytest.raises(InvalidRequest, match="it can only classify"):
            engine.generate(["the"], SamplingParams())
    finally:
        engine.close()

"""Whole runs on tiny checkpoints: the loss falls, and the folder that appears is a checkpoint for everybody."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file
from tiny_checkpoints import FAMILIES, QUESTIONS, tiny_settings, write_examples, write_tiny
from transformers import AutoModelForCausalLM, TrainerControl, TrainerState, TrainingArguments

from model.checkpoint.card import read_card
from model.checkpoint.fingerprint import weights_sha256
from model.finetune import loss_curve, prepare_model, run
from model.finetune.attention import MATMUL_ATTENTION
from model.finetune.loss_curve import COLUMNS, LossCurve
from model.finetune.settings import FinetuneSettings
from model.interface import ChatMessage, SamplingParams
from model.open_engine import open_engine

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*is deprecated:FutureWarning")

SWAPPED = dict(zip(QUESTIONS, [*list(QUESTIONS.values())[1:], *list(QUESTIONS.values())[:1]], strict=True))
"""Other answers to the same questions: the frozen head of a LoRA knows their tokens."""
FILES = {"README.md", "config.json", "finetune.json", "loss.csv", "loss.png", "model.safetensors", "tokenizer.json"}


@dataclass(frozen=True)
class Run:
    """A finished run and what the Trainer logged."""

    family: str
    settings: FinetuneSettings
    result: run.FinetuneResult
    history: list[dict[str, Any]]

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self.settings.output / "finetune.json").read_text())
        return record


def train(
    family: str, checkpoint: Path, folder: Path, answers: dict[str, str], *, picture: bool = False, **changes: Any
) -> Run:
    """Overfit on `answers`, with a validation file; a picture takes as long as ten steps."""
    histories: list[list[dict[str, Any]]] = []

    class Spy(LossCurve):
        def on_train_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **unused: Any
        ) -> None:
            super().on_train_end(args, state, control)
            histories.append(state.log_history)

    rows = [{"prompt": asked, "answer": said} for asked, said in answers.items()]
    settings = tiny_settings(
        checkpoint,
        folder,
        data=write_examples(folder / "rows.jsonl", rows),
        validation=write_examples(folder / "validation.jsonl", rows[:1]),
        **{"rows_per_step": 4, "rows_at_once": 2, "learning_rate": 1e-2, "log_every": 7, "save_every": 20} | changes,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "LossCurve", Spy)
        if not picture:
            patch.setattr(loss_curve, "draw", lambda losses, path: path.touch())
        result = run.finetune(settings)
    return Run(family, settings, result, *histories)


@pytest.fixture(scope="module", params=FAMILIES)
def tuned(
    request: pytest.FixtureRequest, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """Full training in float32."""
    folder = tmp_path_factory.mktemp("full")
    base = checkpoints[request.param]
    return train(request.param, base, folder, QUESTIONS, epochs=60, picture=request.param == "persimmon")


@pytest.fixture(scope="module")
def adapted(tuned: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """LoRA in float32 on the result of the full training, to give other answers."""
    folder = tmp_path_factory.mktemp("lora")
    return train(tuned.family, tuned.settings.output, folder, SWAPPED, epochs=40, method="lora")


def assert_answers(folder: Path, answers: dict[str, str]) -> None:
    """Our engine answers in the chat format with exactly these, and Hugging Face with the same tokens."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    engine = open_engine(str(folder), device="cpu", dtype="float32", max_num_requests=4)
    try:
        prompts = [engine.chat_template.render([ChatMessage("user", asked)]) for asked in answers]
        completions = engine.generate(prompts, SamplingParams(max_tokens=40, temperature=0))
        for prompt, completion, said in zip(prompts, completions, answers.values(), strict=True):
            assert engine.chat_template.answer(completion.text) == said
            assert completion.finish_reason == "stop"
            ids = torch.tensor([engine.tokenizer.encode_prompt(prompt)])
            generated = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)
            produced = generated[0, ids.shape[1] :].tolist()
            end = engine.tokenizer.eos_token_ids[0]
            assert produced[-1] == end
            assert produced[:-1] == [token for token in completion.token_ids if token != end]
    finally:
        engine.close()


@pytest.mark.slow
def test_the_loss_falls(tuned: Run) -> None:
    assert tuned.result.finished
    assert tuned.result.steps == 60
    assert tuned.result.resumed_from == 0
    losses = [entry["loss"] for entry in tuned.history if "loss" in entry]
    assert losses[0] > 5
    assert tuned.result.final_loss == losses[-1] < 0.05
    assert tuned.result.validation_loss is not None
    assert tuned.result.validation_loss < 0.05


def test_the_trained_answers_are_given(tuned: Run) -> None:
    assert_answers(tuned.settings.output, QUESTIONS)


def test_the_folder_is_whole_and_alone(tuned: Run) -> None:
    output = tuned.settings.output
    sentencepiece = set() if tuned.family == "mpt" else {"tokenizer.model"}
    assert {path.name for path in output.iterdir()} - {"generation_config.json"} == FILES | sentencepiece
    assert {path.name for path in output.parent.iterdir()} == {"rows.jsonl", "validation.jsonl", "tuned"}
    assert output.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in output.iterdir()} == {0o644}
    source = Path(tuned.settings.checkpoint)
    for name in {"tokenizer.json", *sentencepiece}:
        assert (output / name).read_bytes() == (source / name).read_bytes()
    assert {tensor.dtype for tensor in load_file(output / "model.safetensors").values()} == {torch.bfloat16}
    config = json.loads((output / "config.json").read_text())
    assert config["use_cache"] is True
    assert {config.get(key, 0.0) for key in ("hidden_dropout", "resid_pdrop", "emb_pdrop")} == {0.0}


def test_the_record_says_what_was_done(tuned: Run) -> None:
    record = tuned.record
    settings = tuned.settings
    source = Path(settings.checkpoint)
    assert record["base"] == {"source": str(source), "revision": None, "weights_sha256": weights_sha256(source)}
    assert record["data"]["sha256"] == hashlib.sha256(settings.data.read_bytes()).hexdigest()
    assert record["validation"]["sha256"] == hashlib.sha256(settings.validation.read_bytes()).hexdigest()
    assert record["data"]["documents"] == 3
    assert record["validation"]["documents"] == 1
    engine = open_engine(str(settings.output), device="cpu", max_num_requests=1)
    turns = [[ChatMessage("user", asked), ChatMessage("assistant", said)] for asked, said in QUESTIONS.items()]
    tokens = [len(engine.tokenizer.encode_prompt(engine.chat_template.render(turn))) + 1 for turn in turns]
    engine.close()
    assert (record["data"]["tokens"], record["validation"]["tokens"]) == (sum(tokens), tokens[0])
    assert (record["data"]["skipped"], record["data"]["truncated"]) == (0, 0)
    assert record["data"]["rows"] == (3 if tuned.family == "mpt" else 1)
    assert record["steps"] == 60
    assert record["resumed_from"] == 0
    assert record["final_loss"] == tuned.result.final_loss
    assert record["validation_loss"] == tuned.result.validation_loss
    assert (record["processes"], record["device"]) == (1, "cpu")
    assert record["seconds"] > 0
    assert set(record["versions"]) == {"torch", "transformers", "accelerate", "peft", "datasets"}
    assert record["settings"]["learning_rate"] == 1e-2
    assert record["settings"]["data"] == str(settings.data)
    assert FinetuneSettings(**record["settings"]).output == str(settings.output)


def test_the_card_keeps_licence_and_notice(tuned: Run) -> None:
    card = read_card(tuned.settings.output, name="tuned")
    assert (card.licence, card.notice) == ("cc-by-nc-4.0", "Mind: tiny.")
    text = (tuned.settings.output / "README.md").read_text()
    tokens = tuned.record["data"]["tokens"]
    assert (
        f"# tuned\n\n{tuned.settings.checkpoint}, trained further on 3 documents ({tokens} tokens), 60 steps." in text
    )


def test_the_curve_is_the_trainers(tuned: Run) -> None:
    curve = pd.read_csv(tuned.settings.output / "loss.csv")
    assert list(curve.columns) == list(COLUMNS.values())
    logged = [entry for entry in tuned.history if "loss" in entry]
    assert curve["step"].tolist() == [1, 7, 14, 20, 21, 28, 35, 40, 42, 49, 56, 60]
    trained = curve.dropna(subset="loss")
    assert trained["step"].tolist() == [entry["step"] for entry in logged] == [1, *range(7, 60, 7), 60]
    for name in ("loss", "learning_rate", "gradient_norm", "epoch"):
        key = {"gradient_norm": "grad_norm"}.get(name, name)
        assert trained[name].tolist() == pytest.approx([entry[key] for entry in logged], rel=1e-12)
    validated = curve.dropna(subset="validation_loss")
    assert validated["step"].tolist() == [20, 40, 60]
    evaluated = [entry["eval_loss"] for entry in tuned.history if "eval_loss" in entry]
    assert validated["validation_loss"].tolist() == pytest.approx(evaluated, rel=1e-12)


def test_the_picture_is_one(tuned: Run) -> None:
    if tuned.family != "persimmon":
        return
    with Image.open(tuned.settings.output / "loss.png") as picture:
        assert picture.format == "PNG"
        assert picture.size == (840, 480)
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10


@pytest.mark.slow
def test_lora_gives_the_new_answers(adapted: Run) -> None:
    assert adapted.result.final_loss is not None
    assert adapted.result.final_loss < 0.05
    assert_answers(adapted.settings.output, SWAPPED)


@torch.no_grad()
def test_lora_changes_the_weights_by_its_matrices_only(adapted: Run) -> None:
    output = adapted.settings.output
    assert {path.name for path in (output / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    merged = load_file(output / "model.safetensors")
    base = load_file(Path(adapted.settings.checkpoint) / "model.safetensors")
    matrices = load_file(output / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in matrices.values()} == {torch.float32}
    assert merged.keys() == base.keys()
    changed = set()
    for name, weight in base.items():
        prefix = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{prefix}.lora_A.weight" in matrices:
            added = matrices.pop(f"{prefix}.lora_B.weight") @ matrices.pop(f"{prefix}.lora_A.weight")
            weight = (weight.float() + added * 32 / 16).to(torch.bfloat16)
            changed.add(name)
        torch.testing.assert_close(merged[name], weight, rtol=2**-7, atol=1e-6)
        assert torch.equal(merged[name], base[name]) is (name not in changed)
    assert not matrices
    assert len(changed) >= 8


@torch.no_grad()
def test_peft_loads_the_adapter(adapted: Run) -> None:
    output = adapted.settings.output
    ids = torch.tensor([list(range(5, 45))])
    plain = AutoModelForCausalLM.from_pretrained(adapted.settings.checkpoint, dtype=torch.float32).eval()
    before = plain(ids).logits
    expected = PeftModel.from_pretrained(plain, output / "adapter").eval()(ids).logits
    found = AutoModelForCausalLM.from_pretrained(output, dtype=torch.float32).eval()(ids).logits
    # The merged weights are rounded to bfloat16, at 2^-8.
    assert (found - expected).abs().mean() < 0.02 * expected.std()
    assert (before - expected).abs().mean() > 0.2 * expected.std()


BFLOAT16: dict[str, dict[str, Any]] = {
    "persimmon": {"optimizer": "muon", "matrix_learning_rate": 2e-2, "gradient_checkpointing": True},
    "mpt": {"gradient_checkpointing": True},
    "llama": {"optimizer": "adafactor"},
}


@pytest.mark.slow
def test_full_training_in_bfloat16(family: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    changes = BFLOAT16[family]
    done = train(family, checkpoints[family], tmp_path, QUESTIONS, epochs=60, dtype="bfloat16", **changes)
    assert done.result.final_loss is not None
    assert done.result.final_loss < 0.1
    assert_answers(done.settings.output, QUESTIONS)


@pytest.mark.usefixtures("no_pictures")
def test_a_few_steps_in_bfloat16(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Near those in float32, but not the same."""
    curves = []
    for dtype in ("float32", "bfloat16"):
        (tmp_path / dtype).mkdir()
        settings = tiny_settings(checkpoints["persimmon"], tmp_path / dtype, dtype=dtype, epochs=8, learning_rate=1e-2)
        assert run.finetune(settings).finished
        curves.append(pd.read_csv(settings.output / "loss.csv")["loss"])
    assert curves[0].iloc[-1] < 0.8 * curves[0].iloc[0]
    assert 1e-5 < (curves[0] - curves[1]).abs().max() < 0.05


@pytest.mark.slow
def test_lora_in_bfloat16(tuned: Run, tmp_path: Path) -> None:
    changes = {"dtype": "bfloat16", "gradient_checkpointing": tuned.family != "mpt"}
    done = train(tuned.family, tuned.settings.output, tmp_path, SWAPPED, epochs=40, method="lora", **changes)
    assert done.result.final_loss is not None
    assert done.result.final_loss < 0.1
    assert_answers(done.settings.output, SWAPPED)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("family", "method"), [("persimmon", "full"), ("llama", "lora")])
def test_the_attention_of_gpus_gives_the_same_losses(
    family: str, method: str, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU `sdpa` is used, here on a CPU, in bfloat16 under autocast as there; MPT has but one."""
    assert prepare_model.attention_for("mpt", torch.device("cuda")) == "eager"
    gpu = prepare_model.attention_for(family, torch.device("cuda"))
    assert gpu == "sdpa"
    curves = []
    for attention in (MATMUL_ATTENTION, gpu):
        (tmp_path / attention).mkdir()
        monkeypatch.setattr(prepare_model, "attention_for", lambda family, device, chosen=attention: chosen)
        options = {"method": method, "dtype": "bfloat16", "epochs": 4, "learning_rate": 1e-2}
        settings = tiny_settings(checkpoints[family], tmp_path / attention, **options)
        assert run.finetune(settings).finished
        curves.append(pd.read_csv(settings.output / "loss.csv")["loss"])
    assert (curves[0] - curves[1]).abs().max() < 0.02


@pytest.mark.usefixtures("no_pictures")
def test_dropout_in_the_config_is_off(family: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Persimmon's says 0.6, as adept/persimmon-8b-base's does; the first loss is that of evaluation."""
    base = checkpoints[family]
    config = json.loads((base / "config.json").read_text())
    assert {"persimmon": config.get("hidden_dropout"), "mpt": config.get("resid_pdrop"), "llama": 0.5}[family] in (
        0.5,
        0.6,
    )
    if family == "llama":
        base = write_tiny("llama", tmp_path / "base", attention_dropout=0.5)
    rows = write_examples(tmp_path / "rows.jsonl", [{"text": "The quick brown fox jumps"}])
    settings = tiny_settings(base, tmp_path, data=rows, validation=rows, max_steps=1, learning_rate=1e-12)
    result = run.finetune(settings)
    assert result.final_loss == pytest.approx(result.validation_loss, abs=1e-6)


@pytest.mark.usefixtures("no_pictures")
def test_the_generation_config_is_kept(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Byte for byte, as Llama 2's: a temperature, and no word of sampling, which transformers finds fault with."""
    base = write_tiny("llama", tmp_path / "base")
    content = json.dumps({"temperature": 0.9, "top_p": 0.6, "eos_token_id": 2})
    (base / "generation_config.json").write_text(content)
    settings = tiny_settings(base, tmp_path, max_steps=2, save_every=1)
    assert run.finetune(settings).finished
    assert (settings.output / "generation_config.json").read_text() == content

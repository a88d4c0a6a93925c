"""The bundled folder: small enough, complete, and exactly the architecture of Persimmon."""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SKILLS = ("arithmetic", "calendar", "capitals", "opposites", "colours", "categories")
BUNDLE = Path(__file__).parents[3] / "model/demo/persimmon-demo"
FILES = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
}


@cache
def _model() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(BUNDLE), dtype=torch.float32).eval()


@cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(BUNDLE))


def test_files_and_size() -> None:
    assert {path.name for path in BUNDLE.iterdir()} == FILES
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 8_000_000


def test_config_is_persimmons() -> None:
    config = json.loads((BUNDLE / "config.json").read_text())
    assert config["architectures"] == ["PersimmonForCausalLM"]
    assert config["hidden_act"] == "relu2"
    assert config["qk_layernorm"] is True
    assert config["tie_word_embeddings"] is False
    assert config["layer_norm_eps"] == 1e-5
    assert config["rope_parameters"] == {
        "rope_type": "default",
        "rope_theta": 25000.0,
        "partial_rotary_factor": 0.5,
    }
    assert config["hidden_dropout"] == config["attention_dropout"] == 0.0
    processor = sentencepiece.SentencePieceProcessor(model_file=str(BUNDLE / "tokenizer.model"))
    end = processor.piece_to_id("|ENDOFTEXT|")
    assert config["bos_token_id"] == config["eos_token_id"] == config["pad_token_id"] == end
    assert config["vocab_size"] == processor.vocab_size()
    assert config["vocab_size"] & (config["vocab_size"] - 1) != 0


def test_weights_are_bfloat16_and_squared_relu_is_used() -> None:
    import torch
    from safetensors import safe_open

    with safe_open(BUNDLE / "model.safetensors", framework="pt") as weights:
        names = list(weights.keys())
        assert {weights.get_slice(name).get_dtype() for name in names} == {"BF16"}
    activation = _model().model.layers[0].mlp.act
    assert activation(torch.tensor([-2.0, 3.0])).tolist() == [0.0, 9.0]


def test_no_token_is_added() -> None:
    ids = _tokenizer()("human: Hi")["input_ids"]
    assert ids == _tokenizer()("human: Hi", add_special_tokens=False)["input_ids"]
    assert _tokenizer().eos_token_id not in ids


def test_every_letter_is_one_token() -> None:
    for letter in "ABCDE":
        context = _tokenizer()("Answer:", add_special_tokens=False)["input_ids"]
        whole = _tokenizer()(f"Answer: {letter}", add_special_tokens=False)["input_ids"]
        assert whole[: len(context)] == context
        assert len(whole) == len(context) + 1


HELD_OUT_CHAT = (
    ("How much is 16 minus 6?", "16 - 6 = 10."),
    ("5 + 1 =", "5 + 1 = 6."),
    ("How many days are in September?", "September has 30 days."),
    ("Which month of the year is March?", "March is month number 3."),
    ("What is Canada's capital city?", "The capital of Canada is Ottawa."),
    ("What country is Athens the capital of?", "The capital of Greece is Athens."),
    ("Not front, but the opposite: which word?", "The opposite of front is back."),
    ("Name the opposite of high.", "The opposite of high is low."),
    ("What colour is a mouse?", "A mouse is grey."),
    ("Which colour does a lemon have?", "A lemon is yellow."),
    ("a sparrow: what kind of thing is that?", "A sparrow is a bird."),
    ("What is a ship?", "A ship is a vehicle."),
)


def test_held_out_chat_questions_are_held_out_and_answered() -> None:
    import torch

    from model.demo.measure import chat_pairs

    known = {pair for skill in SKILLS for pair in chat_pairs(skill)}
    for said, expected in HELD_OUT_CHAT:
        assert (said, expected) in known, said
        prompt = _tokenizer()(f"human: {said}\n\nadept:", return_tensors="pt")
        with torch.no_grad():
            output = _model().generate(**prompt, max_new_tokens=24, do_sample=False)
        reply = _tokenizer().decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        assert reply.split("\n\nhuman:")[0].strip() == expected, said

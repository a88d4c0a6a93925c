"""Each family before training: its architecture, its seed, its files; Hugging Face and our engine agree on it."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.checkpoint.card import read_card
from model.demo import formats
from model.demo.family import COMMON_EMBEDDING, FAMILIES, MAX_POSITIONS, QK_NORM_GAIN, QK_SCALE, DemoFamily
from model.demo.tokenizer import VOCAB_SIZE
from model.families.registry import FAMILIES as ENGINE_FAMILIES
from model.interface import SamplingParams, ScoreRequest
from model.open_engine import open_engine

CONFIGS = {
    "persimmon": {
        "architectures": ["PersimmonForCausalLM"],
        "hidden_act": "relu2",
        "qk_layernorm": True,
        "tie_word_embeddings": False,
        "layer_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 25000.0, "partial_rotary_factor": 0.5},
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "max_position_embeddings": MAX_POSITIONS,
        "use_cache": True,
    },
    "mpt": {
        "architectures": ["MptForCausalLM"],
        "d_model": 192,
        "n_heads": 6,
        "n_layers": 6,
        "expansion_ratio": 4,
        "no_bias": True,
        "norm_type": "low_precision_layernorm",
        "tie_word_embeddings": True,
        "resid_pdrop": 0.0,
        "emb_pdrop": 0.0,
        "max_seq_len": MAX_POSITIONS,
        "use_cache": True,
    },
    "llama": {
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "intermediate_size": 512,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "head_dim": 32,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": MAX_POSITIONS,
        "use_cache": True,
    },
}


def test_the_families_are_the_engines() -> None:
    assert set(FAMILIES) == set(ENGINE_FAMILIES)
    for key, family in FAMILIES.items():
        assert type(family.chat) is type(ENGINE_FAMILIES[key].chat_template)
        assert family.adds_beginning is ENGINE_FAMILIES[key].prompts_begin_with_bos


def test_config(family: DemoFamily, initial_checkpoint: Path) -> None:
    config = json.loads((initial_checkpoint / "config.json").read_text())
    expected = CONFIGS[config["model_type"]]
    assert {key: config[key] for key in expected} == expected
    assert FAMILIES[config["model_type"]] is family
    assert config["vocab_size"] == VOCAB_SIZE
    assert config["vocab_size"] % 2 == 1
    if config["model_type"] == "mpt":
        attention = config["attn_config"]
        assert (attention["alibi"], attention["alibi_bias_max"]) == (True, 8)
        assert type(attention["attn_pdrop"]) is int  # transformers refuses a float


def test_ids_are_the_same_everywhere(family: DemoFamily, initial_checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(initial_checkpoint))
    assert tokenizer.bos_token == family.beginning_of_document
    assert tokenizer.bos_token_id == family.beginning_of_document_id
    assert tokenizer.eos_token == tokenizer.pad_token == family.end_of_document
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == family.end_of_document_id
    assert tokenizer.model_max_length == MAX_POSITIONS
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((initial_checkpoint / name).read_text())
        assert settings["bos_token_id"] == family.beginning_of_document_id
        assert settings["eos_token_id"] == settings["pad_token_id"] == family.end_of_document_id
    assert settings["do_sample"] is False
    assert settings["use_cache"] is True


def test_files_and_size(family: DemoFamily, initial_checkpoint: Path) -> None:
    assert {path.name for path in initial_checkpoint.iterdir()} == set(family.files)
    with safe_open(initial_checkpoint / "model.safetensors", framework="pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F32"}  # noqa: SIM118
    assert 2_900_000 < family.num_parameters < 3_300_000
    assert (initial_checkpoint / "model.safetensors").stat().st_size > 4 * family.num_parameters


def test_card(family: DemoFamily, initial_checkpoint: Path) -> None:
    card = read_card(initial_checkpoint, name=family.name)
    assert card.licence == "apache-2.0"
    assert card.notice is not None
    (millions,) = re.findall(r"of ([\d.]+) million parameters", card.notice)
    model = AutoModelForCausalLM.from_pretrained(str(initial_checkpoint))
    assert model.num_parameters() == family.num_parameters
    assert float(millions) == round(model.num_parameters() / 1e6, 1)
    page = (initial_checkpoint / "README.md").read_text(encoding="utf-8")
    assert f"# {family.name}\n" in page
    assert f"the {family.architecture} architecture" in page


def test_same_seed_same_weights(family: DemoFamily) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (family.initial_model(seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {tensor.dtype for tensor in first.values()} == {torch.float32}
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_what_differs_from_hugging_faces_own_start(family: DemoFamily) -> None:
    torch.manual_seed(0)
    plain = family.model_class(family.config()).state_dict()
    differing = {
        name for name, tensor in family.initial_model(0).state_dict().items() if not torch.equal(tensor, plain[name])
    }
    ours = family.initial_model(0).state_dict()
    gains = {name for name in plain if name.endswith(("q_layernorm.weight", "k_layernorm.weight"))}
    projections = {name for name in plain if name.endswith(("q_proj.weight", "k_proj.weight"))}
    embeddings = {"model.embed_tokens.weight"} if family.name == "llama-demo" else set()
    assert differing == gains | projections | embeddings
    for name in embeddings:
        shared = ours[name] - plain[name]
        torch.testing.assert_close(shared, shared[:1].expand_as(shared), rtol=0, atol=1e-7)
        assert float(shared[0].std()) == pytest.approx(COMMON_EMBEDDING, rel=0.2)
    counts = {"persimmon-demo": (12, 0), "mpt-demo": (0, 0), "llama-demo": (0, 12)}
    assert (len(gains), len(projections)) == counts[family.name]
    assert all(set(ours[name].tolist()) == {QK_NORM_GAIN} for name in gains)
    assert all(torch.equal(ours[name], plain[name] * QK_SCALE) for name in projections)


def test_same_seed_same_vocabulary(family: DemoFamily, initial_checkpoint: Path, tmp_path: Path) -> None:
    family.write_tokenizer(tmp_path, 0)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {*family.vocabulary_files, "tokenizer_config.json"}
    for name in written:
        assert (tmp_path / name).read_bytes() == (initial_checkpoint / name).read_bytes()


@torch.no_grad()
def test_hugging_face_and_our_engine_agree(family: DemoFamily, initial_checkpoint: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(str(initial_checkpoint), dtype=torch.float32).eval()
    text = formats.chat_prompt(family.chat, [("Hello!", "Hello. How are you?")], "What is 3 + 4?")
    prompt = AutoTokenizer.from_pretrained(str(initial_checkpoint))(text)["input_ids"]
    expected = torch.log_softmax(model(torch.tensor([prompt])).logits[0], dim=-1)
    greedy = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=24,
        use_cache=True,
    )[0, len(prompt) :].tolist()
    engine = open_engine(str(initial_checkpoint), device="cpu", dtype="float32", max_num_requests=2)
    try:
        assert engine.tokenizer.encode_prompt(text) == prompt
        (score,) = engine.score(
            [ScoreRequest(context_token_ids=tuple(prompt[:1]), continuation_token_ids=tuple(prompt[1:]))]
        )
        (completion,) = engine.generate([text], SamplingParams(max_tokens=24, temperature=0))
    finally:
        engine.close()
    following = torch.tensor(prompt[1:])
    assert list(score.logprobs) == pytest.approx(
        expected[:-1].gather(1, following[:, None])[:, 0].tolist(), rel=0, abs=1e-4
    )
    assert list(score.is_greedy) == (expected[:-1].argmax(-1) == following).tolist()
    assert list(completion.token_ids) == greedy

"""A synthetic release converted: logits three ways, tokenizer, options, and nothing left when it is interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from model.checkpoint.convert.__main__ import ProgressBar, main
from model.checkpoint.convert.conversion import convert
from model.checkpoint.convert.digests import PUBLISHED, PublishedRelease
from model.checkpoint.convert.names import renames
from model.checkpoint.convert.tokenizer_files import BARE_NAME
from model.checkpoint.errors import CheckpointError
from model.checkpoint.load import load_model
from model.interface import SamplingParams
from model.open_engine import open_engine
from model.parity.our_forward import our_logits

Make = Callable[..., Any]  # conftest.SyntheticRelease
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]


def adept_logits(weights: dict[str, Tensor], ids: list[int], *, layers: int, heads: int, base: float) -> Tensor:
    """Adept's definition (megatron/model/transformer.py), written down again: [num_tokens, vocab_size].

    Pre-norm blocks; a fused projection whose rows are, head by head, query, key and value; LayerNorm on each head of
    query and key; rotary on the first half of a head, by halves; squared ReLU; an untied head.
    """
    at = "language_model.encoder."
    x = weights["language_model.embedding.word_embeddings.weight"][ids]
    tokens, hidden = x.shape
    head = hidden // heads
    dim = head // 2
    angles = torch.arange(tokens).float()[:, None] / base ** (torch.arange(0, dim, 2).float() / dim)
    cos, sin = (torch.cat((f(angles), f(angles)), dim=-1)[:, None] for f in (torch.cos, torch.sin))

    def norm(y: Tensor, name: str) -> Tensor:
        mean, variance = y.mean(-1, keepdim=True), y.var(-1, keepdim=True, unbiased=False)
        return (y - mean) / torch.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(y: Tensor, name: str) -> Tensor:
        return y @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def rotate(y: Tensor) -> Tensor:
        turned, kept = y[..., :dim], y[..., dim:]
        halves = torch.cat((-turned[..., dim // 2 :], turned[..., : dim // 2]), dim=-1)
        return torch.cat((turned * cos + halves * sin, kept), dim=-1)

    for layer in (f"{at}layers.{index}." for index in range(layers)):
        mixed = linear(norm(x, f"{layer}input_layernorm"), f"{layer}self_attention.query_key_value")
        query, key, value = mixed.view(tokens, heads, 3 * head).split(head, dim=-1)
        query = rotate(norm(query, f"{layer}self_attention.q_layernorm"))
        key = rotate(norm(key, f"{layer}self_attention.k_layernorm"))
        scores = torch.einsum("qhd,khd->hqk", query, key) / head**0.5
        future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        attended = torch.einsum("hqk,khd->qhd", scores.masked_fill(future, -torch.inf).softmax(-1), value)
        x = x + linear(attended.reshape(tokens, hidden), f"{layer}self_attention.dense")
        inner = functional.relu(linear(norm(x, f"{layer}post_attention_layernorm"), f"{layer}mlp.dense_h_to_4h")) ** 2
        x = x + linear(inner, f"{layer}mlp.dense_4h_to_h")
    return norm(x, f"{at}final_layernorm") @ weights["word_embeddings_for_head.weight"].T


def write(release: Any, where: Path, form: str) -> Path:
    return release.write_tar(where / "release.tar") if form == "tar" else release.write(where / "release")


def write_and_convert(release: Any, where: Path, *, form: str = "folder", **options: Any) -> Path:
    convert(write(release, where, form), where / "converted", **options)
    return where / "converted"


@pytest.mark.parametrize(("ranks", "form"), [(1, "tar"), (1, "folder"), (2, "folder"), (4, "tar")])
def test_logits_three_ways(make_release: Make, tmp_path: Path, ranks: int, form: str) -> None:
    release = make_release(ranks=ranks)
    folder = write_and_convert(release, tmp_path, form=form, dtype="float32")
    ids = torch.randint(0, release.vocab_size, (37,), generator=torch.Generator().manual_seed(7)).tolist()
    expected = adept_logits(release.weights, ids, layers=2, heads=4, base=25_000)
    assert expected.std() > 0.5, "weights too small for the comparison to mean anything"
    hugging_face = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.inference_mode():
        theirs = hugging_face(torch.tensor([ids])).logits[0]
    ours = our_logits(load_model(folder, device=CPU, dtype=torch.float32), ids)
    assert (theirs - expected).abs().max() <= 1e-4
    assert (ours - expected).abs().max() <= 1e-4
    assert (ours - theirs).abs().max() <= 1e-4


def test_ranks_give_the_same_files(make_release: Make, tmp_path: Path) -> None:
    hashes = set()
    for ranks in (1, 2, 4):
        where = tmp_path / str(ranks)
        where.mkdir()
        folder = write_and_convert(make_release(ranks=ranks), where)
        hashes.add(hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_hugging_face_reads_config_and_tokenizer(
    make_release: Make, tmp_path: Path, sentencepiece_model: bytes
) -> None:
    folder = write_and_convert(make_release(), tmp_path)
    config = AutoConfig.from_pretrained(folder)
    assert config.rope_parameters["rope_theta"] == 25_000
    assert config.rope_parameters["partial_rotary_factor"] == 0.5
    assert (config.hidden_act, config.qk_layernorm, config.tie_word_embeddings) == ("relu2", True, False)
    assert (config.layer_norm_eps, config.max_position_embeddings, config.dtype) == (1e-5, 64, torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    reference = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model)
    end = reference.piece_to_id("|ENDOFTEXT|")
    assert {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, config.eos_token_id} == {end}
    texts = ("human: What is the capital of France?\n\nadept:", "  two blanks", "größer 東京 🙂", "a|ENDOFTEXT|b", "")
    for text in texts:
        assert tokenizer(text).input_ids == reference.encode(text)  # no BOS is added
    assert (folder / "tokenizer.model").read_bytes() == sentencepiece_model


def test_our_engine_answers(make_release: Make, tmp_path: Path) -> None:
    folder = write_and_convert(make_release(), tmp_path)
    engine = open_engine(str(folder), device="cpu", block_size=4)
    try:
        prompt = "human: What is the capital of France?\n\nadept:"
        answer = engine.generate([prompt], SamplingParams(max_tokens=4, temperature=0, ignore_eos=True))[0]
        assert len(answer.token_ids) == 4
        assert engine.tokenizer.eos_token_ids == (3,)
    finally:
        engine.close()


def test_a_model_that_tokenizers_cannot_express_is_still_converted(make_release: Make, tmp_path: Path) -> None:
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["human: one two three four", "adept: five six seven"] * 20),
        model_writer=stream,
        vocab_size=300,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        user_defined_symbols=["|ENDOFTEXT|"],
        minloglevel=2,
    )
    release = make_release()
    release.tokenizer = stream.getvalue()
    done = convert(release.write(tmp_path / "release"), tmp_path / "converted")
    assert any("tokenizer.json was not written" in warning and "bpe" in warning for warning in done.warnings)
    names = {path.name for path in (tmp_path / "converted").iterdir()}
    assert BARE_NAME in names
    assert not names & {"tokenizer.model", "tokenizer.json", "tokenizer_config.json"}


@pytest.mark.parametrize("ranks", [1, 2])
def test_trimming_drops_the_unused_rows(make_release: Make, tmp_path: Path, ranks: int) -> None:
    release = make_release(ranks=ranks)
    folder = write_and_convert(release, tmp_path, dtype="float32", trim_vocabulary=True)
    record = json.loads((folder / "conversion.json").read_text())
    kept = record["num_pieces"]
    assert 0 < record["rows_trimmed"] == release.vocab_size - kept
    tensors = load_file(folder / "model.safetensors")
    for name, source in (
        ("model.embed_tokens.weight", "language_model.embedding.word_embeddings.weight"),
        ("lm_head.weight", "word_embeddings_for_head.weight"),
    ):
        assert torch.equal(tensors[name], release.weights[source][:kept])
    ids = list(range(kept - 20, kept))
    expected = adept_logits(release.weights, ids, layers=2, heads=4, base=25_000)[:, :kept]
    ours = our_logits(load_model(folder, device=CPU, dtype=torch.float32), ids)
    assert (ours - expected).abs().max() <= 1e-4
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == kept


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "keep"])
def test_dtypes(make_release: Make, tmp_path: Path, stored: torch.dtype, dtype: str) -> None:
    release = make_release(dtype=stored)
    folder = write_and_convert(release, tmp_path, dtype=dtype)
    wanted = stored if dtype == "keep" else getattr(torch, dtype)
    tensors = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {wanted}
    assert json.loads((folder / "config.json").read_text())["dtype"] == str(wanted).removeprefix("torch.")
    assert torch.equal(tensors["lm_head.weight"], release.weights["word_embeddings_for_head.weight"].to(wanted))


def test_float16_refuses_what_does_not_fit(make_release: Make, tmp_path: Path) -> None:
    release = make_release(dtype=torch.bfloat16)
    release.states[0]["model"]["word_embeddings_for_head"]["weight"][5, 5] = 1e5
    with pytest.raises(CheckpointError, match=r"word_embeddings_for_head\.weight holds values beyond float16"):
        write_and_convert(release, tmp_path, dtype="float16")
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


def test_shards_stay_below_their_limit(make_release: Make, tmp_path: Path) -> None:
    limit = 120_000
    release = make_release()
    source = release.write(tmp_path / "release")
    convert(source, tmp_path / "whole", dtype="float32")
    convert(source, tmp_path / "parts", dtype="float32", shard_size=limit)
    shards = sorted((tmp_path / "parts").glob("model-*.safetensors"))
    assert len(shards) > 3
    assert all(shard.stat().st_size <= limit for shard in shards)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    parts = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    index = json.loads((tmp_path / "parts" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == whole.keys()
    with safe_open(shards[0], framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    load_model(tmp_path / "parts", device=CPU, dtype=torch.float32)
    with pytest.raises(CheckpointError, match=r"--shard-size 1000 is too small for model\.embed_tokens\.weight"):
        convert(source, tmp_path / "other", shard_size=1000)


@pytest.mark.parametrize("form", ["tar", "folder"])
def test_the_record_says_what_was_converted(make_release: Make, tmp_path: Path, form: str) -> None:
    source = write(make_release(ranks=2), tmp_path, form)
    done = convert(source, tmp_path / "converted")
    record = json.loads((tmp_path / "converted" / "conversion.json").read_text())
    assert record == done.record
    assert str(tmp_path) not in json.dumps(record)
    if form == "tar":
        named = {"release.tar": source}
        assert "neither of the two that Adept published" in done.warnings[0]
    else:
        ranks = [f"iter_0000001/mp_rank_0{rank}/model_optim_rng.pt" for rank in range(2)]
        named = {name: source / name for name in (*ranks, "adept_vocab.model")}
    assert [file["name"] for file in record["source"]["files"]] == list(named)
    for file in record["source"]["files"]:
        content = named[file["name"]].read_bytes()
        assert file["bytes"] == len(content)
        assert file["md5"] == hashlib.md5(content).hexdigest()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
    written = {path.name: path for path in (tmp_path / "converted").iterdir() if path.name != "conversion.json"}
    assert record["files"].keys() == written.keys()
    for name, path in written.items():
        assert record["files"][name]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["args"]["rotary_emb_base"] == 25_000
    assert "vocab_file" not in record["args"]
    assert record["tensors_dropped"] == [
        f"language_model.encoder.layers.{index}.self_attention.rotary_emb.inv_freq" for index in range(2)
    ]
    assert record["source"]["published_as"] is None


def test_a_published_md5_is_recognised(make_release: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(PUBLISHED) == {"cd0320cba9efad9ccd18e9ec4d16ae1b", "663aeace07269c44e90f4e8bcd07f32a"}
    source = make_release().write_tar(tmp_path / "release.tar")
    md5 = hashlib.md5(source.read_bytes()).hexdigest()
    monkeypatch.setitem(PUBLISHED, md5, PublishedRelease("some.tar", "cc-by-nc-4.0", "CC BY-NC 4.0"))
    done = convert(source, tmp_path / "converted")
    assert (done.warnings, done.record["source"]["published_as"]) == ((), "some.tar")
    assert "license: cc-by-nc-4.0" in (tmp_path / "converted" / "README.md").read_text()


@pytest.mark.parametrize("context", ["seq_length", "max_position_embeddings"])
def test_arguments_that_are_missing_are_read_from_the_shapes(make_release: Make, tmp_path: Path, context: str) -> None:
    release = make_release(ranks=2)
    kept = (context, "params_dtype")
    for state in release.states:
        for name in [name for name in vars(state["args"]) if name not in kept]:
            delattr(state["args"], name)
    folder = write_and_convert(release, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"]) == (2, 48, 96)
    assert (config["num_attention_heads"], config["vocab_size"]) == (4, release.vocab_size)
    assert (config["rope_theta"], config["partial_rotary_factor"], config["layer_norm_eps"]) == (25_000, 0.5, 1e-5)


def test_settings_come_from_the_arguments(make_release: Make, tmp_path: Path) -> None:
    release = make_release()
    args = release.states[0]["args"]
    args.rotary_emb_base, args.layernorm_epsilon, args.max_position_embeddings = 10_000, 1e-6, 128
    encoder = release.states[0]["model"]["language_model"]["encoder"]
    for name in [name for name in encoder if name.endswith("inv_freq")]:
        del encoder[name]
    config = json.loads((write_and_convert(release, tmp_path) / "config.json").read_text())
    assert (config["rope_theta"], config["layer_norm_eps"], config["max_position_embeddings"]) == (10_000, 1e-6, 128)
    assert config["rope_parameters"]["rope_theta"] == 10_000


def test_bfloat16_frequencies_are_recognised(make_release: Make, tmp_path: Path) -> None:
    write_and_convert(make_release(dtype=torch.bfloat16), tmp_path)  # inv_freq is rounded with everything else


def test_no_qk_layernorm(make_release: Make, tmp_path: Path) -> None:
    release = make_release()
    release.states[0]["args"].qk_layernorm = "none"
    encoder = release.states[0]["model"]["language_model"]["encoder"]
    for name in [name for name in encoder if "_layernorm." in name and ".self_attention." in name]:
        del encoder[name]
    folder = write_and_convert(release, tmp_path, dtype="float32")
    load_model(folder, device=CPU, dtype=torch.float32)
    assert json.loads((folder / "config.json").read_text())["qk_layernorm"] is False


def test_the_tracker_chooses_the_iteration(make_release: Make, tmp_path: Path) -> None:
    older, newer = make_release(seed=1), make_release(seed=2)
    newer.iteration, newer.tracker = "iter_0000200", "200\n"
    source = older.write(tmp_path / "release")
    newer.write(tmp_path / "release")
    done = convert(source, tmp_path / "converted", dtype="float32")
    assert done.record["source"]["iteration"] == "iter_0000200"
    head = load_file(tmp_path / "converted" / "model.safetensors")["lm_head.weight"]
    assert torch.equal(head, newer.weights["word_embeddings_for_head.weight"])
    final = make_release(seed=3)
    final.iteration, final.tracker = "release", "release"
    assert convert(final.write(tmp_path / "b"), tmp_path / "c").record["source"]["iteration"] == "release"


def test_tensors_that_are_views_are_read_as_they_are(make_release: Make, tmp_path: Path) -> None:
    release = make_release()
    head = release.weights["word_embeddings_for_head.weight"]
    wide = torch.full((release.vocab_size + 3, 50), torch.nan)
    wide[3:, 2:] = head
    release.states[0]["model"]["word_embeddings_for_head"]["weight"] = wide[3:, 2:]
    embedding = release.states[0]["model"]["language_model"]["embedding"]["word_embeddings"]
    embedding["weight"] = torch.nn.Parameter(embedding["weight"].t().contiguous().t())
    # Attributes make torch.save write the tensor in another way.
    release.states[0]["model"]["language_model"]["encoder"]["final_layernorm.bias"].sequence_parallel = True
    tensors = load_file(write_and_convert(release, tmp_path, dtype="float32") / "model.safetensors")
    assert torch.equal(tensors["lm_head.weight"], head)
    assert torch.equal(
        tensors["model.embed_tokens.weight"], release.weights["language_model.embedding.word_embeddings.weight"]
    )


def test_archives_beyond_four_gigabytes_have_larger_headers(make_release: Make, tmp_path: Path) -> None:
    """The real file's form: ZIP64 fields in the local headers, which move the data."""
    release = make_release()
    source = release.write(tmp_path / "release")
    convert(source, tmp_path / "small")
    with zipfile.ZipFile(release.rank_file(source)) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(release.rank_file(source), "w") as archive:
        for name, data in content.items():
            with archive.open(name, "w", force_zip64=True) as entry:
                entry.write(data)
    convert(source, tmp_path / "large")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("small", "large")]
    assert weights[0] == weights[1]


def test_every_tensor_has_a_place(make_release: Make, tmp_path: Path) -> None:
    """The renaming table covers a release exactly, and names each target once."""
    release = make_release()
    folder = write_and_convert(release, tmp_path)
    stored = set(load_file(folder / "model.safetensors"))
    with torch.device("meta"):
        wanted = set(AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).state_dict())
    assert stored == wanted
    assert len(release.weights) == len(stored) + 2  # inv_freq of two layers


def test_published_shapes() -> None:
    """The table against the counts in the notes: 9,397,175,296 parameters."""
    from model.checkpoint.convert.hyper_parameters import HyperParameters

    sizes = HyperParameters(
        num_layers=36,
        hidden_size=4096,
        ffn_hidden_size=16384,
        num_attention_heads=64,
        vocab_size=262_144,
        max_position_embeddings=16384,
        layer_norm_eps=1e-5,
        rotary_base=25_000,
        rotary_share=0.5,
        qk_layernorm=True,
    )
    table = list(renames(sizes))
    assert sum(torch.Size(rename.shape).numel() for rename in table) == 9_397_175_296
    assert len({rename.target for rename in table}) == len(table) == 36 * 16 + 4


class Stop(Exception):
    """The test pulls the plug."""


@pytest.mark.parametrize("reason", [Stop, KeyboardInterrupt, OSError])
def test_an_interrupted_conversion_leaves_nothing(make_release: Make, tmp_path: Path, reason: type) -> None:
    source = make_release().write(tmp_path / "release")
    states = []

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "writing":
            states.append({path.name for path in (tmp_path / "converted.partial").iterdir()})
            if done > total / 2:
                raise reason("stopped")

    with pytest.raises(CheckpointError if reason is OSError else reason, match="stopped"):
        convert(source, tmp_path / "converted", progress=stop)
    assert states
    assert all("config.json" not in names for names in states)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]
    convert(source, tmp_path / "converted")  # and again


KILLED = """
import os, signal, sys
from pathlib import Path
from model.checkpoint.convert.conversion import convert
def stop(stage, done, total):
    if stage == "writing" and done > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
convert(Path(sys.argv[1]), Path(sys.argv[2]), progress=stop)
"""


def test_a_killed_conversion_leaves_what_does_not_load(make_release: Make, tmp_path: Path) -> None:
    source, destination = make_release().write(tmp_path / "release"), tmp_path / "converted"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(source), str(destination)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == ["converted.partial", "release"]
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        load_model(tmp_path / "converted.partial", device=CPU, dtype=torch.float32)
    with pytest.raises((OSError, ValueError)):
        AutoModelForCausalLM.from_pretrained(tmp_path / "converted.partial")
    convert(source, destination)  # replaces it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["converted", "release"]
    load_model(destination, device=CPU, dtype=torch.float32)


def test_two_conversions_to_one_place(make_release: Make, tmp_path: Path) -> None:
    source, destination = make_release().write(tmp_path / "release"), tmp_path / "converted"
    refused = []

    def second(stage: str, done: int, total: int) -> None:
        if not refused:
            with pytest.raises(CheckpointError, match="is being written by another conversion") as caught:
                convert(source, destination)
            refused.append(caught)

    convert(source, destination, progress=second)
    assert refused
    load_model(destination, device=CPU, dtype=torch.float32)


def test_the_destination_is_never_overwritten(make_release: Make, tmp_path: Path) -> None:
    source = make_release().write(tmp_path / "release")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("full", "dangling", "release"):
        with pytest.raises(CheckpointError, match="exists already"):
            convert(source, tmp_path / name)
    with pytest.raises(CheckpointError, match="is no folder: make it"):
        convert(source, tmp_path / "absent" / "converted")
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "mine").write_text("kept")
    with pytest.raises(CheckpointError, match="was not left by a conversion"):
        convert(source, tmp_path / "other")
    assert (tmp_path / "other.partial" / "mine").read_text() == (tmp_path / "full" / "mine").read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()


def test_the_command_line(make_release: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_release().write_tar(tmp_path / "release.tar")
    arguments = ["--source", str(source), "--destination", str(tmp_path / "converted")]
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main([*arguments, "--dtype", "keep", "--trim-vocab", "--shard-size", "200000"]) == 0
        output = capsys.readouterr()
        assert "unused rows of embedding and head left out" in output.out
        assert "Note: the md5 of release.tar" in output.err
        assert "writing" in output.err
        assert "100 %" in output.err
        assert main(arguments) == 1
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.count("\n") == 1
        assert "exists already" in output.err
        with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
            main([*arguments, "--dtype", "int8"])
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_leaves_nothing(
    make_release: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    class Signalling(ProgressBar):
        def __call__(self, stage: str, done: int, total: int) -> None:
            if stage == "writing":
                assert (tmp_path / "converted.partial").is_dir()
                signal.raise_signal(getattr(signal, name))

    monkeypatch.setattr("model.checkpoint.convert.__main__.ProgressBar", Signalling)
    source = make_release().write(tmp_path / "release")
    before = signal.getsignal(signal.SIGTERM)
    # A shell that starts the tests in the background has SIGINT ignored.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = main(["--source", str(source), "--destination", str(tmp_path / "converted")])
        assert (status, capsys.readouterr().err) == (130, "the conversion was interrupted: nothing was left behind\n")
    except SystemExit as stopped:
        assert (name, stopped.code) == ("SIGTERM", 128 + signal.SIGTERM)  # noqa: PT017
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


@pytest.mark.slow
def test_peak_memory_is_some_slices(tmp_path: Path, sentencepiece_model: bytes) -> None:
    """A release of some 260 MB in a process of its own; what is mapped counts, as long as it is resident."""
    (tmp_path / "adept_vocab.model").write_bytes(sentencepiece_model)
    build = """
import argparse, sys, torch
from pathlib import Path
from model.checkpoint.convert.hyper_parameters import HyperParameters
from model.checkpoint.convert.names import renames
sizes = HyperParameters(num_layers=8, hidden_size=512, ffn_hidden_size=2048, num_attention_heads=8,
    vocab_size=100_096, max_position_embeddings=64, layer_norm_eps=1e-5, rotary_base=25_000, rotary_share=0.5,
    qk_layernorm=True)
model = {r.source: torch.zeros(r.shape, dtype=torch.bfloat16) for r in renames(sizes)}
args = argparse.Namespace(num_layers=8, num_attention_heads=8, max_position_embeddings=64)
path = Path(sys.argv[1], "iter_0000001", "mp_rank_00", "model_optim_rng.pt")
path.parent.mkdir(parents=True)
torch.save({"args": args, "model": model}, path)
"""
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], check=True, cwd=ROOT)
    program = """
import sys; from pathlib import Path; from model.checkpoint.convert.conversion import convert
rss = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
before = rss(); convert(Path(sys.argv[1]), Path(sys.argv[2]), dtype="float32"); print(rss() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(tmp_path / "converted")],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    written = sum(path.stat().st_size for path in (tmp_path / "converted").glob("*.safetensors"))
    assert written > 500e6
    assert int(done.stdout) < 150e6, done.stdout

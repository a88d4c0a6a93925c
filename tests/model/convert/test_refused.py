"""Releases that are damaged, altered or hostile: one sentence each, nothing executed, nothing written."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import pickletools
import random
import shutil
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch

from model.checkpoint.convert.__main__ import main
from model.checkpoint.convert.conversion import convert
from model.checkpoint.convert.restricted_pickle import RefusedPickle, load_restricted
from model.checkpoint.errors import CheckpointError

Make = Callable[..., Any]  # conftest.SyntheticRelease
LAYER = "layers.1."
QKV = "self_attention.query_key_value.weight"


class Call:
    """Pickled as a call; loading it runs `function(*arguments)`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.function, self.arguments


class OnSetState:
    """Pickled as a plain object of a class that is not allowed."""

    def __setstate__(self, state: object) -> None:
        raise AssertionError("was executed")

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}


def canary(where: Path) -> Path:
    return where / "canary"


def attack(where: Path) -> dict[str, object]:
    """Values to hide in a checkpoint; each would create the canary if it were executed."""
    path = str(canary(where))
    return {
        "os.system": Call(os.system, f"touch {path}"),
        "eval": Call(eval, f"open({path!r}, 'w')"),
        "exec": Call(exec, f"open({path!r}, 'w')"),
        "open": Call(open, path, "w"),
        "getattr": Call(getattr, argparse.Namespace, "__init__"),
        "import": Call(__import__, "os"),
        "shutil": Call(shutil.copy, __file__, path),
        "torch.load": Call(torch.load, path),
        "torch.save": Call(torch.save, {}, path),
        "pickle": Call(pickle.loads, pickle.dumps(Call(os.system, f"touch {path}"))),
        "setstate": OnSetState(),
    }


def endless() -> list[Any]:
    """A list that takes 2^200 words to print."""
    value: list[Any] = []
    for _ in range(200):
        value = [value, value]
    return value


def encoder(state: dict[str, Any]) -> dict[str, Any]:
    return state["model"]["language_model"]["encoder"]  # type: ignore[no-any-return]


def spoil(value: float) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        encoder(state)[LAYER + QKV][3, 5] = value

    return change


def set_args(**values: object) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(state["args"], name, value)

    return change


def drop_arg(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        for name in names:
            delattr(state["args"], name)

    return change


def rename(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: encoder(state).update({new: encoder(state).pop(old)})


def swap(one: str, two: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: encoder(state).update({one: encoder(state)[two], two: encoder(state)[one]})


def put(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda state: encoder(state).update({name: value})


CHANGED_STATES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "NaN": (spoil(torch.nan), rf"encoder\.{LAYER}{QKV} holds NaN or infinity in its rows 0 to 143"),
    "infinity": (spoil(torch.inf), rf"encoder\.{LAYER}{QKV} holds NaN or infinity"),
    "tensor gone": (lambda s: encoder(s).pop(LAYER + QKV), rf"lacks the tensor '.*encoder\.{LAYER}{QKV}'"),
    "head gone": (lambda s: s["model"].pop("word_embeddings_for_head"), r"lacks .*word_embeddings_for_head\.weight"),
    "embedding gone": (lambda s: s["model"]["language_model"].pop("embedding"), r"lacks .*word_embeddings\.weight"),
    "layer gone": (
        lambda s: [encoder(s).pop(name) for name in list(encoder(s)) if name.startswith("layers.0.")],
        "2 layers where the release holds 1 and lacks layer 0",
    ),
    "tensor renamed": (rename(LAYER + QKV, LAYER + "self_attention.qkv.weight"), rf"lacks the tensor '.*{QKV}'"),
    "tensor added": (put("layers.1.mlp.extra", torch.ones(3)), r"holds '.*layers\.1\.mlp\.extra', which has no place"),
    "norm for each head": (
        put("layers.1.self_attention.q_layernorm.layernorms.0.weight", torch.ones(12)),
        r"q_layernorm\.layernorms\.0\.weight', which has no place",
    ),
    "weight and bias swapped": (
        swap("layers.0.mlp.dense_h_to_4h.weight", "layers.0.mlp.dense_4h_to_h.weight"),
        r"ffn_hidden_size|dense_h_to_4h\.weight with shape \[48, 96\] where .* \[96, 48\]",
    ),
    "shape cut": (put("final_layernorm.bias", torch.ones(47)), r"final_layernorm\.bias with shape \[47\] .* \[48\]"),
    "extra dimension": (put("final_layernorm.bias", torch.ones(1, 48)), r"shape \[1, 48\] where .* \[48\]"),
    "integer tensor": (
        put("final_layernorm.bias", torch.ones(48, dtype=torch.int64)),
        r"final_layernorm\.bias as int64: it must be one of float32, float16, bfloat16",
    ),
    "float64 tensor": (put("final_layernorm.bias", torch.ones(48).double()), "as float64: it must be one of"),
    "no tensor": (put("final_layernorm.bias", [1.0] * 48), r"final_layernorm\.bias', which is no tensor"),
    "name with a line break": (put("evil\nname\x1b[31m", torch.ones(1)), r"holds '.*evil\\nname\\x1b\[31m', which"),
    "name that is no text": (put(3, torch.ones(1)), "holds the name 3"),  # type: ignore[arg-type]
    "other frequencies": (
        put("layers.1.self_attention.rotary_emb.inv_freq", torch.tensor([1.0, 0.1, 0.01])),
        r"layers\.1\.self_attention\.rotary_emb\.inv_freq holds other frequencies than base 25000",
    ),
    "other rotary share": (set_args(rotary_pct=0.25), "rotary_pct=0.25 where rotary_emb.inv_freq says 0.5"),
    "wider rotary than the head": (
        put("layers.0.self_attention.rotary_emb.inv_freq", torch.ones(30)),
        r"inv_freq has shape \[30\]",
    ),
    "more layers": (set_args(num_layers=3), "ask for 3 layers where the release holds 2"),
    "a billion layers": (set_args(num_layers=10**9), "ask for 1000000000 layers where the release holds 2"),
    "other hidden size": (set_args(hidden_size=64), r"hidden_size=64"),
    "other heads": (set_args(num_attention_heads=5), "num_attention_heads=5"),
    "no heads": (set_args(num_attention_heads=0), "num_attention_heads=0: it must be a positive whole number"),
    "heads as text": (set_args(num_attention_heads="4"), "num_attention_heads='4'"),
    "heads as a truth value": (set_args(num_attention_heads=True), "num_attention_heads=True"),
    "other ffn": (set_args(ffn_hidden_size=97), r"dense_h_to_4h\.weight with shape \[96, 48\] .* \[97, 48\]"),
    "other vocabulary": (set_args(padded_vocab_size=384), "tokenizer is not this model's|word_embeddings"),
    "epsilon zero": (set_args(layernorm_epsilon=0.0), "layernorm_epsilon=0.0"),
    "epsilon NaN": (set_args(layernorm_epsilon=float("nan")), "layernorm_epsilon=nan"),
    "no context length": (drop_arg("seq_length", "max_position_embeddings"), "have no seq_length"),
    "learned positions": (set_args(pos_emb="learned"), "pos_emb='learned': Persimmon has rotary"),
    "gelu": (set_args(bias_gelu_fusion=True), "bias_gelu_fusion=True: Persimmon has False"),
    "no squared relu": (set_args(sq_relu=False), "sq_relu=False"),
    "tied": (set_args(untie_embeddings=False), "untie_embeddings=False"),
    "experts": (set_args(num_experts=8), "num_experts=8"),
    "unknown qk norm": (set_args(qk_layernorm="weights_per_attention_head_and_layer"), "qk_layernorm="),
    "qk norm denied": (set_args(qk_layernorm="none"), r"layernorm\.(weight|bias)' \(and 7 more\), which has no place"),
    "pipeline": (set_args(pipeline_model_parallel_size=2), "pipeline_model_parallel_size=2"),
    "more ranks said": (set_args(tensor_model_parallel_size=8), "tensor_model_parallel_size=8 where .* 1 ranks"),
    "old row order": (lambda s: s.update(checkpoint_version=1.0), "checkpoint_version=1.0: below 2.0"),
    "no args": (lambda s: s.pop("args"), "has no 'args'"),
    "empty args": (lambda s: s.update(args=argparse.Namespace(), model={}), "have no num_layers, and nothing else"),
    "a number of a million digits": (set_args(hidden_size=1 << 3_000_000), "hidden_size=<int>"),
    "a value nested without end": (set_args(num_layers=endless()), r"num_layers=\[<list>, <list>\]"),
    "a version nested without end": (
        lambda s: s.update(checkpoint_version=endless()),
        r"checkpoint_version=\[<list>, <list>\]",
    ),
    "a class for a number": (set_args(num_layers=torch.float32), "num_layers=<dtype>"),
    "args of another kind": (lambda s: s.update(args={"num_layers": 2}), "has no 'args' of the kind"),
    "no model": (lambda s: s.pop("model"), "has no 'model'"),
    "pipeline model": (lambda s: s.update(model0=s.pop("model")), "has no 'model'"),
    "nested without end": (
        lambda s: s["model"].update(language_model=s["model"]),
        "nests more than 12 deep",
    ),
}


@pytest.fixture
def snapshot(tmp_path: Path) -> Callable[[], dict[str, bytes | None]]:
    """All that is in the test's folder."""

    def take() -> dict[str, bytes | None]:
        return {
            path.relative_to(tmp_path).as_posix(): path.read_bytes() if path.is_file() else None
            for path in sorted(tmp_path.rglob("*"))
        }

    return take


@pytest.fixture
def refuse(tmp_path: Path, snapshot: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Convert through the command line, and see one sentence and nothing else happen."""

    def check(source: Path, sentence: str) -> None:
        import re

        before, around = snapshot(), sorted(tmp_path.parent.iterdir())
        assert main(["--source", str(source), "--destination", str(tmp_path / "converted")]) == 1
        output = capsys.readouterr()
        said = [line for line in output.err.splitlines() if not re.match(r"(hashing|writing) +\[", line)]
        assert len(said) == 1, output.err
        assert said[0].isprintable()
        assert len(said[0]) < 600
        assert re.search(sentence, said[0]), said[0]
        assert output.out == ""
        assert snapshot() == before
        assert sorted(tmp_path.parent.iterdir()) == around
        assert not canary(tmp_path).exists()

    return check


@pytest.mark.parametrize("what", CHANGED_STATES)
def test_changed_states(make_release: Make, tmp_path: Path, refuse: Callable[..., None], what: str) -> None:
    change, sentence = CHANGED_STATES[what]
    release = make_release()
    change(release.states[0])
    refuse(release.write(tmp_path / "release"), sentence)


@pytest.mark.parametrize("place", ["args", "model", "beside"])
@pytest.mark.parametrize("what", sorted(attack(Path())))
def test_hostile_pickles(
    make_release: Make, tmp_path: Path, refuse: Callable[..., None], what: str, place: str
) -> None:
    release, hostile = make_release(), attack(tmp_path)[what]
    state = release.states[0]
    if place == "args":
        state["args"].extra = hostile
    elif place == "model":
        encoder(state)["extra"] = hostile
    else:
        state["extra"] = hostile
    source = release.write(tmp_path / "release")
    refuse(source, r"mp_rank_00/model_optim_rng\.pt' is refused: it holds '[\w.]+', which no Persimmon release needs")


def test_the_attacks_would_work(tmp_path: Path) -> None:
    for name in ("os.system", "eval", "open"):
        pickle.loads(pickle.dumps(attack(tmp_path)[name]))
        assert canary(tmp_path).exists(), name
        canary(tmp_path).unlink()


def hand_made(*instructions: bytes) -> bytes:
    return b"\x80\x02" + b"".join(instructions) + b"."


HAND_MADE: dict[str, tuple[bytes, str]] = {
    "dotted name": (
        b"\x80\x04\x8c\x08argparse\x8c\x12Namespace.__init__\x93.",
        r"'argparse\.Namespace\.__init__', which no",
    ),
    "dotted megatron": (b"\x80\x04\x8c\x09megatronx\x8c\x01a\x93.", r"'megatronx\.a', which no"),
    "os from the stack": (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.", r"'os\.system', which no"),
    "hidden behind a stop": (hand_made(b"cos\nsystem\n", b"X\x02\x00\x00\x00ls\x85R"), r"'os\.system', which no"),
    "inst": (b"(ios\nsystem\n.", "instruction INST"),
    "obj": (b"(K\x01o.", "instruction OBJ"),
    "extension registry": (b"\x80\x02\x82\x01.", "instruction EXT1"),
    "memo of gigabytes": (hand_made(b"Nr\xff\xff\xff\x7f"), "a reference numbered 2147483647"),
    "tuples without end": (hand_made(b"}", b"N", b"\x85" * 200_000, b"Ns"), "more than 30000 tuples"),
    "cut": (b"\x80\x02}", "a damaged pickle"),
    "empty": (b"", "a damaged pickle"),
    "text": (b"hello", "a damaged pickle|instruction LIST"),
    "only a number": (hand_made(b"K\x07"), "no table with args and model"),
    "state for a class": (
        hand_made(b"ccollections\nOrderedDict\n", b"N}X\x05\x00\x00\x00itemsK\x01s\x86b"),
        "a damaged pickle",
    ),
    "state for the function": (
        hand_made(b"ctorch._utils\n_rebuild_tensor_v2\n", b"N}X\x08\x00\x00\x00__call__K\x01s\x86b"),
        "a damaged pickle",
    ),
    "state for a namespace's class": (hand_made(b"cargparse\nNamespace\n", b"}b"), "a damaged pickle"),
    "tensor without storage": (
        hand_made(b"ctorch._utils\n_rebuild_tensor_v2\n", b"(K\x01K\x00K\x01\x85K\x01\x85tR"),
        "a tensor without a storage",
    ),
    "foreign storage": (hand_made(b"K\x01Q"), "the storage 1"),
}


@pytest.mark.parametrize("what", HAND_MADE)
def test_hand_made_pickles(make_release: Make, tmp_path: Path, refuse: Callable[..., None], what: str) -> None:
    data, sentence = HAND_MADE[what]
    source = make_release().write(tmp_path / "release")
    replace_pickle(make_release().rank_file(source), data)
    refuse(source, sentence)


def replace_pickle(path: Path, data: bytes, **entries: bytes) -> None:
    """Another data.pkl (and other entries) in an archive of torch.save's."""
    with zipfile.ZipFile(path) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    prefix = next(iter(content)).partition("/")[0]
    content[f"{prefix}/data.pkl"] = data
    content |= {f"{prefix}/{name}": entry for name, entry in entries.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, entry in content.items():
            archive.writestr(name, entry)


def tensor_pickle(path: Path, change: Callable[[bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        data = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    changed = change(data)
    assert changed != data
    replace_pickle(path, changed)


def test_tensors_that_reach_beyond_their_storage(
    make_release: Make, tmp_path: Path, refuse: Callable[..., None]
) -> None:
    release = make_release()
    source = release.write(tmp_path / "release")
    # final_layernorm: shape (48,) becomes (200,); in the pickle: K 48, TUPLE1
    tensor_pickle(release.rank_file(source), lambda data: data.replace(b"K0\x85", b"K\xc8\x85", 1))
    refuse(source, r"a tensor of shape \[200\] that does not fit its storage of 48 elements")


def test_storages_that_are_missing_or_short(make_release: Make, tmp_path: Path, refuse: Callable[..., None]) -> None:
    release = make_release()
    source = release.write(tmp_path / "release")
    path = release.rank_file(source)
    with zipfile.ZipFile(path) as archive:
        data = archive.read("model_optim_rng/data.pkl")
    replace_pickle(path, data, **{"data/3": b"\0" * 5})
    refuse(source, r"holds 5 bytes for the storage '3', which needs \d+")


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def compress(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, entry in content.items():
            archive.writestr(name, entry)


def save_old(path: Path) -> None:
    torch.save({"model": torch.ones(3)}, path, _use_new_zipfile_serialization=False)


def flip_in_a_tensor(path: Path) -> None:
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    data[largest.header_offset + largest.file_size // 2] ^= 1
    path.write_bytes(data)


CHANGED_RANK_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "has only 0 bytes"),
    "cut in half": (cut(0.5), "is cut short or damaged"),
    "cut at the end": (cut(0.999), "is cut short or damaged"),
    "text": (lambda path: path.write_text("<html>not found</html>"), "no file of torch.save's"),
    "zip of something else": (
        lambda path: zipfile.ZipFile(path, "w").writestr("a/b", b"c"),
        "no data.pkl|cut short or damaged",
    ),
    "compressed": (compress, "compressed or encrypted"),
    "before PyTorch 1.6": (save_old, "from before PyTorch 1.6"),
    "a flipped bit": (flip_in_a_tensor, "wrong checksum for the storage"),
    "big-endian": (lambda path: replace_pickle(path, b"N.", byteorder=b"big"), "little-endian"),
    "gone": (lambda path: path.unlink(), r"has no iter_\*/mp_rank_\*/model_optim_rng\.pt"),
    "a bare tensor": (lambda path: torch.save(torch.ones(3), path), "no table with args and model"),
}


@pytest.mark.parametrize("what", CHANGED_RANK_FILES)
def test_changed_rank_files(make_release: Make, tmp_path: Path, refuse: Callable[..., None], what: str) -> None:
    change, sentence = CHANGED_RANK_FILES[what]
    release = make_release()
    source = release.write(tmp_path / "release")
    change(release.rank_file(source))
    refuse(source, sentence)


def other_tokenizer(vocab_size: int, symbols: list[str]) -> bytes:
    stream = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one two three four five", "six seven eight nine ten"] * 20),
        model_writer=stream,
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        byte_fallback=True,
        user_defined_symbols=symbols,
        minloglevel=2,
    )
    return stream.getvalue()


def set_tracker(text: str) -> Callable[[Path], object]:
    return lambda source: (source / "latest_checkpointed_iteration.txt").write_text(text)


def link_out(source: Path) -> None:
    outside = source.parent / "outside.model"
    (source / "adept_vocab.model").rename(outside)
    (source / "adept_vocab.model").symlink_to(outside)


def to_pipe(source: Path) -> None:
    (source / "adept_vocab.model").unlink()
    os.mkfifo(source / "adept_vocab.model")


CHANGED_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (lambda source: (source / "adept_vocab.model").unlink(), "has 0 files named adept_vocab.model"),
    "tokenizer cut": (
        lambda source: cut(0.5)(source / "adept_vocab.model"),
        r"adept_vocab\.model' (is no SentencePiece model|has no piece)",
    ),
    "tokenizer empty": (
        lambda source: (source / "adept_vocab.model").write_bytes(b""),
        r"adept_vocab\.model' (is no SentencePiece model|has no piece)",
    ),
    "tokenizer of another model": (
        lambda source: (source / "adept_vocab.model").write_bytes(other_tokenizer(290, [])),
        r"has no piece \|ENDOFTEXT\|: it is not Persimmon's tokenizer",
    ),
    "tokenizer too large": (
        lambda source: (source / "adept_vocab.model").write_bytes(
            other_tokenizer(700, ["|ENDOFTEXT|", *(f"|{number}|" for number in range(300))])
        ),
        r"has \d+ pieces where the embedding has \d+ rows: the tokenizer is not this model's",
    ),
    "tokenizer leads out": (link_out, "symbolic link that leads out"),
    "tokenizer is a pipe": (to_pipe, "is no plain file"),
    "tracker of words": (set_tracker("../../etc"), r"says '\.\./\.\./etc': it must be a number or 'release'"),
    "tracker elsewhere": (set_tracker("7"), "names iter_0000007, which .* lacks: it has 'iter_0000001'"),
    "tracker of gigabytes": (set_tracker("1" * 5000), "has 5000 bytes where at most 1000 make sense"),
    "two iterations": (
        lambda source: (
            shutil.copytree(source / "iter_0000001", source / "iter_0000002"),
            (source / "latest_checkpointed_iteration.txt").unlink(),
        ),
        "2 iterations",
    ),
    "two releases": (lambda source: shutil.copytree(source / "iter_0000001", source / "b/iter_0000001"), "2 releases"),
    "a rank too many": (
        lambda source: shutil.copytree(source / "iter_0000001/mp_rank_00", source / "iter_0000001/mp_rank_01"),
        "tensor_model_parallel_size=1 where the release has 2 ranks",
    ),
    "a rank missing": (
        lambda source: (source / "iter_0000001/mp_rank_00").rename(source / "iter_0000001/mp_rank_01"),
        r"has the ranks \[1\]",
    ),
    "pipeline stages": (
        lambda source: (source / "iter_0000001/mp_rank_00").rename(source / "iter_0000001/mp_rank_00_001"),
        "split into pipeline stages",
    ),
}


@pytest.mark.parametrize("what", CHANGED_FOLDERS)
def test_changed_folders(make_release: Make, tmp_path: Path, refuse: Callable[..., None], what: str) -> None:
    change, sentence = CHANGED_FOLDERS[what]
    source = make_release().write(tmp_path / "release")
    change(source)
    if what == "tokenizer is a pipe":  # the snapshot must not read it either: it only reads plain files
        assert not (source / "adept_vocab.model").is_file()
    refuse(source, sentence)


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


BAD_MEMBERS = {
    "absolute": (member("/canary"), "'/canary', a name that leads out of the folder"),
    "upwards": (member("a/../../canary"), "a name that leads out"),
    "dots first": (member("../canary"), "a name that leads out"),
    "backslashes": (member("..\\canary"), "a name that leads out"),
    "a drive": (member("C:canary"), "a name that leads out"),
    "symbolic link": (member("a/link", tarfile.SYMTYPE, linkname="/etc/passwd"), "a symbolic link"),
    "hard link": (member("a/link", tarfile.LNKTYPE, linkname="/etc/passwd"), "a hard link"),
    "device": (member("a/null", tarfile.CHRTYPE, devmajor=1, devminor=3), "a device or pipe"),
    "pipe": (member("a/pipe", tarfile.FIFOTYPE), "a device or pipe"),
    "link for the tokenizer": (
        member("8b_test_model_release/adept_vocab.model", tarfile.SYMTYPE, linkname="/etc/passwd"),
        "a symbolic link",
    ),
    "twice": (member("8b_test_model_release/latest_checkpointed_iteration.txt"), "twice"),
    "line break": (member("../a\nb\x1b[2J"), r"'\.\./a\\nb\\x1b\[2J', a name that leads out"),
}


@pytest.mark.parametrize("what", BAD_MEMBERS)
def test_hostile_tars(make_release: Make, tmp_path: Path, refuse: Callable[..., None], what: str) -> None:
    info, sentence = BAD_MEMBERS[what]
    path = make_release().write_tar(tmp_path / "release.tar")
    with tarfile.open(path, "a") as archive:
        archive.addfile(info)
    refuse(path, sentence)


def test_damaged_tars(make_release: Make, tmp_path: Path, refuse: Callable[..., None]) -> None:
    path = make_release().write_tar(tmp_path / "release.tar")
    whole = path.read_bytes()
    with tarfile.open(path) as archive:
        middle = next(m for m in archive if m.name.endswith(".pt"))
    for content, sentence in (
        (whole[: middle.offset_data + middle.size // 2], "is cut short|has 0 files|has no iter_"),
        (whole[: middle.offset], "has no iter_|has 0 files"),
        (b"", "cannot be read as an uncompressed tar"),
        (b"\x1f\x8b" + whole[2:], "cannot be read as an uncompressed tar"),
        (b"hello", "cannot be read as an uncompressed tar"),
        (whole[512:], "has no iter_|cannot be read|cut short"),
    ):
        path.write_bytes(content)
        refuse(path, sentence)


def test_ranks_that_do_not_belong_together(make_release: Make, tmp_path: Path, refuse: Callable[..., None]) -> None:
    cases: list[tuple[Callable[[list[dict[str, Any]]], object], str]] = [
        (
            lambda s: encoder(s[1])["final_layernorm.weight"].add_(1),
            "final_layernorm.weight differs between rank 0 and",
        ),
        (lambda s: encoder(s[1])["layers.0.self_attention.q_layernorm.bias"].add_(1), "q_layernorm.bias differs"),
        (lambda s: encoder(s[1])["layers.0.self_attention.dense.bias"].add_(1), "dense.bias differs between rank 0"),
        (lambda s: setattr(s[1]["args"], "hidden_size", 64), "hidden_size=64 where .* has 48"),
        (lambda s: encoder(s[1]).pop("final_layernorm.weight"), r"lacks '.*final_layernorm\.weight', which another"),
        (lambda s: encoder(s[0]).pop("final_layernorm.weight"), r"mp_rank_00/.* lacks '.*final_layernorm\.weight'"),
        (
            lambda s: encoder(s[1]).update({"layers.0.mlp.dense_h_to_4h.bias": torch.ones(47)}),
            r"mp_rank_01/.* dense_h_to_4h\.bias|holds .*dense_h_to_4h\.bias with shape \[47\] .* \[48\]",
        ),
        (
            lambda s: encoder(s[1]).update({"final_layernorm.weight": torch.ones(48).half()}),
            "as float32, float16: it must be .* the same on all ranks",
        ),
    ]
    for change, sentence in cases:
        release = make_release(ranks=2)
        # Ranks share tensors in memory here; in files they do not.
        release.states[1]["model"] = copied(release.states[1]["model"])
        change(release.states)
        refuse(release.write(tmp_path / "release"), sentence)
        shutil.rmtree(tmp_path / "release")


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return OrderedDict((name, copied(inner)) for name, inner in value.items())
    return value.clone()


def test_three_ranks_cannot_share_four_heads(make_release: Make, tmp_path: Path, refuse: Callable[..., None]) -> None:
    release = make_release(ranks=2)
    release.states.append(release.states[1])
    for state in release.states:
        state["args"].tensor_model_parallel_size = 3
    refuse(release.write(tmp_path / "release"), "3 ranks, which cannot share 4 heads")


def test_sources_that_are_not_there(tmp_path: Path, refuse: Callable[..., None]) -> None:
    refuse(tmp_path / "absent", "is not there")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "has no iter_")
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "neither a file nor a folder")


def test_the_iteration_folder_is_not_the_release(
    make_release: Make, tmp_path: Path, refuse: Callable[..., None]
) -> None:
    refuse(make_release().write(tmp_path / "release") / "iter_0000001", "a folder further in")


def test_random_damage_to_the_pickle(make_release: Make, tmp_path: Path) -> None:
    """Whatever a changed pickle does, it is refused in words or read as data."""
    release = make_release()
    path = release.rank_file(release.write(tmp_path / "release"))
    with zipfile.ZipFile(path) as archive:
        data = archive.read("model_optim_rng/data.pkl")
    assert sum(1 for _ in pickletools.genops(data)) > 1000
    chance, said = random.Random(0), list[str]()
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(chance.choice((1, 1, 3, 20))):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        if chance.random() < 0.2:
            del changed[chance.randrange(len(changed)) :]
        try:
            load_restricted(bytes(changed))
        except RefusedPickle as error:
            said.append(str(error))
    assert all(sentence.isprintable() for sentence in said)
    assert len(said) > 50


@pytest.mark.parametrize("form", ["tar", "folder"])
def test_random_damage_to_the_files(
    make_release: Make, tmp_path: Path, snapshot: Callable[[], object], form: str
) -> None:
    """A changed byte is noticed in words or does not matter; nothing else is raised, nothing is left behind."""
    release = make_release()
    if form == "tar":
        source = target = release.write_tar(tmp_path / "release.tar")
    else:
        source = release.write(tmp_path / "release")
        target = release.rank_file(source)
    whole = target.read_bytes()
    convert(source, tmp_path / "converted")
    good = [(tmp_path / "converted" / name).read_bytes() for name in ("model.safetensors", "config.json")]
    shutil.rmtree(tmp_path / "converted")
    headers = [at for at in range(len(whole) - 4) if whole[at : at + 2] == b"PK"]
    chance, said = random.Random(1), list[str]()
    for _ in range(60):
        changed = bytearray(whole)
        near = chance.choice((chance.randrange(len(whole)), chance.choice(headers), len(whole) - 200, 257, 100))
        for _ in range(chance.choice((1, 4))):
            changed[min(len(whole) - 1, near + chance.randrange(30))] = chance.randrange(256)
        target.write_bytes(changed)
        before = snapshot()
        try:
            convert(source, tmp_path / "converted")
            result = [(tmp_path / "converted" / name).read_bytes() for name in ("model.safetensors", "config.json")]
            assert result == good
            shutil.rmtree(tmp_path / "converted")
        except CheckpointError as error:
            said.append(str(error))
        assert snapshot() == before
    assert all(sentence.isprintable() for sentence in said)
    assert len(said) > 10


def test_sizes_in_a_zip_that_lie(make_release: Make, tmp_path: Path, refuse: Callable[..., None]) -> None:
    """A local header whose name is said to be longer moves the data: the checksum tells."""
    release = make_release()
    source = release.write(tmp_path / "release")
    path = release.rank_file(source)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    at = largest.header_offset + 26
    data[at : at + 2] = struct.pack("<H", struct.unpack("<H", data[at : at + 2])[0] + 8)
    path.write_bytes(data)
    refuse(source, "wrong checksum for the storage")

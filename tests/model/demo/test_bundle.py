"""The bundled folders: small enough, complete, made by the recipe; and how a folder gets there."""

import json
import stat
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.demo import bundle, formats
from model.demo.family import FAMILIES, DemoFamily
from model.demo.measure import chat_pairs

SHIPPED = ["persimmon-demo", "mpt-demo", "llama-demo"]
BUNDLES = Path(__file__).parents[3] / "model/demo"
SKILLS = ("arithmetic", "calendar", "capitals", "opposites", "colours", "categories")

shipped = pytest.mark.parametrize("name", SHIPPED)


def _family(name: str) -> DemoFamily:
    (found,) = (family for family in FAMILIES.values() if family.name == name)
    return found


@cache
def _model(name: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(str(BUNDLES / name), dtype=torch.float32).eval()


@cache
def _tokenizer(name: str) -> Any:
    return AutoTokenizer.from_pretrained(str(BUNDLES / name))


@shipped
def test_files_and_size(name: str) -> None:
    files = [path for path in (BUNDLES / name).iterdir() if path.is_file()]  # the folder `heads` is not the family's
    assert {path.name for path in files} == set(_family(name).files)
    assert sum(path.stat().st_size for path in files) <= bundle.LARGEST_BUNDLE == 8_000_000


@shipped
def test_config_is_the_recipes(name: str) -> None:
    shipped_config = json.loads((BUNDLES / name / "config.json").read_text())
    assert shipped_config.pop("dtype") == "bfloat16"
    config = json.loads(_family(name).initial_model(0).config.to_json_string(use_diff=False))
    # transformers writes the type the checkpoint was loaded in into configs inside the config.
    shipped_config.get("attn_config", {}).pop("dtype", None)
    config.get("attn_config", {}).pop("dtype", None)
    unlike = {key: value for key, value in shipped_config.items() if config[key] != value}
    assert set(unlike) <= {"architectures", "transformers_version"}
    assert shipped_config["architectures"] == [_family(name).model_class.__name__]
    settings = json.loads((BUNDLES / name / "generation_config.json").read_text())
    assert settings["do_sample"] is False
    assert settings["eos_token_id"] == settings["pad_token_id"] == _family(name).end_of_document_id


@pytest.mark.slow
@shipped
def test_vocabulary_and_card_are_what_the_recipe_writes(name: str, tmp_path: Path) -> None:
    _family(name).write_tokenizer(tmp_path, 0)
    _family(name).write_card(tmp_path)
    for path in tmp_path.iterdir():
        assert (BUNDLES / name / path.name).read_bytes() == path.read_bytes(), path.name


@shipped
def test_weights_are_bfloat16(name: str) -> None:
    with safe_open(BUNDLES / name / "model.safetensors", framework="pt") as weights:
        names = list(weights.keys())
        assert {weights.get_slice(tensor).get_dtype() for tensor in names} == {"BF16"}


def test_persimmon_uses_squared_relu() -> None:
    activation = _model("persimmon-demo").model.layers[0].mlp.act
    assert activation(torch.tensor([-2.0, 3.0])).tolist() == [0.0, 9.0]


HELD_OUT_CHAT = (
    ("How much is 19 minus 13?", "19 - 13 = 6."),
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


@pytest.mark.slow
@shipped
def test_held_out_chat_questions_are_held_out_and_answered(name: str) -> None:
    known = {pair for skill in SKILLS for pair in chat_pairs(skill)}
    chat = _family(name).chat
    for said, expected in HELD_OUT_CHAT:
        assert (said, expected) in known, said
        prompt = _tokenizer(name)(formats.chat_prompt(chat, (), said), return_tensors="pt")
        with torch.no_grad():
            output = _model(name).generate(
                prompt["input_ids"],
                attention_mask=prompt["attention_mask"],
                max_new_tokens=24,
                do_sample=False,
                use_cache=True,
            )
        reply = _tokenizer(name).decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        assert reply.split(chat.stop[0])[0].strip() == expected, said


def _finished(initial: Path, folder: Path) -> Path:
    """A copy of ``initial`` with bfloat16 weights, as training ends, and files that do not belong into a bundle."""
    model = AutoModelForCausalLM.from_pretrained(str(initial), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    for path in initial.glob("*"):
        if path.name.startswith("tokenizer") or path.name == "README.md":
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "training_args.bin").write_bytes(b"left over")
    (folder / "README.md").chmod(0o600)
    return folder


@pytest.mark.slow
def test_installing_keeps_only_the_familys_files(family: DemoFamily, initial_checkpoint: Path, tmp_path: Path) -> None:
    fresh = _finished(initial_checkpoint, tmp_path / "fresh")
    destination = tmp_path / "bundles" / family.name
    size = bundle.install_bundle(fresh, destination)
    files = list(destination.iterdir())
    assert {path.name for path in files} == set(family.files)
    assert size == sum(path.stat().st_size for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o644}
    assert stat.S_IMODE(destination.stat().st_mode) == 0o755
    assert (fresh / "training_args.bin").exists()
    assert AutoModelForCausalLM.from_pretrained(str(destination)).dtype == torch.bfloat16
    (fresh / "README.md").write_text("the second one")
    bundle.install_bundle(fresh, destination)
    assert (destination / "README.md").read_text() == "the second one"
    assert [path.name for path in destination.parent.iterdir()] == [family.name]


def test_nothing_is_replaced_by_a_folder_that_will_not_do(
    family: DemoFamily, initial_checkpoint: Path, tmp_path: Path
) -> None:
    destination = tmp_path / "bundles" / family.name
    destination.mkdir(parents=True)
    (destination / "README.md").write_text("the old one")
    with pytest.raises(ValueError, match=r"has \d+ bytes but at most 8000000 are allowed"):
        bundle.install_bundle(initial_checkpoint, destination)  # float32: twice as large
    fresh = _finished(initial_checkpoint, tmp_path / "fresh")
    (fresh / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        bundle.install_bundle(fresh, destination)
    (fresh / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="'gpt2'"):
        bundle.install_bundle(fresh, destination)
    assert [path.name for path in destination.parent.iterdir()] == [family.name]
    assert (destination / "README.md").read_text() == "the old one"

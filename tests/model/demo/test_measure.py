"""Measuring: prompts as inference has them, replies cut as a client cuts them, a table made of what was kept."""

import json
import math
import shutil
from pathlib import Path

import pytest

from model.checkpoint.fingerprint import weights_sha256
from model.demo import measure
from model.demo.family import FAMILIES, DemoFamily
from model.demo.measure import Demonstrator, Result, read_records, table, wilson, write_record

HEADER = (
    "| held-out items | n | chance | persimmon-demo | mpt-demo | llama-demo |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: |"
)


def test_wilson() -> None:
    assert wilson(50, 60) == pytest.approx((0.7196, 0.9069), abs=1e-4)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == pytest.approx(1.0)
    assert all(math.isnan(bound) for bound in wilson(0, 0))


def test_replies_and_likelihoods(family: DemoFamily, initial_checkpoint: Path) -> None:
    model = Demonstrator(family, initial_checkpoint)
    ids = model.encode("What is 3 + 4?")
    assert (ids[0] == family.beginning_of_document_id) is family.adds_beginning
    assert ids.count(family.beginning_of_document_id) == int(family.adds_beginning)
    prompts = ["What is 3 + 4?", "Hello!", "What is 4 + 3?"]
    together = model.replies(prompts, 5)
    assert together == [model.replies([prompt], 5)[0] for prompt in prompts]
    first, second = model.log_likelihoods("Answer:", [" dog", " The capital of France"])
    assert second < first < 0
    assert first == pytest.approx(-math.log(1397), abs=2)  # one token, random weights


def test_replies_are_cut_where_a_client_cuts(family: DemoFamily, initial_checkpoint: Path) -> None:
    model = Demonstrator(family, initial_checkpoint)
    following = f"{family.chat.separator}{family.chat.user}and now?"
    assert model.cut(f" Paris.{following}") == "Paris."
    assert model.cut(" Paris.\n") == "Paris."


def _result(name: str, right: int, *, n: int = 60, chance: float = 0.05) -> Result:
    return Result(name, n, right, chance)


def test_table_has_a_column_for_every_family() -> None:
    measured = {
        "persimmon-demo": [_result("chat: arithmetic", 50), _result("chat: calendar", 60)],
        "llama-demo": [_result("chat: arithmetic", 0)],
    }
    assert table(measured) == (
        f"{HEADER}\n"
        "| chat: arithmetic | 60 | 5.0 % | 83.3 % (72.0-90.7) |  | 0.0 % (0.0-6.0) |\n"
        "| chat: calendar | 60 | 5.0 % | 100.0 % (94.0-100.0) |  |  |"
    )
    assert table({}) == HEADER
    assert table({"mpt-demo": [_result("x", 0, n=0)]}).endswith("| x | 0 | 5.0 % |  |  |  |")


def test_table_refuses_to_compare_different_items() -> None:
    measured = {"mpt-demo": [_result("chat: calendar", 5)], "llama-demo": [_result("chat: calendar", 5, n=61)]}
    with pytest.raises(ValueError, match=r"'chat: calendar' was measured on different items \(mpt-demo, llama-demo\)"):
        table(measured)


def _checkpoints(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir()
        shutil.copy(Path(__file__).parents[3] / "model/demo/persimmon-demo/config.json", folder / name)
        shutil.copy(Path(__file__).parents[3] / "model/demo/persimmon-demo/model.safetensors", folder / name)
    (folder / "README.md").write_text(f"before\n{measure.BEGIN}\nold\n{measure.END}\nafter\n")
    return folder


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    checkpoints = _checkpoints(tmp_path, "mpt-demo")
    assert read_records(checkpoints) == {}
    results = [_result("chat: calendar", 5)]
    write_record(FAMILIES["mpt"], checkpoints, results)
    assert read_records(checkpoints) == {"mpt-demo": results}
    record = json.loads((tmp_path / "mpt-demo.measured.json").read_text())
    assert record["weights_sha256"] == weights_sha256(checkpoints / "mpt-demo")


def test_measuring_one_family_keeps_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = _checkpoints(tmp_path, *(family.name for family in FAMILIES.values()))
    right = {"persimmon-demo": 50, "mpt-demo": 40, "llama-demo": 30}
    monkeypatch.setattr(measure, "measure", lambda family, _: [_result("chat: calendar", right[family.name])])
    options = ["--checkpoints", str(checkpoints), "--readme", str(checkpoints / "README.md")]

    def row() -> str:
        before, rest = (checkpoints / "README.md").read_text().split(f"{measure.BEGIN}\n{HEADER}\n")
        row, after = rest.split(f"\n{measure.END}\n")
        assert (before, after) == ("before\n", "after\n")
        return row

    assert measure.main(["--family", "mpt", *options]) == 0
    assert row() == "| chat: calendar | 60 | 5.0 % |  | 66.7 % (54.1-77.3) |  |"
    assert measure.main(["--family", "persimmon", *options]) == 0
    assert row() == "| chat: calendar | 60 | 5.0 % | 83.3 % (72.0-90.7) | 66.7 % (54.1-77.3) |  |"
    right["mpt-demo"] = 60
    assert measure.main(["--family", "mpt", "--print-only", *options]) == 0
    assert row().count("66.7 %") == 1
    assert measure.main(options) == 0
    assert row() == "| chat: calendar | 60 | 5.0 % | 83.3 % (72.0-90.7) | 100.0 % (94.0-100.0) | 50.0 % (37.7-62.3) |"


def test_a_family_without_a_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        measure.main(["--checkpoints", str(_checkpoints(tmp_path, "persimmon-demo"))])
    assert "mpt-demo holds no checkpoint" in capsys.readouterr().err

"""Where the machine code of a CPU's kernels comes from."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from kernels.cpu import threads

if threads.missing() is not None:
    pytest.skip(f"kernels cannot run here: {threads.missing()}", allow_module_level=True)

from kernels.cpu import code

MODULE, SIZE = "paged_attention_kernel", 3


def test_it_is_compiled_once_and_kept_where_that_can_be_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "no folder").touch()
    monkeypatch.setattr(code, "_folders", lambda: [tmp_path / "no folder", tmp_path / "kept"])
    compiled = code._compiled(MODULE, SIZE)
    (file,) = (tmp_path / "kept").iterdir()
    assert file.read_bytes().endswith(compiled)
    assert file.name == f"{MODULE}-{SIZE}-{code._fingerprint()}.o"

    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise AssertionError("it was compiled again")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert code._compiled(MODULE, SIZE) == compiled
    monkeypatch.setattr(code, "_fingerprint", lambda: "another version")
    with pytest.raises(AssertionError, match="compiled again"):
        code._compiled(MODULE, SIZE)


def test_what_cannot_be_compiled_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(code, "_folders", lambda: [tmp_path])
    with pytest.raises(
        RuntimeError, match=r"the kernel nothing cannot be compiled for size 1 \(.*No module.*\): choose"
    ):
        code.address("nothing", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage", [lambda kept: kept[:-1], lambda kept: b"", lambda kept: kept.replace(b"ELF", b"FLE")]
)
def test_code_that_is_not_as_it_was_written_is_made_again(
    damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(code, "_folders", lambda: [tmp_path])
    file = tmp_path / f"{MODULE}-{SIZE}-{code._fingerprint()}.o"
    assert code._keep(b"name\n\x7fELF", file)
    assert code._compiled(MODULE, SIZE) == b"name\n\x7fELF"
    file.write_bytes(damage(file.read_bytes()))
    assert code._kept(file) is None

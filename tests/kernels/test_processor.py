"""What the processor is called, and whose it is."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernels import processor


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    def forget() -> None:
        processor.processor_name.cache_clear()
        processor.is_intel.cache_clear()

    forget()
    yield
    forget()


@pytest.mark.parametrize(("vendor", "intel"), [("GenuineIntel", True), ("AuthenticAMD", False)])
def test_linux_is_asked_first(vendor: str, intel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: Loom 9 (R) @ 3 GHz\nmodel name\t: other\n"
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    processor.CPU_INFO.write_text(info)
    assert processor.processor_name() == "Loom 9 (R) @ 3 GHz"
    assert processor.is_intel() is intel


@pytest.mark.parametrize(("text", "intel"), [("Intel64 Family 6 Model 143, GenuineIntel", True), ("arm", False)])
def test_python_is_asked_where_linux_does_not_say(
    text: str, intel: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: text)
    assert processor.processor_name() == text
    assert processor.is_intel() is intel


def test_there_is_always_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "cpuinfo")
    processor.CPU_INFO.write_text("Features\t: fp\n")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert processor.processor_name() == platform.machine() != ""

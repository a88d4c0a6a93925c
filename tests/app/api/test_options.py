"""The API key's ways in, and options that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.__main__ import API_KEY_VARIABLE, _parse


def test_a_file_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    assert _parse([]).api_key is None
    monkeypatch.setenv(API_KEY_VARIABLE, "from-environment")
    assert _parse([]).api_key == "from-environment"
    (tmp_path / "key").write_text(" from-file \nsecond line\n")
    assert _parse(["--api-key-file", str(tmp_path / "key")]).api_key == "from-file"


@pytest.mark.parametrize("content", ["", "\n", "two words", "ключ"])
def test_a_key_that_no_client_could_send_is_refused(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit):
        _parse(["--api-key-file", str(tmp_path / "key")])
    message = capsys.readouterr().err
    assert "the API key cannot be used" in message
    assert not content.strip() or content not in message


@pytest.mark.parametrize(
    "arguments",
    [
        ["--max-queue", "-1"],
        ["--max-queue", "x"],
        ["--request-timeout", "nan"],
        ["--drain-timeout", "-3"],
        ["--log-format", "xml"],
        ["--api-key-file", "not-there"],
    ],
)
def test_wrong_options_end_with_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _parse(arguments)
    assert ended.value.code == 2

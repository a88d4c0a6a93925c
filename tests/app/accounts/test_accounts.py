"""The file of accounts, and who gets in."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from app.accounts import Accounts, AccountsError, set_password
from app.accounts.__main__ import main


@pytest.mark.slow
@pytest.mark.asyncio
async def test_only_the_right_password_lets_in(tmp_path: Path) -> None:
    file = tmp_path / "users.txt"
    set_password(file, "ada", "correct horse")
    set_password(file, "bob", "battery staple")
    set_password(file, "ada", "another horse")
    accounts = Accounts(file)
    assert await accounts.check("ada", "another horse")
    assert await accounts.check("bob", "battery staple")
    for name, password in (("ada", "correct horse"), ("bob", "another horse"), ("eve", ""), ("", ""), ("ada", "")):
        assert not await accounts.check(name, password)
    text = file.read_text()
    assert text.count("\n") == 2
    assert "horse" not in text
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "names nobody"), ("ada:secret\n", "line 1 of .* is not name:salt:hash"), (None, "cannot be read")],
)
def test_a_file_of_another_form_is_one_sentence(tmp_path: Path, text: str | None, why: str) -> None:
    file = tmp_path / "users.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(AccountsError, match=why) as failed:
        Accounts(file)
    assert "\n" not in str(failed.value)


def test_the_command_takes_a_password_from_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "users.txt"
    for name, password, status in (("ada", "long enough", 0), ("a b", "long enough", 1), ("ada", "short", 1)):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        assert main([str(file), name]) == status
    said = capsys.readouterr()
    assert said.out == f"ada can log in: start the server with --auth {file}\n"
    assert "the name 'a b' is not allowed" in said.err
    assert "the password has 5 characters" in said.err
    assert file.read_text().startswith("ada:")

"""The file of accounts: one a line, `name:salt:hash`, with both in hexadecimal digits.

A password is kept as its scrypt hash, from which it cannot be read.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# OWASP's Password Storage Cheat Sheet, scrypt: N = 2^14 (16 MiB), r = 8, p = 5
COST, BLOCK_SIZE, PARALLELISM = 2**14, 8, 5
SALT_BYTES, HASH_BYTES = 16, 32
SHORTEST_PASSWORD = 8
_NAME = re.compile(r"[^\s:]{1,64}")
_LINE = re.compile(rf"([^\s:]{{1,64}}):([0-9a-f]{{{2 * SALT_BYTES}}}):([0-9a-f]{{{2 * HASH_BYTES}}})")


class AccountsError(Exception):
    """The file or a password cannot be used; the text is one sentence a user can act on."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A hashed password."""

    salt: bytes
    hashed: bytes

    @classmethod
    def of(cls, password: str) -> Secret:
        """With a fresh salt."""
        salt = secrets.token_bytes(SALT_BYTES)
        return cls(salt, _hashed(password, salt))

    def matches(self, password: str) -> bool:
        """Whether it is this password's, in a time that says nothing about it."""
        return hmac.compare_digest(self.hashed, _hashed(password, self.salt))


class Accounts:
    """The accounts of a file as it was when read.

    Raises:
        AccountsError: the file cannot be read, has another form, or names nobody.
    """

    def __init__(self, file: Path) -> None:
        self._secrets = _read(file)
        if not self._secrets:
            raise AccountsError(f"{file} names nobody: add someone with `python -m app.accounts {file} NAME`")
        self._nobody = Secret.of(secrets.token_hex())
        self._one_at_a_time = asyncio.Lock()

    async def check(self, name: str, password: str) -> bool:
        """Whether they may come in. One guess is computed at a time, whoever makes it; a name that is not there takes
        as long as one that is."""
        secret = self._secrets.get(name)
        async with self._one_at_a_time:
            fits = await asyncio.to_thread((secret or self._nobody).matches, password)
        return fits and secret is not None


def set_password(file: Path, name: str, password: str) -> None:
    """Add an account, or give it another password. The file is readable by its owner only.

    Raises:
        AccountsError: the name or the password breaks its rule, or the file cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise AccountsError(f"the name {name!r} is not allowed: use 1 to 64 characters without blanks and colons")
    if len(password) < SHORTEST_PASSWORD:
        raise AccountsError(f"the password has {len(password)} characters: use at least {SHORTEST_PASSWORD}")
    accounts = {**(_read(file) if file.exists() else {}), name: Secret.of(password)}
    lines = (f"{one}:{secret.salt.hex()}:{secret.hashed.hex()}\n" for one, secret in accounts.items())
    fresh = file.with_name(f"{file.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as opened:
            opened.writelines(lines)
        fresh.replace(file)
    except OSError as error:
        raise AccountsError(f"{file} cannot be written ({error.strerror}): choose another file") from error


def _read(file: Path) -> Mapping[str, Secret]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AccountsError(f"the file of accounts {file} cannot be read ({error}): name another one") from error
    found: dict[str, Secret] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            raise AccountsError(
                f"line {number} of {file} is not name:salt:hash: write it with `python -m app.accounts {file} NAME`"
            )
        found[parts.group(1)] = Secret(bytes.fromhex(parts.group(2)), bytes.fromhex(parts.group(3)))
    return found


def _hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=COST, r=BLOCK_SIZE, p=PARALLELISM, dklen=HASH_BYTES, maxmem=64 * 2**20
    )

"""Running texts to measure a model on: a file, or the demo world's items written out as text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.data import DEMO_FOLDER
from evals.errors import DataError
from evals.provenance import public_path

SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class Texts:
    """At least one text, none of them blank.

    Attributes:
        label: short name, for file names and headings. name: where they come from, as a record says it.
        bundled: whether they are the demo world's: short ones, in an order that mixes the kinds of item.
    """

    label: str
    name: str
    texts: tuple[str, ...]
    bundled: bool = False

    @property
    def sha256(self) -> str:
        """Hash of the texts joined by blank lines, in UTF-8: of a `.txt` file, the file's own."""
        return hashlib.sha256(SEPARATOR.join(self.texts).encode()).hexdigest()

    def described(self) -> dict[str, Any]:
        """What a record says about them."""
        return {"label": self.label, "name": self.name, "sha256": self.sha256, "num_texts": len(self.texts)}


def read_texts(path: Path | None) -> Texts:
    """The texts of a file, or the demo world's without one.

    Args:
        path: `.txt` (one text) or `.jsonl` (a text a line, in the column `text`).

    Raises:
        DataError: the file cannot be used; the text names the line and the rule.
    """
    if path is None:
        return Texts("demo", public_path(str(DEMO_FOLDER)), _demo_texts(), bundled=True)
    if path.suffix not in (".txt", ".jsonl"):
        raise DataError(f"{path.name} is not allowed: give a .txt file (one text) or a .jsonl file (column text)")
    try:
        content = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({error.strerror}): give an existing file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start}): convert it") from None
    texts = (content,) if path.suffix == ".txt" else tuple(_column_text(path.name, content))
    if not any(text.strip() for text in texts):
        raise DataError(f"{path.name} holds no text: there is nothing to measure on")
    return Texts(path.stem, public_path(str(path)), texts)


def _column_text(name: str, content: str) -> Iterator[str]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{place} is not JSON ({error.msg} at character {error.colno}): correct it") from None
        text = row.get("text") if isinstance(row, Mapping) else None
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{place}, column text: {text!r} is not allowed: it must be text that is not blank")
        yield text


def _demo_texts() -> tuple[str, ...]:
    """Questions with their answers, in the forms of their benchmarks, and programs."""
    texts = [
        text
        for name in ("arc_easy", "arc_challenge", "mmlu", "triviaqa", "humaneval")
        for line in (DEMO_FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        for text in [_demo_text(name, json.loads(line))]
    ]
    return tuple(sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest()))


def _demo_text(name: str, row: Mapping[str, Any]) -> str:
    if name == "humaneval":
        return f"{row['prompt']}{row['canonical_solution']}".rstrip()
    if name == "triviaqa":
        return f"Q: {row['question']}\nA: {row['answer']['value']}"
    choices = row["choices"] if name == "mmlu" else row["choices"]["text"]
    key = "ABCDE"[row["answer"]] if name == "mmlu" else row["answerKey"]
    options = "".join(f"{letter}: {choice}\n" for letter, choice in zip("ABCDE", choices, strict=False))
    return f"Question: {row['question']}\n{options}Answer: {key}"

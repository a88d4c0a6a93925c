"""`python -m model.checkpoint.convert --source RELEASE --destination FOLDER`: convert Adept's original release."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from model.checkpoint.convert.conversion import DEFAULT_SHARD_SIZE, DTYPES, convert
from model.checkpoint.errors import CheckpointError


class ProgressBar:
    """One line that is rewritten in a terminal, and a line every ten per cent elsewhere; on standard error."""

    def __init__(self) -> None:
        self._stage, self._started, self._shown = "", 0.0, -1
        self._in_line = False

    def end_line(self) -> None:
        """Leave the line that is being rewritten as it is."""
        if self._in_line:
            print(file=sys.stderr)
        self._in_line = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        now, percent = time.monotonic(), 100 * done // max(1, total)
        if stage != self._stage:
            self._stage, self._started, self._shown = stage, now, -1
        terminal = sys.stderr.isatty()
        if percent == self._shown or (not terminal and percent // 10 == self._shown // 10):
            return
        self._shown = percent
        rate = done / 1e6 / max(1e-3, now - self._started)
        amounts = f"{done / 1e9:.2f} of {total / 1e9:.2f} GB  {rate:.0f} MB/s"
        line = f"{stage:8} [{'#' * (percent // 4):25}] {percent:3d} %  {amounts}"
        self._in_line = terminal and done < total
        print(f"\r{line}" if terminal else line, end="" if self._in_line else "\n", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m model.checkpoint.convert", description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="the tar, or the folder it was unpacked to")
    parser.add_argument("--destination", type=Path, required=True, help="the folder to make; it must not exist")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="of the weights written")
    parser.add_argument("--trim-vocab", action="store_true", help="leave out rows that no piece of the tokenizer uses")
    parser.add_argument("--shard-size", type=int, default=DEFAULT_SHARD_SIZE, help="most bytes of a weight file")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that what was begun is removed
    progress = ProgressBar()
    try:
        done = convert(
            options.source,
            options.destination,
            dtype=options.dtype,
            trim_vocabulary=options.trim_vocab,
            shard_size=options.shard_size,
            progress=progress,
        )
    except CheckpointError as error:
        progress.end_line()
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.end_line()
        print("the conversion was interrupted: nothing was left behind", file=sys.stderr)
        return 130
    for warning in done.warnings:
        print(f"Note: {warning}", file=sys.stderr)
    source = done.record["source"]
    if source["published_as"]:
        print(f"The md5 is that of Adept's {source['published_as']}.")
    elif source["kind"] == "folder":
        print("Adept published the md5 of the tars only: a folder cannot be compared with it.")
    trimmed = done.record["rows_trimmed"]
    print(
        f"{options.destination}: {done.record['parameters']:,} parameters in {done.record['tensors']} tensors"
        + (f", {trimmed:,} unused rows of embedding and head left out" if trimmed else "")
        + "; conversion.json says from what."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

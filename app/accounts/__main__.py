"""Let somebody log in, or give them another password: `python -m app.accounts FILE NAME`."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path

from app.accounts import AccountsError, set_password


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, or 1 where something does not work."""
    parser = argparse.ArgumentParser(
        prog="python -m app.accounts",
        description="Let somebody log in, or give them another password. The server reads the file when it starts.",
    )
    parser.add_argument("file", type=Path, help="for `python -m app --auth FILE`; made where it is not there yet")
    parser.add_argument("name", help="of who logs in")
    options = parser.parse_args(arguments)
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password for {options.name}: ")
        if getpass.getpass("Again: ") != password:
            print("error: the two passwords differ: nothing was changed", file=sys.stderr)
            return 1
    else:
        password = sys.stdin.readline().rstrip("\n")
    try:
        set_password(options.file, options.name, password)
    except AccountsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.name} can log in: start the server with --auth {options.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Put a running server under load and print what it did with it.

    python -m app --no-page --port 8000 --max-queue 16 &
    python -m app.api.load_test --url http://127.0.0.1:8000 --pid $! overload aborts kills fuzz

The sizes are those of the acceptance test; smaller ones for a try: `--seconds 5 --requests 200 --kills 5 --bodies 200`.
Exit status 1 if a scenario failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable

import httpx

from app.api.load_test.aborts import aborts
from app.api.load_test.fuzz import fuzz
from app.api.load_test.kills import kills
from app.api.load_test.overload import overload
from app.api.load_test.verdict import Verdict

SCENARIOS = ("overload", "aborts", "kills", "fuzz")


def main() -> int:
    """Run the scenarios named on the command line, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m app.api.load_test", description="Load against a running server.")
    parser.add_argument("scenario", nargs="*", choices=[[], *SCENARIOS], help=f"{', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--url", default="http://127.0.0.1:7860", help="the server's address")
    parser.add_argument("--pid", type=int, help="the server's process, to watch its memory")
    parser.add_argument("--clients", type=int, default=320, help="of overload: four times what runs and waits there")
    parser.add_argument("--seconds", type=float, default=60, help="of overload")
    parser.add_argument("--tokens", type=int, default=64, help="an answer has in overload")
    parser.add_argument("--requests", type=int, default=10_000, help="of aborts")
    parser.add_argument("--at-once", type=int, default=32, help="of aborts; no more than the server lets wait")
    parser.add_argument("--kills", type=int, default=100, help="killed clients")
    parser.add_argument("--bodies", type=int, default=5000, help="of fuzz")
    parser.add_argument("--seed", type=int, default=0, help="of what is random")
    return asyncio.run(_run(parser.parse_args()))


async def _run(options: argparse.Namespace) -> int:
    key = os.environ.get("PERSIMMON_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    failed = 0
    async with httpx.AsyncClient(base_url=options.url, headers=headers, timeout=600, limits=limits) as client:
        run: dict[str, Callable[[], Awaitable[Verdict]]] = {
            "overload": lambda: overload(
                client, clients=options.clients, seconds=options.seconds, tokens=options.tokens
            ),
            "aborts": lambda: aborts(
                client, requests=options.requests, at_once=options.at_once, pid=options.pid, seed=options.seed
            ),
            "kills": lambda: kills(client, clients=options.kills, api_key=key),
            "fuzz": lambda: fuzz(client, bodies=options.bodies, seed=options.seed),
        }
        for name in options.scenario or SCENARIOS:
            began = time.perf_counter()
            try:
                verdict = await run[name]()
            except (httpx.HTTPError, TimeoutError, OSError) as error:
                verdict = Verdict(name, False, {"the server did not answer:": f"{type(error).__name__} {error}"})
            failed += not verdict.passed
            print(f"{verdict} ({time.perf_counter() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Put a server under load and print what it did with it.

    python -m app.api.load_test                                     # all scenarios, on a server of its own
    python -m app.api.load_test --output results/load               # and write the page
    python -m app.api.load_test --url http://127.0.0.1:7860 --pid 1234 overload fuzz     # a server that runs already

Its own server runs the bundled checkpoints; `--server="--checkpoint model/demo/mpt-demo"` gives it other options. Only
the default model is asked. The sizes are those of the acceptance test; smaller ones for a try: `--seconds 5 --requests
200 --kills 5 --bodies 200 --streams 8`. Exit status 1 if a scenario failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

from app.api.load_test.aborts import aborts
from app.api.load_test.fuzz import fuzz
from app.api.load_test.kills import kills
from app.api.load_test.overload import overload
from app.api.load_test.own_server import own_server
from app.api.load_test.page import write_page
from app.api.load_test.sigterm import sigterm
from app.api.load_test.verdict import Verdict

SCENARIOS = ("overload", "aborts", "kills", "fuzz", "sigterm")


def main(arguments: list[str] | None = None) -> int:
    """Run the scenarios named on the command line, one after the other; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m app.api.load_test", description="Load against a server.")
    parser.add_argument("scenario", nargs="*", choices=[[], *SCENARIOS], help=f"{', '.join(SCENARIOS)}; default: all")
    parser.add_argument("--url", help="the address of a running server, which sigterm leaves alone; default: its own")
    parser.add_argument("--pid", type=int, help="the running server's process, to watch its memory")
    parser.add_argument("--server", default="", metavar="OPTIONS", help="further options of its own server")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write the figures there as a page")
    parser.add_argument("--clients", type=int, default=320, help="of overload: four times what runs and waits there")
    parser.add_argument("--seconds", type=float, default=60, help="of overload")
    parser.add_argument("--tokens", type=int, default=64, help="an answer has in overload")
    parser.add_argument("--requests", type=int, default=10_000, help="of aborts")
    parser.add_argument("--at-once", type=int, default=32, help="of aborts; no more than the server lets wait")
    parser.add_argument("--kills", type=int, default=100, help="killed clients")
    parser.add_argument("--bodies", type=int, default=5000, help="of fuzz")
    parser.add_argument("--streams", type=int, default=64, help="running at sigterm")
    parser.add_argument("--seed", type=int, default=0, help="of what is random")
    options = parser.parse_args(arguments)
    options.command = shlex.join(["python", "-m", "app.api.load_test", *(arguments or sys.argv[1:])])
    if options.url is not None and "sigterm" in options.scenario:
        parser.error("sigterm ends the server, so it needs one of its own: leave --url out")
    try:
        return asyncio.run(_run(options))
    except (OSError, httpx.HTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


async def _run(options: argparse.Namespace) -> int:
    key = os.environ.get("PERSIMMON_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    run: dict[str, Callable[[], Awaitable[Verdict]]] = {}
    async with AsyncExitStack() as opened:
        url, pid = options.url, options.pid
        if url is None:
            own, url = await opened.enter_async_context(own_server(shlex.split(options.server)))
            run["sigterm"] = lambda: sigterm(client, process=own, streams=options.streams, tokens=options.tokens)
            pid = own.pid
        client = await opened.enter_async_context(
            httpx.AsyncClient(base_url=url, headers=headers, timeout=600, limits=limits)
        )
        run |= {
            "overload": lambda: overload(
                client, clients=options.clients, seconds=options.seconds, tokens=options.tokens
            ),
            "aborts": lambda: aborts(
                client, requests=options.requests, at_once=options.at_once, pid=pid, seed=options.seed
            ),
            "kills": lambda: kills(client, clients=options.kills, api_key=key),
            "fuzz": lambda: fuzz(client, bodies=options.bodies, seed=options.seed),
        }
        health = (await client.get("/health")).json()
        verdicts: list[tuple[Verdict, float]] = []
        # sigterm is the last thing a server does.
        for name in sorted(options.scenario or run, key=SCENARIOS.index):
            began = time.perf_counter()
            try:
                verdict = await run[name]()
            except (httpx.HTTPError, TimeoutError, OSError) as error:
                verdict = Verdict(name, False, {"the server did not answer:": f"{type(error).__name__} {error}"})
            verdicts.append((verdict, time.perf_counter() - began))
            print(f"{verdict} ({verdicts[-1][1]:.0f} s)", flush=True)
        if options.output is not None:
            print(f"wrote {write_page(options.output, verdicts=verdicts, health=health, command=options.command)}")
    return int(not all(verdict.passed for verdict, _ in verdicts))


if __name__ == "__main__":
    sys.exit(main())

"""The whole program on the bundled checkpoint: `python -m app`, a real Chromium, a real engine."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from app.pages import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CHECKPOINT = "model/demo/persimmon-demo"
KNOB = (0xC2, 0x41, 0x0C)  # of sliders, in red, green and blue
LONGEST_WAIT_S = 6.0  # for a page on a cold browser: 2 s on two idle cores, and continuous integration is not idle

WATCHED = """
import ipaddress, os, runpy, sys

def note(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.connect"):
        where = arguments[1] if event == "socket.connect" else arguments
        host = where[0] if isinstance(where, tuple) else where
        try:
            is_here = host is None or ipaddress.ip_address(host).is_loopback
        except ValueError:
            is_here = str(host).startswith("/")
        if not is_here:
            print(event, arguments, file=open(os.environ["CALLS"], "a"), flush=True)

sys.addaudithook(note)
runpy.run_module("app", run_name="__main__")
"""
"""The program, noting every name it looks up and every other host it connects to."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running program and its address."""
    folder = tmp_path_factory.mktemp("data")
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", WATCHED, "--checkpoint", CHECKPOINT),
            *("--port", "0", "--device", "cpu", "--data-folder", str(folder)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "CALLS": str(folder / "calls.txt")},
    )
    guard = threading.Timer(120, process.kill)
    guard.start()
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if ready := re.match(r"Ready: (http://\S+)", line):
            break
    else:
        pytest.fail(f"the program ended before it was ready:\n{said}")
    yield process, ready.group(1)
    guard.cancel()
    process.kill()
    process.wait()
    assert not (folder / "calls.txt").exists(), (folder / "calls.txt").read_text()


def health(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{address}/health", timeout=10) as reply:
        state: dict[str, Any] = json.load(reply)["models"][0]
    return state


def findings(page: Any, **options: Any) -> dict[str, list[str]]:
    """What axe finds on a page that is critical or serious: the elements, by rule."""
    found = Axe().run(page, **options).response["violations"]
    return {
        one["id"]: [node["html"] for node in one["nodes"]] for one in found if one["impact"] in ("critical", "serious")
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_tour_of_all_pages(
    program: tuple[subprocess.Popen[str], str], open_tab: Callable[..., Any], scheme: str
) -> None:
    """Each page is there within seconds, has a heading, fits a phone, and has no finding of axe that is critical or
    serious, on a desk or a phone."""
    _, address = program
    for entry in PAGES:
        start = time.monotonic()
        tab = open_tab(address, path=entry.path, color_scheme=scheme)
        tab.page.get_by_role("link", name=entry.name, exact=True).wait_for()
        tab.page.locator("main :is(button, input, textarea, .prose):visible").first.wait_for()
        assert time.monotonic() - start < LONGEST_WAIT_S, entry.name
        tab.page.wait_for_timeout(500)
        assert tab.page.get_by_role("heading", level=1).count() == 1, entry.name
        assert findings(tab.page) == {}, entry.name
        tab.page.set_viewport_size({"width": 390, "height": 844})
        tab.page.wait_for_timeout(200)
        widest = tab.page.evaluate("Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
        assert widest <= 390, entry.name
        assert findings(tab.page) == {}, f"{entry.name} on a phone"
        tab.page.close()


def test_tables_that_scroll_can_be_reached_by_keyboard(
    program: tuple[subprocess.Popen[str], str], open_tab: Callable[..., Any]
) -> None:
    """The report's, and those of tokens, each a region with a name."""
    _, address = program
    tab = open_tab(address, path="/leaderboard")
    page = tab.page
    page.get_by_role("tab", name="The whole report").click()
    tables = page.locator(".report table")
    tables.first.wait_for()
    assert page.locator(".report").get_by_role("region", name=re.compile(r"\w")).count() == tables.count() > 5
    page.get_by_role("region", name="All, with their sources").focus()
    assert page.evaluate("document.activeElement.querySelectorAll('table').length") == 1
    assert findings(page) == {}
    page.goto(f"{address}/tokens")
    page.get_by_label("Prompt").fill("What is 3 plus 4?")
    tab.button("Show the tokens").click()
    page.get_by_role("region", name="Figures").wait_for()
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(500)
    assert findings(page) == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(
    program: tuple[subprocess.Popen[str], str], open_tab: Callable[..., Any], scheme: str
) -> None:
    """Also code, the facts below an answer, links to what was exported, sliders, and the button under the pointer."""
    _, address = program
    tab = open_tab(address)
    tab.page.emulate_media(color_scheme=scheme)
    tab.page.reload()
    tab.ask("Write a Python function that doubles a number.")
    tab.wait_until_done(1)
    tab.page.locator("#conversation .token.keyword").first.wait_for()
    tab.button("Export").click()
    tab.page.locator("#export-links a").first.wait_for()
    slider = Image.open(io.BytesIO(tab.page.locator("input[type=range]").first.screenshot())).convert("RGB")
    assert KNOB in slider.get_flattened_data()
    tab.page.locator("#send").hover()
    for path in ("/", "/leaderboard"):
        if path != "/":
            tab.page.goto(address + path)
            tab.page.get_by_role("table").first.wait_for()
        tab.page.wait_for_timeout(500)
        assert tab.page.evaluate("document.body.classList.contains('dark')") is (scheme == "dark")
        assert findings(tab.page, options={"runOnly": ["color-contrast"]}) == {}, path


def test_the_bundled_model_answers_stops_and_ends(
    program: tuple[subprocess.Popen[str], str], open_tab: Callable[..., Any]
) -> None:
    process, address = program
    state = health(address)
    tab = open_tab(address)
    if state["notice"] is not None:
        assert tab.page.get_by_role("note").inner_text() == state["notice"]
    tab.ask("What is 3 plus 4?")
    tab.wait_until_done(1)
    assert tab.answers.first.inner_text().strip("…")
    facts = tab.facts.first.inner_text()
    assert re.search(r"first token after \d+\.\d\d s .* tokens/s .* tokens? written, [\d,]+ read · seed \d+", facts), (
        facts
    )

    # Unlikely tokens keep a small model from ending its answer, mostly: one of a few tries can be stopped.
    tab.page.get_by_label("Max tokens").fill("")
    tab.page.get_by_label("Temperature").first.fill("2")
    tab.ask("Tell me a story.")
    for _ in range(20):
        with contextlib.suppress(PlaywrightTimeout):
            tab.button("Stop").click(timeout=1000)
        tab.wait_until_done(2)
        if "Stopped" in tab.facts.nth(1).inner_text():
            break
        tab.button("Retry").click()
    else:
        pytest.fail("no answer was long enough to be stopped")
    start = time.monotonic()
    while health(address)["stats"]["num_running"]:
        assert time.monotonic() - start < 1
    tab.button("Retry").click()
    tab.facts.nth(1).filter(has_text=re.compile("Writing|seed")).wait_for()
    assert tab.errors == []
    assert tab.outside == []

    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0
    assert process.stdout is not None
    assert "Traceback" not in process.stdout.read()
    tab.page.close()
    tab.errors.clear()  # of the connection that ended

"""A served app and a real Chromium for the browser tests."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from app.server import create_app
from model.interface import Engine

QUIET_CHROMIUM = (
    "--no-sandbox",  # the tests may run as root, where Chromium's sandbox does not start
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def served(*engines: Engine, **options: Any) -> Iterator[str]:
    """The app's address while it is served from a thread, with further arguments of `create_app`."""
    app = create_app(engines, **options)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, name="app-server")
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive(), "the server did not end"


@pytest.fixture
def serve() -> Callable[..., AbstractContextManager[str]]:
    """`served`, for tests that start a server themselves."""
    return served


@pytest.fixture(scope="module")
def serve_app() -> Iterator[Callable[..., str]]:
    """Serves engines' app, with options of `create_app`, until the module's tests end; its address."""
    with ExitStack() as stack:
        yield lambda *engines, **options: stack.enter_context(served(*engines, **options))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, one for a module: its event loop must be gone when asyncio tests run."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        reason = "no Chromium: install Debian's `chromium`, or name one in CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(QUIET_CHROMIUM))
        yield chromium
        chromium.close()


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """Another host: its address, and the paths it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, format: str, *values: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", paths
    server.shutdown()
    server.server_close()


@dataclass
class Tab:
    """One open page, with what went wrong in it."""

    page: Page
    address: str
    path: str = "/"
    errors: list[str] = field(default_factory=list)
    """Console errors and uncaught exceptions."""
    outside: list[str] = field(default_factory=list)
    """Addresses on other hosts that were asked for."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda one: self.errors.append(one.text) if one.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self._seen(request.url))
        self.page.goto(self.address + self.path)
        if self.path == "/":
            self.box.wait_for()
        else:
            self.page.locator(".gradio-container main .column").first.wait_for()

    def _seen(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.outside.append(url)

    @property
    def box(self) -> Any:
        return self.page.get_by_label("Your message")

    @property
    def answers(self) -> Any:
        """The answers' texts."""
        return self.page.locator("#conversation .bot .message:not(.thought) .prose")

    @property
    def facts(self) -> Any:
        """The lines below the answers."""
        return self.page.locator("#conversation .bot .message.thought .prose")

    @property
    def questions(self) -> Any:
        return self.page.locator("#conversation .user .prose")

    @property
    def problem(self) -> Any:
        return self.page.get_by_role("alert")

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def unfold(self, title: str, field: str) -> None:
        """Open the accordion in which there is this field, and wait until what is typed into it stays.

        What stands in one that was closed is made when it is opened, and in the next frame Gradio 6.31 gives it its
        first values once more: over what was typed before that frame, which on a busy machine comes late.
        """
        self.page.get_by_role("button", name=title).click()
        self.page.get_by_label(field).wait_for()
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def ask(self, text: str) -> None:
        self.box.fill(text)
        self.box.press("Enter")

    def wait_until_done(self, number: int = 1) -> None:
        """Until the answer with this number is final and the next message can be sent."""
        self.facts.nth(number - 1).filter(has_text="seed").wait_for()
        self.button("Send").wait_for()


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Opens a page of one or more engines' app, or of the app at an address, in a new browser or beside another tab.

    At the end no console error and no request outside are let pass; a test that expects some empties the lists.
    """
    with ExitStack() as stack:
        addresses: dict[tuple[int, ...], str] = {}
        tabs: list[Tab] = []

        def address_of(engines: Sequence[Engine]) -> str:
            key = tuple(id(engine) for engine in engines)
            if key not in addresses:
                for engine in engines:
                    stack.callback(engine.close)
                addresses[key] = stack.enter_context(served(*engines))
            return addresses[key]

        def open_one(
            app: Engine | Sequence[Engine] | str, *, path: str = "/", beside: Tab | None = None, **options: Any
        ) -> Tab:
            address = app if isinstance(app, str) else address_of(app if isinstance(app, Sequence) else [app])
            if beside is None:
                context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
                stack.callback(context.close)
            else:
                context = beside.page.context
            tabs.append(Tab(context.new_page(), address, path))
            return tabs[-1]

        yield open_one
        for tab in tabs:
            assert tab.errors == []
            assert tab.outside == []

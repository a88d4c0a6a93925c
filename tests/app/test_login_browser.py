"""Logging in and out, in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect
from scripted_engine import ScriptedEngine

from app.accounts import Accounts, set_password

pytestmark = pytest.mark.browser


def log_in(page: Any, address: str, password: str) -> None:
    page.goto(address)
    page.get_by_label("username").fill("ada")
    page.get_by_label("password").fill(password)
    page.get_by_role("button", name="Login").click()


def test_pages_ask_for_a_login_and_its_owner_finds_their_conversations_anywhere(
    browser: Any, serve: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "users.txt"
    set_password(file, "ada", "correct horse")
    engine = ScriptedEngine(lambda prompt: " Yes.")
    with serve(engine, accounts=Accounts(file)) as address:
        for path in ("/config", "/gradio_api/info", "/gradio_api/upload"):
            assert httpx.request("POST" if "upload" in path else "GET", address + path).status_code == 401
        contexts = [browser.new_context() for _ in range(2)]
        page = contexts[0].new_page()
        log_in(page, address, "wrong")
        page.get_by_text("Incorrect").wait_for()
        for context in contexts:
            page = context.new_page()
            log_in(page, address, "correct horse")
            page.get_by_label("Your message").wait_for()
        contexts[0].pages[0].close()
        first = contexts[0].pages[0]
        first.get_by_label("Your message").fill("Is it me?")
        first.get_by_label("Your message").press("Enter")
        first.get_by_text("Yes.").wait_for()
        page.reload()
        expect(page.locator("#conversations label")).to_have_text(["Is it me?"])
        page.get_by_role("link", name="Log out").click()
        page.get_by_label("username").wait_for()
        for context in contexts:
            context.close()
    engine.close()

"""The HTML page in a real Chromium: sorting, filtering, the keyboard, a narrow screen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from recorded_runs import DEMO, other_model, run_record, task_record, write_run

from evals.report import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, one for the module."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        reason = "no Chromium: install Debian's `chromium`, or name one in CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of three models."""
    output: Path = tmp_path_factory.mktemp("results")
    for name, right in (("llama-2-7b", 60), ("mpt-7b", 150), ("persimmon-8b-base", 9)):
        task = task_record("adept_mmlu", [True] * right + [False] * (200 - right))
        write_run(output, run_record(f"hub--{name}", task, model=other_model(name)))
    lonely = task_record("adept_arc_easy")
    write_run(output, run_record("hub--other", lonely, model=other_model("a-model")))
    write_run(output, run_record("demo--other", lonely, model=other_model("a-model"), data=DEMO))
    return write_report(output)[1].as_uri()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, and nothing in its console."""
    errors: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    yield page
    assert errors == []
    page.close()


def models(page: Page) -> list[str]:
    table = page.locator("table.sortable").first
    return [row.inner_text() for row in table.locator("tbody tr:not([hidden]) th").all()]


def test_headers_sort_with_what_is_undefined_last(page: Page) -> None:
    assert models(page) == ["a-model", "llama-2-7b", "mpt-7b", "persimmon-8b-base"]
    header = page.locator("table.sortable").first.locator("thead th", has_text="MMLU")
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert models(page) == ["persimmon-8b-base", "llama-2-7b", "mpt-7b", "a-model"]
    page.keyboard.press("Space")
    assert header.get_attribute("aria-sort") == "descending"
    assert models(page) == ["mpt-7b", "llama-2-7b", "persimmon-8b-base", "a-model"]
    page.locator("table.sortable").first.get_by_role("button", name="model").click()
    assert header.get_attribute("aria-sort") is None
    assert models(page) == ["a-model", "llama-2-7b", "mpt-7b", "persimmon-8b-base"]


def test_filter_by_model_and_source(page: Page) -> None:
    page.get_by_label("Model").fill("LLAMA")
    assert models(page) == ["llama-2-7b"]
    assert page.locator("#filter-count").inner_text() == "9 of 33 rows"  # published ones too
    assert page.locator(".lane.measured:visible").count() == 1
    page.get_by_label("Model").fill("")
    page.get_by_label("Source of items").fill("demonstration")
    assert models(page) == []
    assert page.locator(".lane.measured:visible").count() == 1
    page.get_by_label("Source of items").fill("")
    assert page.locator("#filter-count").inner_text() == ""
    assert len(models(page)) == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screen_scrolls_only_inside_tables(browser: Browser, address: str, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate(
        "document.querySelector('.scroll').scrollWidth > document.querySelector('.scroll').clientWidth"
    )
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(251, 251, 249)", "dark": "rgb(20, 24, 27)"}[scheme]
    context.close()


def test_readable_without_scripts(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator(".filter").is_hidden()
    assert page.locator("table.sortable").first.locator("tbody tr").count() == 4
    context.close()

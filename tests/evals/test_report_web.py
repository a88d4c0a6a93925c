"""The HTML page: well-formed, self-contained, and deaf to what models and records say."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from recorded_runs import DEMO, other_model, run_record, task_record

from evals.record import ITEMS_NAME, RunRecord
from evals.reference_figures import load_reference_figures
from evals.report import Sources, render_files
from evals.report.addresses import safe_address
from evals.report.slugs import Slugs
from evals.report.web_page import POLICY
from evals.statistics import wilson

VOID = {"meta", "link", "input", "br", "hr"}
HOSTILE = "<script>alert(1)</script>\"' onload=x &amp; <img src=http://e.example/x> a|b"


class Page(HTMLParser):
    """Fails on a tag that does not match; collects tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"{tag} has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def html(*records: RunRecord) -> str:
    sources = Sources(
        records=records, figures=load_reference_figures(), measurements=("## Zeros\n\n| a |\n| - |\n| <b> |\n",)
    )
    return render_files(sources)["index.html"]


@pytest.fixture(scope="module")
def text() -> str:
    tasks = [task_record("adept_mmlu"), task_record("likelihood_mmlu", correct={"acc": 150, "acc_norm": 140})]
    return html(
        run_record("hub--a--1", *tasks, files={ITEMS_NAME: "0"}),
        run_record("b", *tasks, model=other_model()),
        run_record("c", *tasks, data=DEMO),
        run_record("d", task_record("adept_mmlu", [True] * 5), complete=False, limit=5),
    )


def test_well_formed_with_one_contents(text: str) -> None:
    page = Page(text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = {str(link["href"])[1:] for link in page.of("a") if str(link["href"]).startswith("#")}
    assert {"leaderboard", "published-figures", "rules", "zeros"} <= targets <= set(ids)


def test_asks_for_nothing_from_outside(text: str) -> None:
    page = Page(text)
    (policy,) = [meta for meta in page.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"] == POLICY
    assert "default-src 'none'" in POLICY
    assert [link["href"] for link in page.of("link")] == ["data:,"]
    assert not any(
        "src" in attributes or ("style" in attributes and "url" in str(attributes["style"]))
        for _, attributes in page.tags
    )
    assert not any(tag in ("img", "iframe", "object", "base", "form") for tag, _ in page.tags)
    (style,) = re.findall(r"<style>\n(.*?)</style>", text, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    elsewhere = re.sub(r'<a href="https://[^"]*"', "<a", text)
    assert "http://" not in elsewhere
    assert "https://" not in elsewhere


def test_tables_can_be_read_by_all(text: str) -> None:
    page = Page(text)
    tables = page.of("table")
    assert len(page.of("caption")) == len([table for table in tables if "class" in table])
    assert all(header.get("scope") in ("col", "row") for header in page.of("th"))
    scrolling = [box for box in page.of("div") if box.get("class") == "scroll"]
    assert len(scrolling) == len(tables)
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in scrolling)
    (main,) = page.of("html")
    assert main["lang"] == "en"


def test_numbers_are_sorted_by_their_value(text: str) -> None:
    assert '<td class="n" data-sort="0.650000">65.0 <small>[58.2, 71.3]</small></td>' in text
    assert '<td class="n" data-sort="0.750000">75.0</td>' in text
    assert '<td class="n" data-sort="">–</td>' in text


def test_rows_carry_what_the_filter_looks_at(text: str) -> None:
    assert '<tr data-model="llama-2-7b" data-source="Hugging Face Hub"><th scope="row">llama-2-7b</th>' in text
    assert '<tr data-model="persimmon-8b-base" data-source="demonstration world (evals/data/demo)">' in text


def test_items_are_linked(text: str) -> None:
    assert '<a href="runs/hub--a--1/items.jsonl">items</a>' in text


def test_measured_and_published_figures_are_drawn_differently(text: str) -> None:
    measured = re.findall(r'<div class="lane measured".*?</div>', text)
    published = re.findall(r'<div class="lane published".*?</div>', text)
    assert measured
    assert published
    assert all('class="dot"' in lane and 'class="diamond"' not in lane for lane in measured)
    assert all('class="diamond"' in lane and "whisker" not in lane and "dot" not in lane for lane in published)
    before, _, after = text.partition("Demonstration world</h2>")
    assert 'class="lane published"' in before
    assert 'class="lane published"' not in after
    assert 'class="lane measured"' in after
    figures = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    for figure in figures:
        lanes = re.findall(r'class="lane (measured|published)"', figure)
        assert lanes == sorted(lanes), "published lanes stand below the measured ones"
        assert ("published" in lanes) == ("Published elsewhere, not measured here" in figure)
    tables = re.findall(r'<table class="sortable (\w+)">\n<caption>(.*?)</caption>', text)
    assert all((kind == "published") == caption.startswith("Published elsewhere") for kind, caption in tables)


def test_partial_runs_are_not_drawn(text: str) -> None:
    assert "n = 5" not in text
    assert "5 of 5" not in text


def test_whiskers_stand_at_the_interval() -> None:
    text = html(run_record())
    score = wilson(130, 200)
    assert f'<line class="whisker" x1="{100 * score.low:.2f}%" x2="{100 * score.high:.2f}%" y1="50%" y2="50%"/>' in text
    assert '<circle class="dot" cx="65.00%" cy="50%" r="5"/>' in text
    assert 'aria-label="65.0 %, n = 200, 95 % interval 58.2 to 71.3"' in text


def test_undefined_scores_have_no_dot() -> None:
    nothing = task_record(right=[True], num_scored=0, num_available=0, correct={"exact_match": 0})
    (lane,) = re.findall(r'<div class="lane measured".*?</div>', html(run_record("one", nothing)))
    assert "dot" not in lane
    assert "whisker" not in lane
    (single,) = re.findall(
        r'<div class="lane measured".*?</div>', html(run_record("one", task_record(clusters={"history": [130, 200]})))
    )
    assert 'class="dot"' in single
    assert "whisker" not in single


def test_nothing_a_record_says_becomes_markup() -> None:
    task = task_record(
        "adept_mmlu", [True] * 50 + [False] * 150, common_share=1.0, common_answer=HOSTILE, version=HOSTILE
    )
    model = {"name": HOSTILE, "notice": HOSTILE + "[x](javascript:alert(1)) ![p](http://e.example/p.png)"}
    text = html(
        run_record(HOSTILE, task, model=model | {"chat_format": HOSTILE}, files={ITEMS_NAME: "0"}),
        run_record("b", task, model=other_model(HOSTILE), data={"source": "folder", "name": HOSTILE}),
        run_record("c", task, model=model, complete=False),
        run_record("d", task_record("mine_" + HOSTILE, benchmark=HOSTILE), engine={"dtype": HOSTILE}),
    )
    page = Page(text)
    assert text.count("<script>") == 1
    assert not any(tag in ("img", "b") for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(re.match(r"#|https://|runs/[\w%.-]+/items\.jsonl$|[\w.]+$", str(link["href"])) for link in page.of("a"))
    assert any(HOSTILE in piece for piece in "".join(page.text).splitlines())


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("https://example.org/a b?c=(1)", "https://example.org/a%20b?c=%281%29"),
        ("runs/hub--x--1/items.jsonl", "runs/hub--x--1/items.jsonl"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("//example.org", None),
        ("runs/x/../../y", None),
        ("https://user@example.org/", None),
        (None, None),
    ],
)
def test_addresses(address: str | None, found: str | None) -> None:
    assert safe_address(address) == found


def test_slugs_are_those_of_github() -> None:
    slugs = Slugs()
    headings = ["Speed", "Speed", "Adept's comparison: 1-shot", "–", "Same protocol as `adept`"]
    assert [slugs.of(heading) for heading in headings] == [
        *("speed", "speed-1", "adepts-comparison-1-shot", "section", "same-protocol-as-adept"),
    ]


def test_markdown_links_as_the_html_does() -> None:
    sources = Sources(records=(run_record("one"),), figures=load_reference_figures())
    markdown = render_files(sources)["README.md"]
    rendered = MarkdownIt("commonmark").enable("table").render(markdown)
    assert '<a href="#rules">Rules</a>' in rendered
    assert "<em>41.2</em>" in rendered

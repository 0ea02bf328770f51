"""The page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from serve.conftest import running

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def opened_page(url: str) -> Iterator[Any]:
    """A page that makes no mistake and asks nobody but its server."""
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        opened = browser.new_page()
        opened.mistakes = []
        opened.on("pageerror", lambda error: opened.mistakes.append(str(error)))
        opened.asked = []
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.goto(url)
        yield opened
        assert not opened.mistakes
        assert all(asked.startswith((url, "data:", "blob:")) for asked in opened.asked)
        browser.close()


@pytest.fixture
def page(server):
    with opened_page(server.url) as opened:
        yield opened


def test_it_answers_as_one_types_and_colours_the_words(page, server):
    text = "seven green apples 😀 <b>and</b> a clock"
    page.type("#text", text)
    page.wait_for_selector("#words mark")
    best = server.post("/predict", {"inputs": text}).json()[0]
    page.wait_for_function(
        "label => document.querySelector('#answer').textContent.startsWith(label)", arg=best["label"]
    )
    assert page.text_content(".bar.first .number") == f"{100 * best['score']:.1f} %"
    page.wait_for_function("n => document.querySelectorAll('#words mark').length === n", arg=len(text.split()))
    assert page.text_content("#words") == text


def test_a_pair_and_another_model(page):
    page.fill("#text", "a harbour")
    page.check("#pair")
    page.fill("#text_b", "a clock")
    page.wait_for_function("document.querySelectorAll('#words mark').length === 4")
    page.select_option("#model", "slow")
    page.wait_for_function("document.querySelector('#name').textContent === 'slow'")
    page.wait_for_function("document.querySelector('#about').textContent.includes('pytorch')")


def test_a_file_comes_back_labelled(page, server, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text('id,text\n1,"a harbour, quiet"\n2,"say ""clock"""\n')
    page.set_input_files("#file", file)
    page.wait_for_selector("#column:visible")
    page.click("#run")
    page.wait_for_selector("#save:not([disabled])")
    with page.expect_download() as download:
        page.click("#save")
    rows = download.value.path().read_text().splitlines()
    expected = server.post("/predict", {"inputs": [["a harbour, quiet"], ['say "clock"']]}).json()
    assert rows[0] == "id,text,prediction,probability"
    assert rows[1] == f'1,"a harbour, quiet",{expected[0][0]["label"]},{expected[0][0]["score"]:.4f}'
    assert rows[2].startswith('2,"say ""clock""",')


def test_one_model_labels_all_rows_even_if_another_is_chosen_meanwhile(page):
    page.fill("#many", "a clock\n" * 40)  # two requests
    page.evaluate("""() => { const real = window.fetch; window.fetch = (...asked) => {
        $("model").value = "slow"; $("model").dispatchEvent(new Event("change")); return real(...asked); } }""")
    page.click("#run")
    page.wait_for_selector("#save:not([disabled])")
    assert page.text_content("#name") == "slow"
    assert [url.split("/")[-2] for url in page.asked if url.endswith("/predict")] == ["fast"] * 2


def test_it_is_usable_by_keyboard_alone(page):
    page.keyboard.type("a clock")
    page.wait_for_selector(".bar")
    reached = set()
    for _ in range(10):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"pair", "why", "many", "run", "choose"} <= reached
    page.focus("#many")
    page.keyboard.type("a harbour")
    page.focus("#run")
    page.keyboard.press("Enter")
    page.wait_for_selector("#save:not([disabled])")


def test_an_encoder_shows_its_vector_and_how_near_two_texts_are(exported_encoder):
    with running(exported_encoder) as server, opened_page(server.url) as page:
        size = server.get("/info").json()["size"]
        page.wait_for_function("n => document.querySelector('#about').textContent.includes(n)", arg=f"{size} numbers")
        page.fill("#text", "seven green apples")
        [vector] = server.post("/embed", {"inputs": "seven green apples"}).json()
        page.wait_for_function("v => document.querySelector('#answer').textContent.includes(v)", arg=f"{vector[0]:.3f}")
        page.check("#pair")
        page.fill("#text_b", "a harbour")
        [a, b] = server.post("/embed", {"inputs": ["seven green apples", "a harbour"]}).json()
        page.wait_for_function(
            "c => document.querySelector('#answer').textContent.includes(c)", arg=f"cosine {np.dot(a, b):.3f}"
        )
        assert not page.is_visible("#manyrow")
        assert not page.is_visible("#words")

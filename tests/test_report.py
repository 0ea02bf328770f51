"""The page a run leaves behind: safe to open, whole by itself, and right."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bort.report import Report, confusion_chart, lines_chart

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=http://evil.example/x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</title></style><!-- ",
    "' & &amp; <b>bold</b>",
    "漢字 🙂",
]


class Page(HTMLParser):
    """What a browser would find: the tags with their attributes, the text outside of scripts, the scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.rows: list[list[tuple[str, str, str]]] = []
        self._open = ""
        self.feed(path.read_text("utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self._open = tag
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append((tag, dict(attrs).get("class") or "", ""))

    def handle_data(self, data):
        if self._open == "script":
            self.scripts.append(data)
        elif self._open in ("td", "th") and self.rows[-1]:
            tag, kind, text = self.rows[-1].pop()
            self.rows[-1].append((tag, kind, text + data))
        if self._open != "script":
            self.text.append(data)

    def handle_endtag(self, tag):
        self._open = ""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Page:
    """A page with a hostile text wherever one can stand."""
    report = Report(HOSTILE[0], HOSTILE[1])
    report.tiles([(HOSTILE[0], HOSTILE[1])])
    for text in HOSTILE:
        report.heading(text)
        report.paragraph(text, warning=True)
        report.code(text)
    report.table(HOSTILE, [HOSTILE, HOSTILE[::-1]])
    report.chart(confusion_chart(np.arange(36).reshape(6, 6).tolist(), HOSTILE))
    report.chart(lines_chart(HOSTILE[0], {text: ([1, 2], [3, 4]) for text in HOSTILE}, HOSTILE[1], HOSTILE[2]))
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(path)
    return Page(path)


def test_hostile_texts_are_shown_and_not_run(hostile):
    tags = [tag for tag, _ in hostile.tags]
    assert not {"img", "svg", "iframe", "object", "embed", "form"} & set(tags)
    assert tags.count("b") == 1, "the tile's own"
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)
    assert not any(script.strip().startswith("alert") for script in hostile.scripts)
    shown = "".join(hostile.text)
    for text in HOSTILE:
        assert shown.count(text) >= 5


def test_nothing_is_loaded_from_anywhere(hostile):
    for tag, attributes in hostile.tags:
        assert not {"src", "href", "srcset", "data", "action", "background"} & set(attributes), tag
        assert tag not in ("link", "base", "iframe")
        assert "url(" not in (attributes.get("style") or "")
    assert not any("http" in (attributes.get("content") or "") for _, attributes in hostile.tags)


def figures(page: Page) -> list[dict]:
    """The data of the charts, out of the scripts that draw them."""
    found = []
    for script in page.scripts:
        if "Plotly.newPlot(" in script and len(script) < 100_000:
            start = script.index("[{", script.index("Plotly.newPlot("))
            found.append(json.JSONDecoder().raw_decode(script[start:])[0][0])
    return found


def test_charts_take_labels_as_they_are(hostile):
    """Plotly knows a few tags, and would show a label with one as something else."""
    matrix, first = figures(hostile)[:2]
    escaped = [text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for text in HOSTILE]
    assert matrix["x"] == matrix["y"] == escaped
    assert first["name"] == escaped[0]


def test_the_library_is_put_in_once(hostile):
    assert sum(len(script) > 1_000_000 for script in hostile.scripts) == 1
    assert len(figures(hostile)) == 2


def test_a_page_without_charts_is_small(tmp_path):
    report = Report("Title", "lead")
    report.table(["a"], [])
    report.write(tmp_path / "deep" / "report.html")
    page = Page(tmp_path / "deep" / "report.html")
    assert not page.scripts
    assert (tmp_path / "deep" / "report.html").stat().st_size < 5000
    assert page.rows == [[("th", "", "a")]]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_numbers_in_tables(tmp_path):
    report = Report("Title")
    report.table(
        ["what", "int", "float", "numpy", "mixed"],
        [
            ["a", 1234567, 0.123456, np.int64(7), 1],
            ["b", -3, 1e-9, np.float32(0.5), "none"],
            ["c", 0, float("nan"), np.float64(2), True],
        ],
    )
    report.write(tmp_path / "report.html")
    header, *rows = Page(tmp_path / "report.html").rows
    assert [kind for _, kind, _ in header[:4]] == ["", "number", "number", "number"]
    assert [[text for _, _, text in row] for row in rows] == [
        ["a", "1,234,567", "0.1235", "7", "1"],
        ["b", "-3", "1e-09", "0.5", "none"],
        ["c", "0", "nan", "2", "True"],
    ]
    assert [[kind for _, kind, _ in row] for row in rows] == [
        ["", "number", "number", "number", "number"],
        ["", "number", "number", "number", ""],
        ["", "number", "number", "number", ""],
    ]


def test_the_confusion_chart_is_not_transposed():
    figure = confusion_chart([[5, 1], [2, 7]], ["no", "yes"])
    (heat,) = figure.data
    assert [list(row) for row in heat.z] == [[5, 1], [2, 7]]
    assert figure.layout.yaxis.title.text == "true"
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.xaxis.title.text == "predicted"
    assert figure.layout.xaxis.type == "category", "labels such as 1 and 10 are names"


def test_lines_chart():
    figure = lines_chart("Loss", {"a": ([1, 2], [3.0, 4.0]), "b": (range(100), range(100))}, "steps", "loss")
    assert [trace.mode for trace in figure.data] == ["lines+markers", "lines"]
    assert list(figure.data[0].y) == [3.0, 4.0]
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("steps", "loss")
    assert lines_chart("nothing yet", {"a": ([], [])}, "x", "y").data[0].x == ()


def test_an_interrupted_page_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    report = Report("Title")
    monkeypatch.setattr("bort.report._STYLE", "\ud800")
    with pytest.raises(UnicodeEncodeError):
        report.write(path)
    assert path.read_text() == "old"
    assert not re.search("part", " ".join(file.name for file in tmp_path.iterdir()))

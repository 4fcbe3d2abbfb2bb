"""The review sheet in a real browser: keys decide, the downloaded file is applied, and hostile labels are inert.

Chromium is driven over a pipe by its own protocol, so nothing has to be installed but the browser. Without one (Debian:
`apt-get install chromium`) only what needs no browser is tested.
"""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest

from cytolabe.flow.drafts import reconcile_files
from cytolabe.ontology.graph import load_ontology
from cytolabe.reconcile import apply_review, justify_labels, read_sssom, reconcile_labels
from cytolabe.reconcile.labels import LABEL_COLUMNS
from cytolabe.records import Predicate
from cytolabe.report.review_sheet import ReviewSheet, render_review_sheet, write_review_sheet

CL = load_ontology()
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h5ad"
REAL_FILES = (
    "kang18_muscat", "mouse_brain_merfish_cxg", "pancreas_xin16_scclassify", "pbmc3k_clustifyr", "pbmc_10x_3tech_symphony",
    "puram17_headneck_chetah", "zheng17_sorted_mudan",
)  # fmt: skip
"""The labelled PBMC, pancreas, tumor and brain files; two of them hold no counts."""
HOSTILE = (
    "<script>document.title='hacked'</script>", "</script><img src=x onerror=\"document.title='hacked'\">", "=cmd|' /C calc'!A0",
    "+B", "T\u202ecell", "B\tcell\nof \"two\" lines", "O'Brien & <b>co</b>", "日本語の細胞", "x" * 3000, "'=quoted", "#hash",
    "\\u003cscript\\u003e", "__proto__", "javascript:alert(1)",
)  # fmt: skip
LABELS = {
    "CD14+ Mono": 480,
    "FCGR3A+ Mono": 162,
    "memoryt": 90,
    "Kupfer cels": 70,
    "B": 344,
    "unknown": 50,
    "xyzzy": 11,
}


def table(labels):
    rows = [
        dict.fromkeys(LABEL_COLUMNS, "") | {"dataset_id": dataset, "contributor_label": label, "n_cells": n, "tissue": "blood"}
        for dataset, label, n in labels
    ]  # fmt: skip
    return pd.DataFrame(rows)


def sheet_of(labels):
    mappings, _ = reconcile_labels(labels, ontology=CL)
    reasons = justify_labels(labels, ontology=CL)
    return ReviewSheet(title="<b>atlas</b>", mappings=mappings, justifications=reasons, labels=labels, ontology=CL)


@pytest.fixture(scope="module")
def sheet():
    plain = [("pbmc", label, n) for label, n in LABELS.items()]
    return sheet_of(table([*plain, *(("<hostile>", label, 3) for label in HOSTILE)]))


class Reader(HTMLParser):
    """Collects elements, and what stands in scripts."""

    def __init__(self):
        super().__init__()
        self.elements, self.scripts, self.policy = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        found = dict(attrs)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]

    def handle_data(self, data):
        if self.elements and self.elements[-1] == "script":
            self.scripts.append(data)


class TestThePage:
    def test_hostile_labels_add_no_element(self, sheet):
        plain, hostile = Reader(), Reader()
        plain.feed(render_review_sheet(sheet_of(table([("pbmc", "B", 1)]))))
        hostile.feed(render_review_sheet(sheet))
        assert hostile.elements == plain.elements
        assert hostile.elements.count("script") == 2

    def test_the_policy_allows_our_script_and_style_by_hash_and_nothing_else(self, sheet):
        reader = Reader()
        reader.feed(render_review_sheet(sheet))
        rules = dict(rule.strip().split(" ", 1) for rule in reader.policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert set(rules) == {"default-src", "script-src", "style-src", "base-uri", "form-action"}
        assert all(rule.startswith("'sha256-") for name, rule in rules.items() if name in {"script-src", "style-src"})
        assert "unsafe" not in reader.policy
        assert "http" not in reader.policy

    def test_labels_come_back_from_the_data_as_they_were(self, sheet):
        reader = Reader()
        reader.feed(render_review_sheet(sheet))
        rows = json.loads(reader.scripts[0])["labels"]
        assert {row["label"] for row in rows} == {*LABELS, *HOSTILE}
        assert not set("<>&\u2028\u2029") & set(reader.scripts[0])

    def test_reasons_of_one_kind_and_source_stand_in_one_line(self):
        labels = table([("pbmc", "B", 5)])
        sheet = sheet_of(labels)
        reason = replace(sheet.justifications[0], source="others.csv", confidence=890)
        many = [replace(reason, matched=f"memory: B [{tissue}]") for tissue in ("blood", "lung", "gut", "skin")]
        reader = Reader()
        reader.feed(render_review_sheet(replace(sheet, justifications=(*sheet.justifications, *many))))
        (row,) = json.loads(reader.scripts[0])["labels"]
        told = [line for line in row["choices"][0]["reasons"] if line[3] == "others.csv"]
        assert len(told) == 1
        assert told[0][1].endswith("and 2 more")

    def test_equal_content_gives_equal_bytes(self, sheet):
        assert render_review_sheet(sheet) == render_review_sheet(sheet)

    def test_the_script_makes_no_markup_and_asks_for_nothing(self, package_file):
        script = package_file("report/templates/review.js")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch(",
                     "XMLHttpRequest", "WebSocket", "import(", "http:", "https:"):  # fmt: skip
            assert word not in script


@pytest.fixture(scope="session")
def package_file():
    return lambda name: resources.files("cytolabe").joinpath(*name.split("/")).read_text(encoding="utf-8")


class Page:
    """One page of a headless Chromium, driven over its pipe."""

    def __init__(self, folder):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-background-networking", f"--user-data-dir={folder}/profile", "--remote-debugging-pipe",
                   "--window-size=1300,900", "about:blank"]  # fmt: skip
        shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        # The browser reads descriptor 3 and writes 4.
        self._process = subprocess.Popen(  # noqa: S603
            ["/bin/bash", "-c", shell, "bash", *command], pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._numbers, self._buffer, self.events = itertools.count(1), b"", []
        self.downloads = folder / "downloads"
        self._session = ""

    def start(self):
        targets = self._send("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        self._session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        behavior = {"behavior": "allow", "downloadPath": str(self.downloads)}
        self._send("Browser.setDownloadBehavior", **behavior)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")

    def close(self):
        with contextlib.suppress(OSError, RuntimeError):
            self._send("Browser.close")
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._in)
        os.close(self._out)

    def command(self, method, **parameters):
        return self._send(method, session=self._session, **parameters)

    def _send(self, method, *, session="", **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _receive(self):
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 20)
            if not part:
                message = "the browser went away"
                raise RuntimeError(message)
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, path):
        self.events.clear()
        self.command("Page.navigate", url=path.as_uri())
        self.until(
            "document.readyState === 'complete' && document.querySelector('#label h2, #label:not(:empty)') !== null"
        )

    def js(self, expression):
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression, seconds=30):
        end = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.05)

    def press(self, *keys):
        """Press keys as a person does: a letter is typed, a named key is itself."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            self.command("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.command("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text):
        self.command("Input.insertText", text=text)

    def text(self, selector):
        return self.js(f"document.querySelector({json.dumps(selector)}).textContent")

    def go_to(self, label):
        """Select a label with `j` and `k`, from wherever the queue stands."""
        self.js(
            f"[...document.querySelectorAll('#queue li')].find(li => li.querySelector('.name').textContent === {json.dumps(label)}).click()"
        )
        assert self.text("#label h2") == label

    def downloads_nothing(self):
        before = set(self.downloads.glob("*"))
        self.press("d")
        return set(self.downloads.glob("*")) == before

    def download(self):
        for old in self.downloads.glob("*"):
            old.unlink()
        self.press("d")
        end = time.monotonic() + 20
        path = self.downloads / "decisions.tsv"
        while not path.exists() or not path.stat().st_size:
            assert time.monotonic() < end, "no download"
            time.sleep(0.05)
        return path

    @property
    def faults(self):
        """Exceptions, errors in the console, and requests for anything but the file itself."""
        thrown = [e for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        logged = [
            e for e in self.events if e.get("method") == "Log.entryAdded" and e["params"]["entry"]["level"] == "error"
        ]
        asked = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [*thrown, *logged, *(url for url in asked if not url.startswith(("file:", "blob:")))]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    page = Page(tmp_path_factory.mktemp("browser"))
    try:
        page.start()
        yield page
    finally:
        page.close()


@pytest.fixture
def page(browser, sheet, tmp_path):
    path = tmp_path / "review.html"
    write_review_sheet(sheet, path)
    browser.open(path)
    browser.js("localStorage.clear()")
    browser.open(path)
    browser.path = path
    yield browser
    assert browser.faults == []
    assert browser.js("document.title") == "<b>atlas</b> · label review"


class TestInTheBrowser:
    def test_keys_decide_and_the_file_is_applied(self, page, sheet):
        page.go_to("CD14+ Mono")
        page.press("a")
        page.go_to("memoryt")
        page.press("/")
        page.type("cd4 positive alpha beta memory")
        page.js(
            "document.querySelector('#search').value = 'CL:0000897'; document.querySelector('#search').dispatchEvent(new Event('input'))"
        )
        assert page.text("#found strong") == CL.name("CL:0000897")
        page.press("Enter")
        page.go_to("FCGR3A+ Mono")
        page.press("b", "a")
        page.go_to("B")
        page.press("r")
        page.go_to("xyzzy")
        page.press("u")
        page.go_to("Kupfer cels")
        second = page.js("document.querySelectorAll('.choice .id')[1].textContent")
        page.press("n")
        page.type('a "note"\nof two lines')
        page.press("Escape", "2")
        assert page.js("document.querySelector('#progress').value") == 6

        assert page.downloads_nothing()  # nobody has signed yet
        assert page.js("document.activeElement.id") == "reviewer"
        page.type("A. Curator")
        page.press("Escape")
        reviewed = read_sssom(page.download())
        assert len(reviewed) == 6
        applied, findings = apply_review(sheet.mappings, reviewed, ontology=CL)
        assert not [f for f in findings if f.code.startswith("E")]
        rows = {m.contributor_label: m for m in applied if m.decision == "reviewed"}
        assert set(rows) == {"CD14+ Mono", "memoryt", "FCGR3A+ Mono", "B", "xyzzy", "Kupfer cels"}
        assert {m.justification for m in rows.values()} == {"semapv:MappingReview"}
        assert {m.reviewer for m in rows.values()} == {"A. Curator"}
        assert {len(m.review_date) for m in rows.values()} == {10}
        assert (rows["CD14+ Mono"].term, rows["CD14+ Mono"].predicate) == ("CL:0000860", Predicate.EXACT)
        assert (rows["memoryt"].term, rows["memoryt"].predicate) == ("CL:0000897", Predicate.EXACT)
        assert (rows["FCGR3A+ Mono"].term, rows["FCGR3A+ Mono"].predicate) == ("CL:0000875", Predicate.BROAD)
        assert (rows["B"].term, rows["B"].evidence) == ("", "rejected CL:0000236 (B cell)")
        assert (rows["xyzzy"].term, rows["xyzzy"].predicate) == ("", Predicate.NONE)
        assert (rows["Kupfer cels"].term, rows["Kupfer cels"].comment) == (second, 'a "note"\nof two lines')

    def test_every_hostile_label_is_shown_as_text_and_survives_the_round_trip(self, page, sheet):
        page.js("document.querySelector('#reviewer').value = 'AB'")
        for row in (m for m in sheet.mappings if m.dataset_id == "<hostile>"):
            index = page.js(
                f"JSON.parse(document.querySelector('#data').textContent).labels.findIndex(r => r.label === {json.dumps(row.contributor_label)})"
            )
            page.js(f"document.querySelector('#q{index}').click()")
            page.press("u")
        assert (
            page.js("document.querySelectorAll('main img, main script, main b.hostile, nav img, nav script').length")
            == 0
        )
        reviewed = read_sssom(page.download())
        assert {row.contributor_label for row in reviewed} == set(HOSTILE)
        applied, findings = apply_review(sheet.mappings, reviewed, ontology=CL)
        assert [f.code for f in findings if f.code.startswith("E")] == []
        assert sum(m.decision == "reviewed" for m in applied) == len(HOSTILE)

    def test_real_labels_stand_on_their_sheet_and_come_back_decided(self, browser, tmp_path):
        """Files with raw counts and those that ingest refuses alike: a sheet needs the labels alone."""
        paths = [REAL / f"{name}.h5ad" for name in REAL_FILES]
        if not all(path.exists() for path in paths):
            pytest.skip("the real files (../shared/data/h5ad) are not here")
        summary = reconcile_files(paths, export=tmp_path / "review.tsv")
        browser.open(tmp_path / "review.html")
        browser.js("localStorage.clear()")
        browser.open(tmp_path / "review.html")
        rows = browser.js(
            "JSON.parse(document.querySelector('#data').textContent).labels.map(r => [r.dataset, r.label])"
        )
        assert sorted(map(tuple, rows)) == sorted((m.dataset_id, m.contributor_label) for m in summary.mappings)
        browser.js("document.querySelector('#reviewer').value = 'A. Curator'")
        chosen = {}
        for place, (dataset, label) in enumerate(rows):
            if dataset not in chosen:
                browser.js(f"document.querySelector('#q{place}').click()")
                assert browser.text("#label h2") == label
                chosen[dataset] = (label, browser.text(".choice .id"))
                browser.press("1")
        assert set(chosen) == set(REAL_FILES)
        reviewed = read_sssom(browser.download())
        assert {m.dataset_id: (m.contributor_label, m.term) for m in reviewed} == chosen
        applied, findings = apply_review(summary.mappings, reviewed, ontology=CL)
        assert not [f for f in findings if f.code.startswith("E")]
        assert sum(m.decision == "reviewed" for m in applied) == len(chosen)
        assert browser.faults == []

    def test_undo_takes_back_and_decisions_outlive_the_page(self, page):
        page.go_to("B")
        page.press("a")
        page.go_to("xyzzy")
        page.press("u", "z")
        assert page.text("#label h2") == "xyzzy"
        assert page.js("document.querySelector('#progress').value") == 1
        page.open(page.path)
        assert page.js("document.querySelector('#progress').value") == 1
        page.go_to("B")
        assert "Accepted" in page.text(".state")

    def test_the_queue_is_walked_filtered_and_ordered_by_weight(self, page, sheet):
        shown = page.js("[...document.querySelectorAll('#queue li:not([hidden]) .name')].map(n => n.textContent)")
        assert shown[0] == page.text("#label h2")
        weights = {
            m.contributor_label: m.n_cells * (1000 - m.confidence) for m in sheet.mappings if m.decision != "reserved"
        }
        named = [weights[label] for label in shown if label in weights]
        assert named == sorted(named, reverse=True)
        page.press("j", "j", "k")
        assert page.text("#label h2") == shown[1]
        page.js(
            "document.querySelector('#filter').value = 'mono'; document.querySelector('#filter').dispatchEvent(new Event('input'))"
        )
        visible = page.js("[...document.querySelectorAll('#queue li:not([hidden]) .name')].map(n => n.textContent)")
        said = {
            m.contributor_label: f"{m.contributor_label} {CL.name(m.term) if m.term else ''}" for m in sheet.mappings
        }
        assert set(visible) == {label for label, text in said.items() if "mono" in text.lower()}
        assert {"CD14+ Mono", "FCGR3A+ Mono"} <= set(visible) < set(said)

    def test_what_cannot_be_done_is_told(self, page):
        page.go_to("xyzzy")
        page.press("a")
        assert "Nothing is proposed" in page.text("#told")
        page.press("r")
        assert "Nothing is proposed" in page.text("#told")
        assert page.js("document.querySelector('#progress').value") == 0

    def test_every_control_has_a_name(self, page):
        nameless = page.js(
            "[...document.querySelectorAll('button, input, select, textarea, [role=listbox], meter')].filter(n => "
            "!(n.textContent.trim() || n.getAttribute('aria-label') || (n.labels && n.labels.length) || n.getAttribute('aria-labelledby')))"
            ".map(n => n.outerHTML)"
        )
        assert nameless == []

    def test_two_thousand_labels_are_at_hand(self, browser, tmp_path):
        labels = table(
            [(f"d{i % 7}", f"{name} {i}", 1 + i) for i, name in zip(range(2000), itertools.cycle(LABELS), strict=False)]
        )
        mappings, _ = reconcile_labels(labels.head(1), ontology=CL)
        rows = [
            replace(mappings[0], dataset_id=str(r["dataset_id"]), contributor_label=str(r["contributor_label"]))
            for r in labels.to_dict("records")
        ]
        write_review_sheet(
            ReviewSheet(title="large", mappings=rows, justifications=(), labels=labels, ontology=CL),
            tmp_path / "large.html",
        )
        assert (tmp_path / "large.html").stat().st_size < 5_000_000
        browser.open(tmp_path / "large.html")
        browser.press("a", "j", "j", "a")
        assert browser.js("document.querySelector('#progress').value") == 2
        assert browser.faults == []

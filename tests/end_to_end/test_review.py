"""The review page in a real browser: it reacts, and it asks nothing from outside."""

import csv
import json
import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest

from ssn_edge import Verdict
from ssn_edge.frames.image_files import write_image
from ssn_train.data.samples import Sample
from ssn_train.report import results, review
from ssn_train.report.results import Predictions

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="the page's test needs playwright")
    browser = os.environ.get("SSN_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium found; install one, or set SSN_BROWSER to its program")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(chromium, path):
    """A page in headless Chromium; fails on any console error or outside request."""
    trouble = []
    tab = chromium.new_page(viewport={"width": 1280, "height": 1000})
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:")) or trouble.append(request.url),
    )
    tab.goto(path.resolve().as_uri())
    yield tab
    tab.close()
    assert trouble == []


@pytest.fixture(scope="module")
def page(chromium, trained):
    with opened(chromium, trained.run / "report.html") as tab:
        yield tab


@pytest.fixture(scope="module")
def rows(trained):
    with open(trained.run / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def source(trained):
    """What judges, and what the page shows first."""
    return json.loads((trained.run / "metrics.json").read_text())["verdict"]["source"]


def matrix(page):
    return {key: int(page.inner_text(f"#{key}")) for key in ("tn", "fp", "fn", "tp")}


def counted(rows, threshold, source):
    """The confusion matrix from predictions.csv."""
    counts = dict.fromkeys(("tn", "fp", "fn", "tp"), 0)
    for row in rows:
        called, bad = float(row[source]) >= threshold, row["label"] == "1"
        counts[("tp" if called else "fn") if bad else ("fp" if called else "tn")] += 1
    return counts


def test_opens_at_the_models_threshold(page, rows, trained):
    document = json.loads((trained.run / "metrics.json").read_text())
    verdict = document["verdict"]
    assert matrix(page) == counted(rows, verdict["image_threshold"], verdict["source"])
    assert page.locator("#gallery figure").count() == len(rows)
    shown = float(page.locator("#figures b").first.inner_text())
    assert shown == pytest.approx(document["metrics"]["I-AUROC"], abs=6e-4)


def test_promise_and_observation_stand_side_by_side(page, trained):
    document = json.loads((trained.run / "metrics.json").read_text())
    assert page.inner_text("#promised") == document["verdict"]["method"]
    assert page.inner_text("#standing") == "This is the model's threshold." and page.is_hidden("#void")
    found = document["line"]["figures"]["FPR at the threshold"]
    cells = page.locator("#observed tr").nth(1).locator("td").all_inner_texts()
    assert cells[1].split() == [str(found["count"]), "of", "4"]
    assert cells[3].startswith(f"{100 * found['low']:.1f} to {100 * found['high']:.1f} %")
    page.locator("#slider").fill("990")
    assert page.inner_text("#standing").startswith("Moved: no promise holds here")
    assert page.is_visible("#void")
    assert page.locator("#observed tr").nth(1).locator("td").nth(3).inner_text() == "–"
    page.click("#reset")
    assert page.is_hidden("#void")


def test_a_count_shows_its_photos(page):
    page.locator("#slider").fill("1000")
    page.select_option("#kind", "pit")
    page.click("#fn")
    assert page.input_value("#filter") == "missed" and page.input_value("#kind") == ""
    assert page.locator("#gallery figure").count() == int(page.inner_text("#fn")) == 8
    top = page.locator("#images").evaluate("e => e.getBoundingClientRect().top")
    assert abs(top) < 2 or page.evaluate("scrollY + innerHeight >= document.body.scrollHeight - 1")
    page.locator("#kinds button", has_text="2").first.press("Enter")  # by keyboard, of one kind
    kinds = set(page.locator("#gallery figcaption span.wrong").all_inner_texts())
    assert len(kinds) == 1 and page.input_value("#kind") == kinds.pop()
    assert page.evaluate("document.activeElement.id") == "found"
    assert page.is_disabled("#tp") and page.is_disabled("#fp")  # nothing behind them
    page.click("#reset")
    page.select_option("#filter", "all")
    page.select_option("#kind", "")


def test_slider_moves_the_verdicts(page, rows, source):
    seen = []
    for place in (0, 300, 700, 1000):
        page.locator("#slider").fill(str(place))
        threshold = float(page.input_value("#threshold"))
        assert matrix(page) == counted(rows, threshold, source)
        missed = sum(row["label"] == "1" and float(row[source]) < threshold for row in rows)
        assert page.inner_text("#fnr") == f"{100 * missed / 8:.1f} %"
        seen.append(matrix(page)["tp"])
    assert seen == sorted(seen, reverse=True) and seen[0] == 8 and seen[-1] == 0


def test_source_and_reset(page, rows, trained):
    for source in ("score", "map_max"):
        page.select_option("#source", source)
        assert matrix(page) == counted(rows, float(page.input_value("#threshold")), source)
    page.click("#reset")
    verdict = json.loads((trained.run / "metrics.json").read_text())["verdict"]
    assert float(page.input_value("#threshold")) == pytest.approx(verdict["image_threshold"], rel=1e-5)


def test_gallery_filters_and_sorts(page, rows, source):
    page.locator("#slider").fill("1000")
    page.select_option("#filter", "missed")
    assert page.locator("#gallery figure").count() == 8
    page.select_option("#kind", "pit")
    assert page.inner_text("#count") == "2 of 12"
    assert set(page.locator("#gallery figcaption span.wrong").all_inner_texts()) == {"pit"}
    page.select_option("#kind", "")
    page.select_option("#filter", "all")
    page.select_option("#sort", "high")
    first = page.locator("#gallery figcaption b").first.inner_text()
    assert float(first) == pytest.approx(max(float(row[source]) for row in rows), rel=1e-3)


def test_map_shows_on_hover(page):
    figure = page.locator("#gallery figure").first
    over = figure.locator("img.over")
    assert over.evaluate("e => getComputedStyle(e).opacity") == "0"
    figure.hover()
    assert over.evaluate("e => getComputedStyle(e).opacity") == "1"
    assert over.evaluate("e => e.naturalWidth") > 0


NUMBERS = {  # part: (label, score) of its photos
    "tray 1": [(0, 0.1), (0, 0.7)], "tray 2": [(0, 0.2), (0, 0.3)], "tray 3": [(1, 0.2), (1, 0.9)],
    "tray 4": [(1, 0.3), (0, 0.8), (1, 0.4)], "": [(0, 0.9), (0, 0.1), (1, 0.6)],
}


@pytest.fixture(scope="module")
def several(chromium, tmp_path_factory):
    """The page of parts in several photos, by either source."""
    folder = tmp_path_factory.mktemp("several")
    samples, scores = [], []
    for part, photos in NUMBERS.items():
        for label, score in photos:
            path = folder / f"<{len(samples)}>.png"
            write_image(path, np.full((8, 8, 3), 99, np.uint8))
            samples.append(Sample(path, label, None, "dent" if label else "good", part))
            scores.append(score)
    maps, masks = np.zeros((len(samples), 4, 4), np.float32), np.zeros((len(samples), 4, 4), bool)
    maps[-3] = 5.0
    said = Predictions(tuple(samples), np.array(scores, np.float32), maps)
    verdict = Verdict("either", 0.5, 0.0, "on average", 12, 2.0)
    document = {**results.report(said, masks, verdict), "run": {}}
    data = review.content("several", document, said, masks, verdict, np.ones((2, 1)), ["loss"])
    review.write(folder / "report.html", data)
    with opened(chromium, folder / "report.html") as tab:
        yield tab, document["line"]


def test_parts_are_counted_and_found(several):
    page, line = several
    assert line["parts"] == {
        "sound": 4, "defective": 3, "with_several_photos": 4, "good_photos_of_defective": 1,
    }
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#observed tr").all()[1:]]
    assert [rows[0][1].split(), rows[1][1].split()] == [["2", "of", "4"], ["2", "of", "3,", "1", "missed"]]
    assert (line["figures"]["FPR at the threshold"]["count"], rows[0][2]) == (2, "50.0 %")
    assert (matrix(page)["fp"], matrix(page)["fn"]) == (3, 3)  # photos: tray 4's good one too
    page.click("#alarmParts")
    assert page.locator("#gallery figure").count() == 3  # both of tray 1, and a photo of its own
    assert page.locator("#gallery .part").all_inner_texts() == ["part tray 1"] * 2
    page.locator("#missedParts").press("Enter")
    assert page.locator("#gallery .part").all_inner_texts() == ["part tray 4"] * 3
    title = page.locator("#gallery figure").first.get_attribute("title")
    assert "part tray 4" in title and "<" in title and ".png" in title


def test_wrongly_judged_photos_keep_their_pictures_first(monkeypatch):
    monkeypatch.setattr(review, "MAX_PICTURES", 4)
    wrong = np.zeros(100, bool)
    wrong[[3, 50, 51]] = True
    kept = review._pictured(wrong)
    assert {3, 50, 51} < kept and len(kept) == 4
    assert len(review._pictured(~wrong)) == 4 and not review._pictured(np.zeros(0, bool))

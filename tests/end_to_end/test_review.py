"""The review page in a real browser: it reacts, and it asks nothing from outside."""

import csv
import json
import os
import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def page(trained):
    """The run's page, open in headless Chromium; fails on any console error or outside request."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page's test needs playwright")
    browser = os.environ.get("SSN_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no Chromium found; install one, or set SSN_BROWSER to its program")
    trouble = []
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": 1280, "height": 1000})
        tab.on("console", lambda message: trouble.append(message.text))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:")) or trouble.append(request.url),
        )
        tab.goto((trained.run / "report.html").resolve().as_uri())
        yield tab
        chromium.close()
    assert trouble == []


@pytest.fixture(scope="module")
def rows(trained):
    with open(trained.run / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def matrix(page):
    return {key: int(page.inner_text(f"#{key}")) for key in ("tn", "fp", "fn", "tp")}


def counted(rows, threshold, source="score"):
    """The confusion matrix from predictions.csv."""
    counts = dict.fromkeys(("tn", "fp", "fn", "tp"), 0)
    for row in rows:
        called, bad = float(row[source]) >= threshold, row["label"] == "1"
        counts[("tp" if called else "fn") if bad else ("fp" if called else "tn")] += 1
    return counts


def test_opens_at_the_models_threshold(page, rows, trained):
    document = json.loads((trained.run / "metrics.json").read_text())
    assert matrix(page) == counted(rows, document["verdict"]["image_threshold"])
    assert page.locator("#gallery figure").count() == len(rows)
    shown = float(page.locator("#figures b").first.inner_text())
    assert shown == pytest.approx(document["metrics"]["I-AUROC"], abs=6e-4)


def test_slider_moves_the_verdicts(page, rows):
    seen = []
    for place in (0, 300, 700, 1000):
        page.locator("#slider").fill(str(place))
        threshold = float(page.input_value("#threshold"))
        assert matrix(page) == counted(rows, threshold)
        missed = sum(row["label"] == "1" and float(row["score"]) < threshold for row in rows)
        assert page.inner_text("#fnr") == f"{100 * missed / 8:.1f} %"
        seen.append(matrix(page)["tp"])
    assert seen == sorted(seen, reverse=True) and seen[0] == 8 and seen[-1] == 0


def test_source_and_reset(page, rows, trained):
    page.select_option("#source", "map_max")
    assert matrix(page) == counted(rows, float(page.input_value("#threshold")), "map_max")
    page.click("#reset")
    verdict = json.loads((trained.run / "metrics.json").read_text())["verdict"]
    assert float(page.input_value("#threshold")) == pytest.approx(verdict["image_threshold"], rel=1e-5)


def test_gallery_filters_and_sorts(page, rows):
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
    assert float(first) == pytest.approx(max(float(row["score"]) for row in rows), rel=1e-3)


def test_map_shows_on_hover(page):
    figure = page.locator("#gallery figure").first
    over = figure.locator("img.over")
    assert over.evaluate("e => getComputedStyle(e).opacity") == "0"
    figure.hover()
    assert over.evaluate("e => getComputedStyle(e).opacity") == "1"
    assert over.evaluate("e => e.naturalWidth") > 0

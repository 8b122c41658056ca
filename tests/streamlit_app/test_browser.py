"""The pages in a real browser; the screenshots lie in pytest's temporary folder (--basetemp)."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from include.platform import ports
from include.platform.http import answers
from include.platform.temporary import running
from include.settings import PROJECT_ROOT, Settings
from streamlit_app import judging
from tests.streamlit_app.test_own_data import SAMPLE

pytestmark = [pytest.mark.browser, pytest.mark.services]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
CHROMIUM = "/usr/bin/chromium"
WIDTH = 1280
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def address(shop_with_champion: Settings, tmp_path_factory: pytest.TempPathFactory):
    (port,) = ports.free(1)
    command = [sys.executable, "-m", "streamlit", "run", str(PROJECT_ROOT / "streamlit_app" / "app.py"),
               f"--server.port={port}"]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with running("streamlit", shop_with_champion, command, lambda: answers(f"{url}/_stcore/health")):
        yield url


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": WIDTH, "height": 900}, locale="en-GB")
    page.set_default_timeout(60_000)
    yield page
    page.close()


def settled(page: Page) -> None:
    """Waits until Streamlit has drawn everything."""
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible()
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")
    page.wait_for_timeout(700)


def shot(page: Page, folder: Path, name: str) -> None:
    """A screenshot of the whole page, which Streamlit scrolls within itself."""
    height = page.evaluate("document.querySelector('[data-testid=stMainBlockContainer]').scrollHeight")
    page.set_viewport_size({"width": WIDTH, "height": int(height) + 80})
    settled(page)
    page.screenshot(path=str(folder / f"{name}.png"))


def problems(page: Page) -> None:
    """Fails on a stack trace, a broken chart, or a page wider than the window."""
    assert page.locator("[data-testid=stException]").count() == 0
    assert "Traceback" not in page.inner_text("body")
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    for chart in page.locator(
        "[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg"
    ).all():
        box = chart.bounding_box()
        assert box and box["width"] > 150 and box["height"] > 80 and box["x"] + box["width"] <= WIDTH


def test_live_overview(address, page, tmp_path):
    page.goto(address)
    expect(page.get_by_role("heading", name="Live overview")).to_be_visible()
    settled(page)
    shot(page, tmp_path, "live")
    problems(page)
    assert page.locator("[data-testid=stVegaLiteChart]").count() == 3
    page.get_by_text("24 h", exact=True).click()
    settled(page)
    shot(page, tmp_path, "live-24h")
    problems(page)


def test_model_performance_and_a_transaction_scored_by_hand(address, page, tmp_path):
    page.goto(f"{address}/performance")
    expect(page.get_by_role("heading", name="Score a transaction by hand")).to_be_visible()
    settled(page)
    problems(page)
    assert page.locator("[data-testid=stVegaLiteChart]").count() == 5
    page.get_by_role("spinbutton", name="Amount").fill("4999")
    page.get_by_role("spinbutton", name="Amount").press("Tab")
    page.get_by_role("button", name="Score it").click()
    expect(page.get_by_text("Score by version 2")).to_be_visible()
    settled(page)
    shot(page, tmp_path, "performance")
    problems(page)


def test_alerts(address, page, tmp_path):
    page.goto(f"{address}/alerts")
    expect(page.get_by_text("Why it was raised")).to_be_visible()
    settled(page)
    page.get_by_label("Your name").fill("an analyst")
    page.get_by_label("Your name").press("Enter")
    shot(page, tmp_path, "alerts")
    problems(page)
    page.get_by_role("button", name="Legitimate").click()
    expect(page.get_by_text("Your last verdict: legitimate on")).to_be_visible()


NEWEST_OPEN = """
select transaction_id from shop.fraud_alerts a
where not exists (select from shop.verdicts v where v.transaction_id = a.transaction_id)
order by created_at desc limit 1"""


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.25, 0.35])
def test_a_second_click_never_judges_the_next_alert(address, page, shop_with_champion, seconds):
    page.goto(f"{address}/alerts")
    expect(page.get_by_text("Why it was raised")).to_be_visible()
    page.get_by_label("Your name").fill("an analyst")
    page.get_by_label("Your name").press("Enter")
    settled(page)
    page.wait_for_timeout(1_000 * judging.READING)
    with psycopg.connect(shop_with_champion.conninfo("owner"), autocommit=True) as connection:
        judged = "select transaction_id from shop.verdicts where analyst = 'an analyst' order by id"
        before = connection.execute(judged).fetchall()
        (shown,) = connection.execute(NEWEST_OPEN).fetchone()
        box = page.get_by_role("button", name="Fraud", exact=True).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.click(x, y)
        page.wait_for_timeout(1_000 * seconds)
        page.mouse.click(x, y)
        expect(page.get_by_text("Your last verdict: fraud on")).to_be_visible()
        settled(page)
        assert connection.execute(judged).fetchall() == [*before, (shown,)]


def test_own_data(address, page, tmp_path):
    page.goto(f"{address}/own-data")
    settled(page)
    sample = {"name": "payments.csv", "mimeType": "text/csv", "buffer": SAMPLE}
    page.locator("[data-testid=stFileUploader] input[type=file]").set_input_files(sample)
    page.get_by_text("day-first", exact=True).click()
    expect(page.get_by_text("Rows before and after")).to_be_visible()
    with page.expect_download() as downloaded:
        page.get_by_role("button", name="Download the mapping").click()
    mapping = Path(downloaded.value.path()).read_text()
    assert downloaded.value.suggested_filename == "mapping.yaml" and "%d/%m/%Y" in mapping
    problems(page)
    shot(page, tmp_path, "own-data")

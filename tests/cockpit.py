"""Airflow's page "Fraud platform" in a real browser, as an operator uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import FrameLocator, Page, expect, sync_playwright

from include.platform import secrets
from include.settings import Settings

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
PATIENCE = 180_000.0  # milliseconds


class Cockpit:
    """The page, after a log-in.

    Args:
        folder: for screenshots.
    """

    def __init__(self, page: Page, address: str, folder: Path):
        self._page, self._address, self._folder = page, address, folder

    def log_in(self, password: str) -> None:
        assert self._page.request.get(f"{self._address}/fraudstream/").status == 401
        self._page.goto(f"{self._address}/auth/login")
        self._page.locator("input[name=username]").fill("admin")
        self._page.locator("input[name=password]").fill(password)
        self._page.keyboard.press("Enter")
        self._page.wait_for_url(lambda url: "login" not in url)

    def _open(self) -> FrameLocator:
        self._page.goto(f"{self._address}/plugin/fraud-platform")
        frame = self._page.frame_locator("iframe")
        frame.locator("footer").wait_for()
        return frame

    def see(self, heading: str, text: str) -> None:
        """Waits for a text in the table below a heading, which renews itself, and takes a screenshot."""
        table = self._open().locator(f"h2:has-text('{heading}') + table")
        expect(table).to_contain_text(text, timeout=PATIENCE)
        self._page.screenshot(path=self._folder / f"{text.replace(' ', '-')}.png")

    def press(self, button: str, **fields: float) -> None:
        """Follows a button to its DAG and triggers it with these values in its form."""
        self._open().locator("a.button", has_text=button).click()
        self._page.wait_for_url("**/dags/**")
        self._page.get_by_role("button", name="Trigger").first.click()
        dialog = self._page.get_by_role("dialog")
        dialog.get_by_text("Run Parameters").wait_for()
        for name, value in fields.items():
            dialog.locator(f"#element_{name} input, input[name=element_{name}]").first.fill(str(value))
            self._page.keyboard.press("Tab")
        self._page.screenshot(path=self._folder / f"{button.replace(' ', '-')}.png")
        dialog.get_by_role("button", name="Trigger", exact=True).click()
        dialog.wait_for(state="hidden")

    def follow(self, button: str, heading: str) -> None:
        """Follows a button to a page of ours with this heading."""
        self._open().locator("a.button", has_text=button).click()
        self._page.locator(f"#{heading}").wait_for()


@contextmanager
def opened(settings: Settings, folder: Path) -> Iterator[Cockpit]:
    """The page in Chromium, with Airflow's administrator logged in."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1280, "height": 900}, locale="en-GB")
        page.set_default_timeout(PATIENCE)
        cockpit = Cockpit(page, settings.airflow_public_url, folder)
        cockpit.log_in(secrets.ensure(settings)["airflow_admin"])
        yield cockpit
        chromium.close()

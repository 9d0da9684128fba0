"""A headless Chromium that tells what a page did: what it asked for, and what it complained about."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Self

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver.remote.webelement import WebElement

__all__ = ["Browser"]

_OPTIONS = (
    "--headless",
    "--no-sandbox",  # tests may run as root, where Chromium has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    # Chromium itself asks nobody for anything either.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
    "--hide-scrollbars",
)


class Browser:
    """A browser; a context manager.

    Args:
        more_options: of its command line.
    """

    def __init__(self, *more_options: str) -> None:
        options = ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for option in (*_OPTIONS, *more_options):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = Chrome(options, Service(shutil.which("chromedriver") or ""))
        self.size(1280, 900)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.driver.quit()

    def size(self, width: int, height: int) -> None:
        """Make the window as large as a screen is, in CSS pixels."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)

    def color_scheme(self, scheme: str) -> None:
        """Prefer "light" or "dark"."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def open(self, path: Path) -> None:
        """Open a file, and forget what pages before it did."""
        self.driver.get("about:blank")
        self.requests()
        self.complaints()
        self.driver.get(path.as_uri())

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last time."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What the console says since the last time: errors, and what the page's policy forbade."""
        return [entry["message"] for entry in self._log("browser")]

    def _log(self, kind: str) -> list[dict[str, str]]:
        entries: list[dict[str, str]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return entries

    def all(self, selector: str) -> list[WebElement]:
        """The elements that a CSS selector finds."""
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> WebElement:
        """The first one."""
        return self.driver.find_element("css selector", selector)

    def run(self, script: str, *arguments: object) -> object:
        """Run a script in the page. Returns: what it returns."""
        result: object = self.driver.execute_script(script, *arguments)
        return result

"""Makes pictures of a report's page: docs/images/report.png and report-request.png are of a run in the lab.

clew tor report traces.jsonl --html report.html --privacy lab
.venv/bin/python -m tools.report_picture report.html docs/images/report.png docs/images/report-request.png

Args: the page; where the picture of its top goes; where that of its slowest request goes, opened. It needs Chromium.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from tests.integration.browser import Browser

WIDTH, TOP_HEIGHT = 1100, 900
_MARGIN = 14


def main() -> None:
    page, top, request = map(Path, sys.argv[1:])
    with Browser() as browser:
        browser.size(WIDTH, TOP_HEIGHT)
        browser.open(page.resolve())
        end = browser.run("return document.querySelectorAll('figure')[0].getBoundingClientRect().bottom")
        take(browser, top, 0, float(str(end)) + _MARGIN)
        browser.one("#request-1 > summary").click()
        place = browser.run(
            "const box = document.querySelector('#request-1').getBoundingClientRect();"
            "return [box.top + scrollY, box.bottom + scrollY]"
        )
        assert isinstance(place, list)
        take(browser, request, place[0] - _MARGIN, place[1])


def take(browser: Browser, path: Path, start: float, end: float) -> None:
    """Write a picture of the page between two heights."""
    clip = {"x": 0, "y": start, "width": WIDTH, "height": end - start, "scale": 1}
    options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    picture = browser.driver.execute_cdp_cmd("Page.captureScreenshot", options)
    path.write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    main()

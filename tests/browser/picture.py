"""``make report-picture``: the picture of a report for the README, of the made-up trace."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from chatlease import _report
from tests.browser import chromium, sample

WIDTH, HEIGHT = 1440, 1000


async def draw(picture: Path, page: Path) -> None:
    """Open a page, choose a session that was killed, and take its picture."""
    async with chromium.running() as browser:
        opened = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, reduced_motion="reduce")
        await opened.goto(page.as_uri())
        await opened.get_by_role("radio", name="From its start").check()
        await opened.locator("#left tr", has_text="killed").locator("button").last.click()
        await opened.mouse.move(0, 0)
        await opened.evaluate("scrollTo(0, 0)")
        await opened.screenshot(path=picture)


def main(picture: Path) -> None:
    """Draw the picture."""
    with tempfile.TemporaryDirectory() as folder:
        trace, page = Path(folder) / "bot.trace.jsonl", Path(folder) / "report.html"
        sample.write(trace, sample.lines())
        _report.write(page, _report.read([trace]))
        asyncio.run(draw(picture, page))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

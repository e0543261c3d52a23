"""One browser for all tests of pages, and pages that complain when something goes wrong in them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from chatlease import _report
from tests.browser import chromium, sample
from tests.browser.report import Report

if TYPE_CHECKING:
    from playwright.async_api import Browser

Open = Callable[..., Awaitable[Report]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncGenerator[Browser]:
    """A headless Chromium; the test is skipped where there is none."""
    chromium.require()
    async with chromium.running() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def opened(browser: Browser, tmp_path: Path) -> AsyncGenerator[Open]:
    """
    Opens the page of some lines of a trace, the sample's by default.

    Afterwards every page must have asked for nothing but itself, and have had nothing to complain about.
    """
    reports: list[Report] = []

    async def open_report(
        lines: list[sample.Line] | None = None, *, paths: list[Path] | None = None, most: int = _report.MOST, **how: Any
    ) -> Report:
        if paths is None:
            paths = [tmp_path / "bot.trace.jsonl"]
            sample.write(paths[0], sample.lines() if lines is None else lines)
        written = tmp_path / f"report{len(reports)}.html"
        document = _report.read(paths, most=most)
        _report.write(written, document)
        how = {"viewport": {"width": 1280, "height": 900}} | how
        context = await browser.new_context(**how)
        report = Report(await context.new_page(), written.as_uri(), document)
        reports.append(report)
        await report.load()
        return report

    yield open_report
    for report in reports:
        await report.page.context.close()
        assert report.complaints == []
        assert report.requests in ([report.url], [report.url] * report.loads)

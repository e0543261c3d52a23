"""
The Chromium that the tests of pages drive: the one that ``CHATLEASE_TEST_CHROMIUM`` names, or one found in ``PATH``.

Without one, or without playwright, they are skipped; where ``CI=true`` they fail instead. Playwright downloads nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser

# Read now: every test gets an environment without what begins with CHATLEASE.
_NAMED = os.environ.get("CHATLEASE_TEST_CHROMIUM", "")
_USUAL = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def executable() -> str:
    """Return the path of a Chromium; empty where there is none."""
    found = [_NAMED, *(shutil.which(name) or "" for name in _USUAL)]
    return next(filter(None, found), "")


def missing() -> str:
    """Say what is missing to drive a browser; empty where nothing is."""
    if find_spec("playwright") is None:
        return "playwright is not installed (extra test-browser)"
    return "" if executable() else "no Chromium: install one, or name it by CHATLEASE_TEST_CHROMIUM"


def require() -> None:
    """Skip the test where no browser can be driven; in CI, fail it."""
    if reason := missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@asynccontextmanager
async def running() -> AsyncGenerator[Browser]:
    """Run a headless Chromium with a profile of its own, which is deleted afterwards."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        sandbox = os.geteuid() != 0  # Chromium refuses to have one as root
        browser = await playwright.chromium.launch(
            executable_path=executable(), chromium_sandbox=sandbox, args=list(_QUIET)
        )
        try:
            yield browser
        finally:
            await browser.close()

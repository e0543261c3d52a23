"""A page in a browser, as its tests look at it: by roles and names, as people and screen readers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from chatlease._report import Document

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Locator, Page


_PATIENCE_MS = 10_000
"""For what happens at once, on a busy machine."""


class Report:
    """
    An open page.

    Args:
        page: The browser's.
        url: Of the file.
        document: What the page was made of.

    Attributes:
        complaints: What stood in the console, and errors of the script.
        requests: Addresses that were asked for.
        loads: How often the page was loaded.
    """

    def __init__(self, page: Page, url: str, document: Document) -> None:
        self.page = page
        self.url = url
        self.document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.loads = 0
        page.set_default_timeout(_PATIENCE_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def _heard(self, message: ConsoleMessage) -> None:
        self.complaints.append(f"{message.type}: {message.text}")

    async def load(self) -> None:
        """Load the page, and wait until its script has drawn it."""
        self.loads += 1
        await self.page.goto(self.url)
        await self.page.wait_for_selector("html[data-ready]", state="attached")

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The sessions of the document, as the page unpacks them."""
        names = self.document["fields"]["session"]
        return [dict(zip(names, row, strict=True)) for row in self.document["sessions"]]

    def word(self, value: int | str | None) -> str:
        """Return what a number in the document stands for."""
        return self.document["words"][value] if isinstance(value, int) else value or ""

    # -- what is there ------------------------------------------------------------------------------------------------

    @property
    def filter(self) -> Locator:
        """The filter box."""
        return self.page.get_by_role("combobox", name="Filter")

    @property
    def rows(self) -> Locator:
        """The list of sessions."""
        return self.page.get_by_role("listbox", name="Sessions")

    @property
    def details(self) -> Locator:
        """The chosen session."""
        return self.page.get_by_role("complementary")

    async def chosen(self) -> str:
        """Return the id of the session whose details are shown."""
        return (await self.page.locator("#session-title").inner_text()).removeprefix("Session ")

    async def found(self) -> str:
        """Return what the page says of the filter."""
        await self._settled()
        return await self.page.locator("#found").inner_text()

    async def lit(self, how: str = "lit") -> list[str]:
        """Return the transitions that are lit, sorted."""
        names: list[str] = await self.page.eval_on_selector_all(
            f".edge.{how}", "edges => edges.map(edge => edge.dataset.edge).sort()"
        )
        return names

    async def lit_states(self) -> set[str]:
        """Return the states that are lit."""
        names: list[str] = await self.page.eval_on_selector_all(
            ".state.lit", "states => states.map(state => state.dataset.state)"
        )
        return set(names)

    async def table(self, title: str) -> list[dict[str, str]]:
        """Return the rows of a table, by the names of their columns."""
        script = """table => {
            const names = [...table.querySelectorAll("thead th")].map(cell => cell.textContent);
            return [...table.querySelectorAll("tbody tr")].map(row =>
                Object.fromEntries([...row.children].map((cell, index) => [names[index], cell.textContent])
                    .concat(Object.entries(row.dataset).map(([name, value]) => [`data-${name}`, value]))));
        }"""
        rows: list[dict[str, str]] = await self.page.get_by_role("table", name=title, exact=True).evaluate(script)
        return rows

    async def count(self, selector: str) -> int:
        """Return how many elements there are."""
        await self._settled()
        return await self.page.locator(selector).count()

    async def style(self, selector: str, name: str) -> str:
        """Return a computed style."""
        script = "(element, name) => getComputedStyle(element)[name]"
        value: str = await self.page.eval_on_selector(selector, script, name)
        return value

    # -- what is done -------------------------------------------------------------------------------------------------

    async def narrow(self, text: str) -> str:
        """Type into the filter box; returns what the page says then."""
        await self.filter.fill(text)
        return await self.found()

    async def shown_ids(self) -> list[str]:
        """Return the ids of the rows that are elements now, in order."""
        await self._settled()
        ids: list[str] = await self.page.eval_on_selector_all(
            "#rows [role=option]", "rows => rows.map(row => row.dataset.session)"
        )
        return ids

    async def _settled(self) -> None:
        """Wait for what the page has put off until the next frame."""
        await self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

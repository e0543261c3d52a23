"""The plugin for pytest: its fixtures under every runner of coroutines, its check, and that it costs others nothing."""

from __future__ import annotations

import importlib.metadata

import pytest

pytest_plugins = ["pytester"]

STRICT = ("-W", "error", "--strict-markers", "--strict-config", "-p", "no:cacheprovider", "-p", "no:xdist", "-q")
NO_ASYNCIO = ("-p", "no:asyncio")
AUTO = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")

FIXTURES = "chatlease_engine, chatlease_service, chatlease_trace, chatlease_clock"
BODY = f"""
import asyncio
import pytest
from chatlease.testing import assert_path

async def use({FIXTURES}):
    began = chatlease_clock.now()
    async with chatlease_engine as engine:
        assert await engine.ask("one two").text() == "one two"
        await chatlease_clock.sleep(1800)
    assert_path(chatlease_trace, "cookies-ready", ..., "streaming", "deleted")
    assert chatlease_clock.now() == began + 1800
    assert chatlease_service.calls["create_chat"] == 1
"""
AWAITED = f"async def test_it({FIXTURES}):\n    await use({FIXTURES})\n"
ON_ASYNCIO = "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
RUNNERS = {
    "pytest-asyncio, auto": (AWAITED, AUTO),
    "pytest-asyncio, strict": (f"@pytest.mark.asyncio\n{AWAITED}", ("-o", "asyncio_mode=strict", *AUTO[2:])),
    "anyio": (f"{ON_ASYNCIO}@pytest.mark.anyio\n{AWAITED}", NO_ASYNCIO),
    "asyncio.run": (f"def test_it({FIXTURES}):\n    asyncio.run(use({FIXTURES}))\n", NO_ASYNCIO),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_fixtures_serve_every_runner_of_coroutines(pytester: pytest.Pytester, runner: str) -> None:
    test, options = RUNNERS[runner]
    pytester.makepyfile(BODY + test)
    pytester.runpytest_subprocess(*STRICT, *options).assert_outcomes(passed=1)


LEAVES = """
import pytest
from chatlease.errors import Unavailable

{marker}
async def test_it(chatlease_engine, chatlease_service):
    chatlease_service.fail("delete_chat", *[Unavailable("out of order", status=503)] * 1000)
    async with chatlease_engine as engine:
        await engine.ask("one").text()
    assert chatlease_service.chats
"""


def test_a_test_that_leaves_a_chat_fails_and_is_told_which(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LEAVES.format(marker=""))
    result = pytester.runpytest_subprocess(*STRICT, *AUTO)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "chatlease_engine was not left as it was found:",
            "1 chat left at the service; a sweep would delete it:",
            "    chat-1: entry *, bound, orphaned, tries that failed: * (http-503)",
        ]
    )


def test_a_test_may_say_that_a_sweep_finds_what_it_leaves(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(LEAVES.format(marker="@pytest.mark.chatlease(swept_later=True)"))
    pytester.runpytest_subprocess(*STRICT, *AUTO).assert_outcomes(passed=1)


def test_a_chat_that_no_ledger_knows_of_is_left_whatever_the_test_says(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.chatlease(swept_later=True)
        def test_it(chatlease_engine, chatlease_service):
            chatlease_service.plant("somebody")
        """
    )
    result = pytester.runpytest_subprocess(*STRICT, *NO_ASYNCIO)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["1 chat left at the service, and no ledger knows of it:", "    chat-1"])


ENTERED = """
import asyncio
import pytest

{marker}
async def test_it(chatlease_engine):
    engine = await chatlease_engine.__aenter__()
"""


@pytest.mark.parametrize(
    ("marker", "options"),
    [("", AUTO), ("@pytest.mark.asyncio", ("-o", "asyncio_mode=strict", *AUTO[2:]))],
    ids=["auto", "strict"],
)
def test_an_engine_that_is_never_closed_is_found(
    pytester: pytest.Pytester, marker: str, options: tuple[str, ...]
) -> None:
    pytester.makepyfile(ENTERED.format(marker=marker))
    result = pytester.runpytest_subprocess(*STRICT, *options)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["the engine was entered and never closed: *"])


def test_an_engine_that_is_never_entered_is_none_that_is_left(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(chatlease_engine):\n    pass\n")
    pytester.runpytest_subprocess(*STRICT, *NO_ASYNCIO).assert_outcomes(passed=1)


@pytest.mark.parametrize("said", ["swept_latr=True", "True", "swept_later='no'"])
def test_a_marker_that_says_what_nobody_knows_is_refused(pytester: pytest.Pytester, said: str) -> None:
    pytester.makepyfile(f"import pytest\n\n@pytest.mark.chatlease({said})\ndef test_it():\n    pass\n")
    result = pytester.runpytest_subprocess(*STRICT, *NO_ASYNCIO)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"@pytest.mark.chatlease({said}) is not understood; it takes swept_later=*"])


def test_the_service_can_be_another_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from chatlease.testing import FakeService

        @pytest.fixture
        def chatlease_service(chatlease_clock):
            return FakeService(tokens=["another ", "answer"], clock=chatlease_clock)

        async def test_it(chatlease_engine):
            async with chatlease_engine as engine:
                assert await engine.ask("one").text() == "another answer"
        """
    )
    pytester.runpytest_subprocess(*STRICT, *AUTO).assert_outcomes(passed=1)


def test_a_run_that_asks_for_no_fixture_imports_nothing_of_ours(pytester: pytest.Pytester) -> None:
    """So that coverage of a bot (or of ours) does not begin too late, and nobody's tests become slower."""
    pytester.makepyfile(
        """
        import sys

        def test_it():
            assert "chatlease_pytest" in sys.modules
            assert not [name for name in sys.modules if name.partition(".")[0] in ("chatlease", "chatlease_adapters")]
        """
    )
    pytester.runpytest_subprocess(*STRICT, *NO_ASYNCIO).assert_outcomes(passed=1)


def test_it_can_be_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(chatlease_clock):\n    pass\n")
    result = pytester.runpytest_subprocess(*STRICT, *NO_ASYNCIO, "-p", "no:chatlease")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'chatlease_clock' not found"])


def test_pytest_finds_it_by_its_entry_point() -> None:
    [point] = importlib.metadata.entry_points(group="pytest11", name="chatlease")
    assert point.value == "chatlease_pytest"
    assert point.load().__doc__


def test_its_marker_is_explained(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.chatlease(swept_later=False): *"])

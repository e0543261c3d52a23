"""Streams of frames: told one by one, cut anywhere, never shown; and lines of JSON."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatlease.errors import ProtocolChanged, RunFailed
from chatlease.events import Failed, Final, Pending
from chatlease_adapters.http import FrameStream, Growing, Told
from chatlease_adapters.lines import JsonLines
from chatlease_adapters.sse import SseParser


class Bytes:
    """A body that has come."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        self.closed = 0

    async def read(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    def close(self) -> None:
        self.closed += 1


def tell(line: bytes) -> Told:
    said: dict[str, str] = msgspec.json.decode(line, type=dict[str, str])
    match said:
        case {"token": token}:
            return token
        case {"wait": _}:
            return Pending(1, 2)
        case {"text": text}:
            return Final(text)
        case {"error": words}:
            return Failed(RunFailed(words))
        case _:
            return None


async def test_frames_are_told_one_by_one_until_the_end() -> None:
    body = Bytes(b'\n{"wait": ""}\n{"token": ""}\n{"to', b'ken": "a"}\n{"x": ""}\n', b'{"text": "a"}\n{"token": "b"}\n')
    stream = FrameStream(body, JsonLines().feed, tell)
    assert await stream.read() == [Pending(1, 2)]
    assert await stream.read() == ["a"]
    assert await stream.read() == [Final("a")]
    assert not await stream.read()
    stream.close()
    stream.close()
    assert body.closed == 2


async def test_nothing_follows_a_failure() -> None:
    stream = FrameStream(Bytes(b'{"error": "No ink."}\n{"token": "b"}\n'), JsonLines().feed, tell)
    [failed] = await stream.read()
    assert isinstance(failed, Failed)


@pytest.mark.parametrize("garbage", [b'{"token": 7}', b'{"token', b"\xff", b"[" * 100_000])
async def test_a_frame_that_cannot_be_decoded_is_another_protocol_and_is_not_shown(garbage: bytes) -> None:
    for feed, data in ((JsonLines().feed, garbage + b"\n"), (SseParser().feed_data, b"data: " + garbage + b"\n\n")):
        with pytest.raises(ProtocolChanged, match="a frame of this service") as caught:
            await FrameStream(Bytes(data), feed, tell).read()
        assert caught.value.__context__ is None
        assert "token: 7" not in str(caught.value)


async def test_a_frame_that_is_too_deep_is_another_protocol() -> None:
    with pytest.raises(ProtocolChanged):
        await FrameStream(Bytes(b"[" * 100_000 + b"\n"), JsonLines().feed, msgspec.json.decode).read()


def test_a_text_that_grows_is_given_out_once() -> None:
    growing = Growing()
    assert [growing.token(text) for text in ("a", "a", "ab c", "", "ab", "ab cd")] == ["a", "", "b c", "", "", "d"]


# --------------------------------------------------------------------------------------------------------------- lines


def lines_of(parser: JsonLines, *chunks: bytes) -> list[bytes]:
    return [line for chunk in chunks for line in parser.feed(chunk)]


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n")).map(str.encode), max_size=5),
    st.sampled_from([b"\n", b"\r\n"]),
    st.lists(st.integers(0, 60), max_size=5),
)
def test_how_lines_were_cut_never_shows(lines: list[bytes], end: bytes, cuts: list[int]) -> None:
    whole = b"".join(line + end for line in lines)
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    chunks = [whole[start:stop] for start, stop in itertools.pairwise(places)]
    assert lines_of(JsonLines(), *chunks) == [line.strip() for line in lines if line.strip()]


def test_only_a_line_feed_ends_a_line() -> None:
    line = '{"a": "\u2028\x0b\x85"}'.encode()
    assert lines_of(JsonLines(), line + b"\n") == [line]


def test_a_line_without_an_end_is_not_given_out() -> None:
    assert lines_of(JsonLines(), b'{"a": 1}\n{"b"', b": 2}") == [b'{"a": 1}']


@pytest.mark.parametrize(
    "chunks", [[b"x" * 11], [b"x" * 6, b"x" * 5], [b"x" * 6, b"x" * 5 + b"\n"], [b"x" * 11 + b"\n"]]
)
def test_a_line_that_never_ends_is_another_protocol(chunks: list[bytes]) -> None:
    with pytest.raises(ProtocolChanged) as caught:
        lines_of(JsonLines(line_limit=10), *chunks)
    assert caught.value.code == "line-too-large"
    assert lines_of(JsonLines(line_limit=10), b"x" * 10 + b"\n") == [b"x" * 10]

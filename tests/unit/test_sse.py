"""The event-stream parser against the standard, word by word and by a naive reading of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatlease.errors import ProtocolChanged
from chatlease_adapters.sse import ServerSentEvent, SseParser

UNHURRIED = settings(deadline=None)  # how long an example takes depends on who else is working here
RECORDED = Path(__file__).parents[1] / "recorded"


def naive(stream: bytes) -> list[tuple[str, str, str]]:
    """The standard's algorithm on the whole stream as text: (type, data, last event id) of each event."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    *lines, _unfinished = re.split("\r\n|\r|\n", text)
    events: list[tuple[str, str, str]] = []
    data, kind, last_id = "", "", ""
    for line in lines:
        if line == "":
            if data != "":
                events.append((kind or "message", data.removesuffix("\n"), last_id))
            data, kind = "", ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return events


def told(events: Iterable[ServerSentEvent]) -> list[tuple[str, str, str]]:
    return [(event.type, event.text, event.id) for event in events]


def parse(*chunks: bytes) -> list[tuple[str, str, str]]:
    parser = SseParser()
    return told(event for chunk in chunks for event in parser.feed(chunk))


def exact(*chunks: bytes) -> list[bytes]:
    parser = SseParser()
    return [event.data for chunk in chunks for event in parser.feed(chunk)]


def payloads(*chunks: bytes) -> list[bytes]:
    parser = SseParser()
    return [data for chunk in chunks for data in parser.feed_data(chunk)]


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    marks = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[start:end] for start, end in pairwise(marks)]


PIECES = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n"),
        *(b"data: ", b"data:", b"data", b"event: add", b"event:", b"id: 1", b"id:", b"id: a\0b", b"retry: 10"),
        *(b": ping", b":", b" ", b"\0", b"\xef\xbb\xbf", "\u2713 \U0001f600".encode(), b"\xf0\x9f", b"\xff", b"\x0b"),
        *(b'data: {"event_type": "token", "text": "a"}\r\n\r\n', b'data: {"text": "data: "}\n\n', b"data: x\r\n\r\n"),
    ]
)
STREAMS = st.lists(PIECES | st.binary(max_size=4), max_size=40).map(b"".join)
FRAMES = st.sampled_from([b"\r\n\r\n", b"\n\n"]).flatmap(
    lambda end: st.lists(
        st.sampled_from([b"data: {}", b"data: ", b"data:  x", b": ping", b"data: 1\r"]), max_size=12
    ).map(lambda frames: b"".join(frame + end for frame in frames))
)
CUTS = st.lists(st.integers(min_value=0, max_value=400), max_size=12)


@UNHURRIED
@given(STREAMS | FRAMES, CUTS)
@example(b"data: a\r\n\r\n", [8, 9, 10])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
def test_every_stream_cut_anywhere_is_read_as_the_naive_reading_of_the_whole(stream: bytes, places: list[int]) -> None:
    assert parse(*cut(stream, places)) == naive(stream)


@UNHURRIED
@given(STREAMS | FRAMES, CUTS)
@example(b": x\n\ndata: a\r\n\r\ndata: b\n\r\n", [5])
@example(b"data: a\n\ndata: b\r\n\r\n", [9])
def test_the_fast_way_gives_what_the_exact_way_gives(stream: bytes, places: list[int]) -> None:
    chunks = cut(stream, places)
    assert payloads(*chunks) == exact(*chunks)
    assert [data.decode("utf-8", "replace") for data in payloads(*chunks)] == [data for _, data, _ in naive(stream)]


LINES = st.sampled_from(
    [b"data: a\n", b"data: a\n\n", b"data: b\n\ndata: c\n\n", b"data: d\r\n\r\n", b"\n", b"\r", b": x\n"]
)


@UNHURRIED
@given(st.lists(LINES, max_size=8))
def test_chunks_that_end_with_a_line_are_no_whole_events(chunks: list[bytes]) -> None:
    assert payloads(*chunks) == exact(*chunks) == exact(b"".join(chunks))


@UNHURRIED
@given(STREAMS, CUTS, st.lists(st.booleans(), max_size=12))
def test_the_two_ways_may_be_mixed_on_one_stream(stream: bytes, places: list[int], fast: list[bool]) -> None:
    parser = SseParser()
    got: list[bytes] = []
    for index, chunk in enumerate(cut(stream, places)):
        if fast and fast[index % len(fast)]:
            got += parser.feed_data(chunk)
        else:
            got += [event.data for event in parser.feed(chunk)]
    assert [data.decode("utf-8", "replace") for data in got] == [data for _, data, _ in naive(stream)]


@pytest.mark.parametrize("path", sorted((RECORDED / "langgraph").glob("*.sse")), ids=lambda path: str(path.stem))
@pytest.mark.parametrize("size", [1 << 20, 1000, 7])
def test_recorded_streams_of_another_service_are_read_alike_in_any_portions(path: Path, size: int) -> None:
    stream = path.read_bytes()
    assert parse(*(stream[at : at + size] for at in range(0, len(stream), size))) == naive(stream) != []


class TestTheStandard:
    """The examples and rules of "Interpreting an event stream", each by itself."""

    @pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
    def test_lines_end_in_lf_cr_or_both(self, end: bytes) -> None:
        assert parse(end.join([b"data: a", b"data: b", b"", b""])) == [("message", "a\nb", "")]

    def test_a_lf_after_a_cut_cr_is_no_second_line_end(self) -> None:
        assert parse(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [("message", "a\nb", "")]

    def test_an_event_that_ends_in_cr_does_not_wait_for_the_next_byte(self) -> None:
        assert parse(b"data: a\r\r") == [("message", "a", "")]

    def test_one_byte_order_mark_is_dropped_and_only_at_the_start(self) -> None:
        assert parse(b"\xef", b"\xbb", b"\xbfdata: a\n\n") == [("message", "a", "")]
        assert parse(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n") == []

    def test_exactly_one_space_after_the_colon_is_dropped(self) -> None:
        assert parse(b"data:a\ndata: b\ndata:  c\n\n") == [("message", "a\nb\n c", "")]

    def test_a_field_without_colon_has_an_empty_value(self) -> None:
        assert parse(b"data\n\ndata\ndata\n\n") == [("message", "", ""), ("message", "\n", "")]

    def test_an_event_without_data_is_none_and_its_type_is_forgotten(self) -> None:
        assert parse(b"event: add\n\ndata: a\n\n") == [("message", "a", "")]

    def test_comments_and_unknown_fields_are_skipped(self) -> None:
        assert parse(b": ping\nnonsense: 1\n data: x\ndata: a\n\n") == [("message", "a", "")]

    def test_the_last_event_id_stays_until_it_is_changed_and_nul_does_not_change_it(self) -> None:
        assert parse(b"id: 7\ndata: a\n\nid: x\0\ndata: b\n\nid\ndata: c\n\n") == [
            ("message", "a", "7"),
            ("message", "b", "7"),
            ("message", "c", ""),
        ]

    def test_an_id_counts_once_its_event_has_ended_even_without_data(self) -> None:
        parser = SseParser()
        parser.feed(b"id: 7\n")
        assert parser.last_event_id == ""
        parser.feed(b"\n")
        assert parser.last_event_id == "7"

    @pytest.mark.parametrize(
        ("value", "retry_ms"),
        [(b"250", 250), (b"-1", None), (b"1.5", None), ("\u0661".encode(), None), (b"9" * 5000, None)],
    )
    def test_a_retry_is_taken_where_it_is_a_number_of_digits(self, value: bytes, retry_ms: int | None) -> None:
        parser = SseParser()
        parser.feed(b"retry: " + value + b"\n\n")
        assert parser.retry_ms == retry_ms

    def test_what_has_no_empty_line_after_it_was_never_sent(self) -> None:
        assert parse(b"data: a\n\ndata: b\n") == [("message", "a", "")]

    def test_a_character_cut_in_two_is_whole_again_and_a_broken_one_is_replaced(self) -> None:
        check = "data: \u2713\n\n".encode()
        assert parse(check[:7], check[7:]) == [("message", "\u2713", "")]
        assert parse(b"data: \xff\n\n") == [("message", "\ufffd", "")]


class TestLimit:
    """One event may not fill the memory."""

    @pytest.mark.parametrize("chunks", [[b"data: 123456\n\n"], [b"data: 1234", b"56"], [b"data: 12\nda", b"ta: 3"]])
    @pytest.mark.parametrize("way", ["feed", "feed_data"])
    def test_a_larger_event_is_refused_however_it_comes(self, chunks: list[bytes], way: str) -> None:
        parser = SseParser(event_limit=11)
        parser.feed(b": x\n\n")
        feed: Callable[[bytes], object] = getattr(parser, way)
        with pytest.raises(ProtocolChanged) as caught:
            list(map(feed, chunks))
        assert caught.value.code == "event-too-large"
        assert "123" not in str(caught.value)

    def test_many_small_events_are_not_one_large_one(self) -> None:
        parser = SseParser(event_limit=11)
        assert [len(parser.feed_data(b"data: 12345\n\n" * 9)) for _ in range(9)] == [9] * 9

    def test_a_long_line_in_small_pieces_is_joined_once(self) -> None:
        parser = SseParser()
        for _ in range(40_000):
            parser.feed_data(b"x" * 100)
        assert parser.feed_data(b"\n\ndata: 1\n\n") == [b"1"]

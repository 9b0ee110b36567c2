"""Frames arrive whole and in order however the bytes are cut, and what is no frame breaks the channel."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.server.ops import Result
from sidecar.settings import AuditSink, Listen, ListenerSettings, Settings, TokenSettings, UpstreamSettings
from sidecar.workers.channel import (
    LIMIT,
    Ask,
    Batch,
    ChannelBroken,
    Frames,
    Message,
    Report,
    Seating,
    Taken,
    Up,
    frame,
    pack,
    unpack,
)

SETTINGS = Settings(
    path=Path("/etc/sidecar.yaml"),
    listen=(ListenerSettings(Listen(unix=Path("/run/data.sock")), 0o660),),
    ops=Listen("127.0.0.1", 9090),
    policies=Path("/policies"),
    upstreams={"a": UpstreamSettings("a", "http://127.0.0.1:1")},
    workers=2,
    tokens=TokenSettings("sqlite:////x", Path("/pepper")),
    audit=(AuditSink(), AuditSink(file=Path("/audit"), required=False)),
)
MESSAGES: list[Message] = [
    Seating(1, SETTINGS, b"k" * 32, ((3, 4), (6,)), (5,)),
    Up(),
    Ask(7, metrics=True),
    Report(
        7,
        (Result("audit", None, True), Result("directory", "stale", False)),
        "abc",
        {"c_total": {(): (3.0,)}, "h": {("a", "b"): (1.0, 0.0, 0.25)}},
    ),
    Report(8, (), ""),
    Batch((b'{"v":1}', b"\xff\x00"), durable=True),
    Taken(),
    Taken("the disk is full"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_is_sent_is_what_arrives(message: Message) -> None:
    assert Frames().feed(frame(message)) == [message]


def test_settings_survive_the_way_to_another_process() -> None:
    assert unpack(pack(SETTINGS)) == SETTINGS


@given(st.lists(st.sampled_from(MESSAGES), max_size=5), st.lists(st.integers(1, 40), min_size=1))
def test_however_the_bytes_are_cut_the_messages_are_the_same(messages: list[Message], cuts: list[int]) -> None:
    data = b"".join(map(frame, messages))
    frames, found, position = Frames(), [], 0
    while position < len(data):
        size = cuts[position % len(cuts)]
        found += frames.feed(data[position : position + size])
        position += size
    assert found == messages


def test_a_message_is_there_with_its_last_byte_and_not_before() -> None:
    frames, data = Frames(), frame(Ask(1, metrics=False))
    for position in range(len(data) - 1):
        assert frames.feed(data[position : position + 1]) == []
    assert frames.feed(data[-1:]) == [Ask(1, metrics=False)]


HOSTILE = {
    "longer than any frame": struct.pack(">I", LIMIT + 1),
    "the largest length there is": b"\xff\xff\xff\xff",
    "nothing": struct.pack(">I", 0),
    "no MessagePack": struct.pack(">I", 1) + b"\xc1",
    "cut MessagePack": struct.pack(">I", 1) + b"\x81",
    "no message of ours": struct.pack(">I", 1) + b"\x80",
    "more than a message": struct.pack(">I", len(frame(Up())) - 3) + frame(Up())[4:] + b"\x00",
    "a message of another type": struct.pack(">I", 13) + b"\x81\xa4type\xa6Attack",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_frame_breaks_the_channel(data: bytes) -> None:
    with pytest.raises(ChannelBroken):
        Frames().feed(data)


def test_a_frame_of_the_limit_waits_for_its_end() -> None:
    assert Frames().feed(struct.pack(">I", LIMIT)) == []


@given(st.binary(max_size=200))
def test_noise_is_messages_or_a_broken_channel_never_another_error(noise: bytes) -> None:
    try:
        found = Frames().feed(noise)
    except ChannelBroken:
        return
    assert isinstance(found, list)

"""WebSocket frames are read alike however they arrive; what breaks RFC 6455 ends the connection."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.waist import LargeReply
from proxy.upstream.arrival import Keeping, Lost, Oversize, as_it_is
from proxy.upstream.ws_frames import CLOSE, PING, PONG, TEXT, Control, Masking, MessageReader, NotWebSocket


def frame(payload: bytes, opcode: int = TEXT, *, final: bool = True) -> bytes:
    """Return a frame as a server writes it."""
    first, size = (0x80 if final else 0) | opcode, len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


Message = bytes | LargeReply | Oversize | Lost | Control
MESSAGES = st.lists(
    st.tuples(st.lists(st.binary(max_size=200), min_size=1, max_size=3), st.sampled_from([TEXT, 2]), st.booleans()),
    max_size=5,
)


@given(MESSAGES, st.lists(st.integers(1, 60), min_size=1, max_size=10))
def test_any_cut_of_any_stream(messages: list[tuple[list[bytes], int, bool]], cuts: list[int]) -> None:
    stream = b""
    expected: list[Message] = []
    for parts, opcode, pinged in messages:
        for index, part in enumerate(parts):
            if pinged and index == 1:  # between the parts of a message
                stream += frame(b"life", PING)
                expected.append(Control(PING, b"life"))
            stream += frame(part, opcode if index == 0 else 0, final=index == len(parts) - 1)
        expected.append(b"".join(parts))
    reader, position = MessageReader(Keeping(10_000), as_it_is), 0
    found: list[Message] = []
    for index in range(len(stream)):
        size = cuts[index % len(cuts)]
        found += reader.feed(stream[position : position + size])
        position += size
    assert found == expected


@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 300_000])
def test_every_form_of_length(size: int) -> None:
    reader = MessageReader(Keeping(1_000_000), as_it_is)
    stream = frame(b"x" * size)
    assert list(reader.feed(stream[:3])) == []
    assert list(reader.feed(stream[3:])) == [b"x" * size]


@given(st.binary(max_size=70_000))
def test_what_a_client_writes_is_masked_with_the_key_it_names(payload: bytes) -> None:
    written = Masking().frame(payload)
    size = written[1] & 0x7F
    start = 2 + {126: 2, 127: 8}.get(size, 0)
    key, masked = written[start : start + 4], written[start + 4 :]
    assert written[0] == 0x81
    assert written[1] & 0x80
    assert bytes(byte ^ key[index % 4] for index, byte in enumerate(masked[:500])) == payload[:500]
    assert len(masked) == len(payload)


def test_keys_are_not_used_twice() -> None:
    masking = Masking()
    keys = [masking.frame(b"")[2:6] for _ in range(3000)]
    assert len(set(keys)) > 2990


def test_too_large_a_message_is_skipped() -> None:
    reader = MessageReader(Keeping(200), as_it_is)
    stream = frame(b"a") + frame(b"x" * 150, final=False) + frame(b"x" * 150, 0) + frame(b"y" * 201) + frame(b"b")
    found = [one for start in range(0, len(stream), 64) for one in reader.feed(stream[start : start + 64])]
    assert found == [b"a", Oversize(b"x" * 128), Oversize(b"y" * 128), b"b"]


@pytest.mark.parametrize(
    "stream",
    [
        b"\xc1\x00",  # an extension's bit
        b"\x81\x80\x00\x00\x00\x00",  # masked
        b"\x80\x00",  # continues nothing
        b"\x01\x01a\x81\x01b",  # begins within another
        b"\x83\x00",  # no known kind
        b"\x09\x00",  # a control frame in parts
        b"\x89\x7e\x00\x7e",  # a long control frame
        b"\x8b\x00",
    ],
)
def test_what_breaks_the_protocol_is_refused(stream: bytes) -> None:
    with pytest.raises(NotWebSocket):
        list(MessageReader(Keeping(1000), as_it_is).feed(stream))


def test_control_frames_are_told_as_they_are() -> None:
    reader = MessageReader(Keeping(1000), as_it_is)
    found = list(reader.feed(frame(b"\x03\xe8", CLOSE) + frame(b"", PONG)))
    assert found == [Control(CLOSE, b"\x03\xe8"), Control(PONG, b"")]

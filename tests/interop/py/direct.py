"""Direct messages, /fednode/direct/1.0.0, written from docs/wire.md."""

from __future__ import annotations

import secrets
import struct
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.io.utils import read_exactly

PROTOCOL = TProtocol("/fednode/direct/1.0.0")

HELLO, MESSAGE, ACK = 1, 2, 3
STATUS = ["accepted", "inbox full", "too large", "rate limited", "refused"]
# Larger than anything that the tests send.
MAX_BODY = 1 << 20
# As many answers are remembered as a node may have unanswered messages.
REMEMBERED = 64

SESSION = secrets.randbits(64) | 1


def frame(kind: int, body: bytes) -> bytes:
    return struct.pack(">BI", kind, len(body)) + body


def hello() -> bytes:
    return frame(HELLO, struct.pack(">Q", SESSION))


def message(sequence: int, content_type: str, data: bytes) -> bytes:
    kind = content_type.encode("ascii")
    return frame(MESSAGE, struct.pack(">QB", sequence, len(kind)) + kind + data)


def ack(sequence: int, status: int) -> bytes:
    return frame(ACK, struct.pack(">QB", sequence, status))


async def read(stream: INetStream, due: int) -> bytes:
    """The body of the next frame, which must be of the kind that is due."""
    kind, length = struct.unpack(">BI", await read_exactly(stream, 5))
    if kind != due or length > MAX_BODY:
        raise ValueError(f"a frame of kind {kind} with {length} bytes where kind {due} was due")
    return await read_exactly(stream, length)


class Inbox:
    """The receiving side: one stream after another, whatever peer and connection it comes from."""

    def __init__(self, deliver: Callable[[str, str, str], None]) -> None:
        self.deliver = deliver
        # The answers given to each peer's sessions.
        self.answered: dict[tuple[str, int], OrderedDict[int, int]] = {}

    async def serve(self, stream: INetStream, peer: str) -> None:
        (session,) = struct.unpack(">Q", await read(stream, HELLO))
        await stream.write(hello())
        answered = self.answered.setdefault((peer, session), OrderedDict())
        while True:
            body = await read(stream, MESSAGE)
            sequence, length = struct.unpack(">QB", body[:9])
            content_type, data = body[9 : 9 + length], body[9 + length :]
            if sequence not in answered:
                self.deliver(peer, content_type.decode("ascii"), data.decode())
                answered[sequence] = 0
                if len(answered) > REMEMBERED:
                    answered.popitem(last=False)
            await stream.write(ack(sequence, answered[sequence]))


class Outbox:
    """The sending side towards one peer.

    Messages go out as they are given, without waiting for answers, and what has no answer when a stream breaks goes out again
    on the next one.
    """

    sequences = count(1)

    def __init__(self, connect: Callable[[], Awaitable[INetStream]]) -> None:
        # Gives a new stream to the peer as soon as there can be one.
        self.connect = connect
        self.stream: INetStream | None = None
        self.theirs: int | None = None
        # One message after the other, also when a new stream begins.
        self.lock = trio.Lock()
        # By number, and so in order.
        self.waiting: dict[int, tuple[bytes, trio.MemorySendChannel[str]]] = {}
        self.last = (0, b"")

    async def post(self, content_type: str, text: str) -> trio.MemoryReceiveChannel[str]:
        """Sends a message, and gives where its status will come out."""
        async with self.lock:
            sequence = next(self.sequences)
            self.last = (sequence, message(sequence, content_type, text.encode()))
            return await self.write_last()

    async def repeat(self) -> trio.MemoryReceiveChannel[str]:
        """Sends the last message once more, although its answer came."""
        async with self.lock:
            return await self.write_last()

    async def write_last(self) -> trio.MemoryReceiveChannel[str]:
        sequence, parcel = self.last
        status, answer = trio.open_memory_channel[str](1)
        self.waiting[sequence] = (parcel, status)
        if self.stream is not None:
            # A stream that is broken is noticed where its answers are read.
            with suppress(Exception):
                await self.stream.write(parcel)
        return answer

    async def run(self) -> None:
        while True:
            with suppress(Exception):
                await self.exchange(await self.connect())
            self.stream = None

    async def exchange(self, stream: INetStream) -> None:
        await stream.write(hello())
        (theirs,) = struct.unpack(">Q", await read(stream, HELLO))
        async with self.lock:
            if self.theirs not in (None, theirs):
                # The peer has restarted. Whoever waits hears that nothing more will come.
                for _, status in self.waiting.values():
                    status.close()
                self.waiting.clear()
            self.theirs = theirs
            for parcel, _ in list(self.waiting.values()):
                await stream.write(parcel)
            self.stream = stream
        while True:
            sequence, byte = struct.unpack(">QB", await read(stream, ACK))
            _, status = self.waiting.pop(sequence)
            status.send_nowait(STATUS[byte])

"""Topics: gossipsub is the library's; what is in a message is written from docs/wire.md."""

from __future__ import annotations

import struct
import time
from itertools import count

import trio
from libp2p.abc import IHost
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, PROTOCOL_ID_V12, PROTOCOL_ID_V13, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub

VERSION = 1
HEAD = struct.Struct(">BQB")

# Higher than those of the process before.
NUMBERS = count(time.time_ns())


class Router(GossipSub):
    """Waits for room: the library drops, without a word, what its queue of 32 frames to a neighbour cannot hold."""

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        # A message is two frames at most.
        while self.pubsub is not None and any(len(queue) > 16 for queue in self.pubsub.peer_queues.values()):
            await trio.sleep(0.001)
        await super().publish(msg_forwarder, pubsub_msg)


def gossip(host: IHost) -> tuple[GossipSub, Pubsub]:
    """The router, and what is used of it: two services that are to run. Strict signatures, and the specification's message ids,
    are the default."""
    router = Router(
        protocols=[PROTOCOL_ID_V13, PROTOCOL_ID_V12, PROTOCOL_ID_V11, PROTOCOL_ID],
        degree=6,
        degree_low=4,
        degree_high=12,
        # The specification's; the library's own is two minutes.
        heartbeat_interval=1,
        # It drops what this very peer publishes beyond ten messages a second, without a word.
        spam_protection_enabled=False,
    )
    return router, Pubsub(host, router)


def seal(content_type: str, text: str) -> bytes:
    """The data of the next message."""
    kind = content_type.encode("ascii")
    return HEAD.pack(VERSION, next(NUMBERS), len(kind)) + kind + text.encode()


def unseal(data: bytes) -> tuple[str, str] | None:
    """The content type and text in a message; nothing for a version that is not known here."""
    if data[:1] != bytes([VERSION]):
        return None
    _, _, length = HEAD.unpack_from(data)
    end = HEAD.size + length
    return data[HEAD.size : end].decode("ascii"), data[end:].decode()

"""A py-libp2p peer that does what lines of JSON on stdin ask for, and tells on stdout what happens.

The commands and events are listed in ../README.md.
"""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter, deque
from contextlib import suppress
from typing import Any

import trio
from libp2p import new_host
from libp2p.abc import IHost, INetConn, INetStream, INotifee
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.ping import ID as PING, perform_ping_roundtrip
from libp2p.identity.identify.identify import ID as IDENTIFY, parse_identify_response
from libp2p.io.utils import read_exactly
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE, Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX, Yamux
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils.varint import read_length_prefixed_protobuf
from multiaddr import Multiaddr

from direct import PROTOCOL, Inbox, Outbox
from topics import gossip, seal, unseal

# Messages that wait for their answer while the next ones are sent.
AT_ONCE = 16
GOODBYE = TProtocol("/fednode/goodbye/1.0.0")
REASONS = {1: "removed", 2: "not a member", 3: "stopping"}
LISTEN = Multiaddr("/ip4/127.0.0.1/tcp/0")


def tell(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Watch(INotifee):
    """Tells of connections."""

    async def connected(self, network: Any, conn: INetConn) -> None:
        tell("connected", peer=str(conn.muxed_conn.peer_id))

    async def disconnected(self, network: Any, conn: INetConn) -> None:
        tell("disconnected", peer=str(conn.muxed_conn.peer_id))

    async def opened_stream(self, network: Any, stream: INetStream) -> None: ...
    async def closed_stream(self, network: Any, stream: INetStream) -> None: ...
    async def listen(self, network: Any, multiaddr: Multiaddr) -> None: ...
    async def listen_close(self, network: Any, multiaddr: Multiaddr) -> None: ...


class Peer:
    """The commands."""

    def __init__(self, host: IHost, pubsub: Pubsub, nursery: trio.Nursery) -> None:
        self.host = host
        self.pubsub = pubsub
        self.nursery = nursery
        self.outboxes: dict[ID, Outbox] = {}
        self.stopped = trio.Event()
        inbox = Inbox(lambda peer, kind, text: tell("received", **{"from": peer}, content_type=kind, text=text))

        async def receive(stream: INetStream) -> None:
            try:
                await inbox.serve(stream, str(stream.muxed_conn.peer_id))
            except Exception:
                await stream.reset()

        async def part(stream: INetStream) -> None:
            (byte,) = await read_exactly(stream, 1)
            tell("goodbye", peer=str(stream.muxed_conn.peer_id), reason=REASONS.get(byte, f"unknown ({byte})"))
            await stream.close()

        host.set_stream_handler(PROTOCOL, receive)
        host.set_stream_handler(GOODBYE, part)
        host.get_network().register_notifee(Watch())

    async def stream_to(self, peer: ID) -> INetStream:
        """A stream for direct messages, once there is a connection for it."""
        while True:
            with suppress(Exception):
                if self.host.get_network().get_connection(peer) is not None:
                    return await self.host.new_stream(peer, [PROTOCOL])
            await trio.sleep(0.05)

    def outbox_to(self, peer: ID) -> Outbox:
        if peer not in self.outboxes:
            self.outboxes[peer] = Outbox(lambda: self.stream_to(peer))
            self.nursery.start_soon(self.outboxes[peer].run)
        return self.outboxes[peer]

    async def dial(self, address: str) -> dict[str, Any]:
        await self.host.connect(info_from_p2p_addr(Multiaddr(address)))
        return {}

    async def hang_up(self, peer: str) -> dict[str, Any]:
        # Not `close_peer`: it forgets, and leaves open, a connection that comes while the old one closes.
        for connection in self.host.get_network().get_connections(ID.from_string(peer)):
            await connection.close()
        return {}

    async def send(self, peer: str, content_type: str, text: str) -> dict[str, Any]:
        outbox = self.outbox_to(ID.from_string(peer))
        answer = await outbox.post(content_type, text)
        return {"status": await answer.receive()}

    async def repeat(self, peer: str) -> dict[str, Any]:
        outbox = self.outbox_to(ID.from_string(peer))
        answer = await outbox.repeat()
        return {"status": await answer.receive()}

    async def stream(self, peer: str) -> dict[str, Any]:
        """Numbered messages, many at once, until it is told to stop."""
        outbox = self.outbox_to(ID.from_string(peer))
        self.stopped = trio.Event()
        sent, answers, statuses = 0, deque[trio.MemoryReceiveChannel[str]](), Counter[str]()
        while not self.stopped.is_set():
            answers.append(await outbox.post("text/plain", str(sent)))
            sent += 1
            if len(answers) == AT_ONCE:
                statuses[await answers.popleft().receive()] += 1
        for answer in answers:
            statuses[await answer.receive()] += 1
        return {"sent": sent, "statuses": statuses}

    async def stop(self) -> dict[str, Any]:
        self.stopped.set()
        return {}

    async def subscribe(self, topic: str) -> dict[str, Any]:
        subscription = await self.pubsub.subscribe(topic)

        async def hear() -> None:
            async for message in subscription:
                author = ID(message.from_id)
                # The library gives its own messages, too.
                if author != self.host.get_id() and (known := unseal(message.data)) is not None:
                    kind, text = known
                    tell("heard", **{"from": str(author)}, topic=topic, content_type=kind, text=text)

        self.nursery.start_soon(hear)
        return {}

    async def publish(self, topic: str, content_type: str, text: str) -> dict[str, Any]:
        await self.pubsub.publish(topic, seal(content_type, text))
        return {}

    async def subscribers(self, topic: str) -> dict[str, Any]:
        return {"peers": [str(peer) for peer in self.pubsub.peer_topics.get(topic, ())]}

    async def ping(self, peer: str) -> dict[str, Any]:
        stream = await self.host.new_stream(ID.from_string(peer), [PING])
        await perform_ping_roundtrip(stream)
        await stream.close()
        return {}

    async def identify(self, peer: str) -> dict[str, Any]:
        stream = await self.host.new_stream(ID.from_string(peer), [IDENTIFY])
        told = parse_identify_response(await read_length_prefixed_protobuf(stream, use_varint_format=True))
        await stream.close()
        return {
            "protocol_version": told.protocol_version,
            "agent": told.agent_version,
            "protocols": list(told.protocols),
            "addresses": [str(Multiaddr(address)) for address in told.listen_addrs],
            "observed": str(Multiaddr(told.observed_addr)),
        }

    async def do(self, id: int, name: str, fields: dict[str, Any]) -> None:
        try:
            tell("done", id=id, **await getattr(self, name)(**fields))
        except Exception as error:
            tell("failed", id=id, error=f"{type(error).__name__}: {error}")


async def main() -> None:
    lines = trio.wrap_file(sys.stdin)
    start = json.loads(await lines.readline())
    keys = create_new_key_pair(base64.b64decode(start["private_key"])[:32])
    noise = NoiseTransport(keys, noise_privkey=create_new_x25519_key_pair().private_key)
    host = new_host(keys, sec_opt={NOISE: noise}, muxer_opt={YAMUX: Yamux}, listen_addrs=[LISTEN])
    router, pubsub = gossip(host)
    async with (
        host.run([LISTEN]),
        background_trio_service(router),
        background_trio_service(pubsub),
        trio.open_nursery() as nursery,
    ):
        await pubsub.wait_until_ready()
        peer = Peer(host, pubsub, nursery)
        address = host.get_addrs()[0].decapsulate(Multiaddr(f"/p2p/{host.get_id()}"))
        tell("done", id=start["id"], peer=str(host.get_id()), address=str(address))
        async for line in lines:
            command = json.loads(line)
            nursery.start_soon(peer.do, command.pop("id"), command.pop("do"), command)
        # The test is over.
        nursery.cancel_scope.cancel()


trio.run(main)

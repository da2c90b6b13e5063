//! What the swarm hears of events that the real transport below brings at times of its own: it is played here.

use std::collections::VecDeque;
use std::io;

use futures::future::{Pending, pending};
use futures::task::noop_waker_ref;

use super::*;

/// Where the script listens.
const HERE: &str = "/ip4/0.0.0.0/udp/4001/quic-v1";

type Scripted = TransportEvent<Pending<io::Result<(PeerId, ())>>, io::Error>;

/// A transport that says what it is told to.
#[derive(Default)]
struct Script {
    events: VecDeque<Scripted>,
    listening: Vec<ListenerId>,
}

impl Transport for Script {
    type Output = (PeerId, ());
    type Error = io::Error;
    type ListenerUpgrade = Pending<io::Result<Self::Output>>;
    type Dial = Self::ListenerUpgrade;

    fn listen_on(&mut self, id: ListenerId, _: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.listening.push(id);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        self.listening.contains(&id)
    }

    fn dial(&mut self, _: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        Ok(pending())
    }

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Scripted> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The transport with two listeners at one endpoint.
fn scene() -> (Retiring<Script>, ListenerId, ListenerId) {
    let mut transport = Retiring::new(Script::default(), View::new());
    let (first, second) = (ListenerId::next(), ListenerId::next());
    for id in [first, second] {
        transport.listen_on(id, address(HERE)).unwrap();
    }
    assert_eq!(transport.inner.listening, [first], "one socket serves both");
    (transport, first, second)
}

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn newcomer(listener_id: ListenerId) -> Scripted {
    let (local_addr, send_back_addr) = (address(HERE), address("/ip4/127.0.0.1/udp/9/quic-v1"));
    TransportEvent::Incoming { listener_id, upgrade: pending(), local_addr, send_back_addr }
}

/// What the swarm hears next.
fn hears(transport: &mut Retiring<Script>) -> Option<String> {
    let mut cx = Context::from_waker(noop_waker_ref());
    match Pin::new(transport).poll(&mut cx) {
        Poll::Pending => None,
        Poll::Ready(TransportEvent::NewAddress { listener_id, listen_addr }) => {
            Some(format!("{listener_id} is at {listen_addr}"))
        }
        Poll::Ready(TransportEvent::AddressExpired { listener_id, listen_addr }) => {
            Some(format!("{listener_id} is no more at {listen_addr}"))
        }
        Poll::Ready(TransportEvent::ListenerError { listener_id, error }) => {
            Some(format!("{listener_id}: {error}"))
        }
        Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason }) => {
            Some(format!("{listener_id} is closed: {reason:?}"))
        }
        Poll::Ready(TransportEvent::Incoming { listener_id, .. }) => Some(format!("{listener_id} has one")),
    }
}

#[tokio::test]
async fn every_listener_hears_that_an_address_has_come_and_gone() {
    let (mut transport, first, second) = scene();
    let (one, two) = (address("/ip4/10.0.0.1/udp/4001/quic-v1"), address("/ip4/10.0.0.2/udp/4001/quic-v1"));
    for listen_addr in [&one, &two] {
        let listen_addr = listen_addr.clone();
        transport.inner.events.push_back(TransportEvent::NewAddress { listener_id: first, listen_addr });
    }
    for told in [&one, &two] {
        assert_eq!(hears(&mut transport), Some(format!("{first} is at {told}")));
        assert_eq!(hears(&mut transport), Some(format!("{second} is at {told}")));
    }
    // An interface goes down.
    let expired = TransportEvent::AddressExpired { listener_id: first, listen_addr: one.clone() };
    transport.inner.events.push_back(expired);
    assert_eq!(hears(&mut transport), Some(format!("{first} is no more at {one}")));
    assert_eq!(hears(&mut transport), Some(format!("{second} is no more at {one}")));
    // Who comes later hears of what is left.
    let third = ListenerId::next();
    transport.listen_on(third, address(HERE)).unwrap();
    assert_eq!(hears(&mut transport), Some(format!("{third} is at {two}")));
    assert_eq!(hears(&mut transport), None);
}

#[tokio::test]
async fn an_error_and_a_newcomer_are_the_newest_listeners_and_a_close_is_everybodys() {
    let (mut transport, first, second) = scene();
    let error = || io::Error::other("the interface is down");
    let of_first = TransportEvent::ListenerError { listener_id: first, error: error() };
    let closed = TransportEvent::ListenerClosed { listener_id: first, reason: Err(error()) };
    transport.inner.events.extend([of_first, newcomer(first), closed, newcomer(first)]);
    assert_eq!(hears(&mut transport), Some(format!("{second}: {}", error())));
    assert_eq!(hears(&mut transport), Some(format!("{second} has one")));
    let told = hears(&mut transport).unwrap();
    assert!(told.starts_with(&format!("{second} is closed: Err(")), "{told}");
    assert_eq!(hears(&mut transport), Some(format!("{first} is closed: Ok(())")));
    assert_eq!(hears(&mut transport), None, "what comes from an endpoint that is gone is for nobody");
}

#[tokio::test]
async fn what_is_no_quic_address_is_another_transports() {
    let mut transport = Retiring::new(Script::default(), View::new());
    let refused = transport.listen_on(ListenerId::next(), address("/dns4/example.org/udp/4001/quic-v1"));
    assert!(matches!(refused, Err(TransportError::MultiaddrNotSupported(_))), "{refused:?}");
    assert!(transport.inner.listening.is_empty());
    assert!(!transport.remove_listener(ListenerId::next()), "nobody knows it");
}

/// Newcomers at an endpoint that only stays for those that it has cost one turn, however many there are.
#[tokio::test]
async fn newcomers_at_a_retired_endpoint_are_turned_away_and_others_get_their_turn() {
    let (mut transport, first, second) = scene();
    transport.inner.events.push_back(newcomer(first));
    let mut cx = Context::from_waker(noop_waker_ref());
    let Poll::Ready(TransportEvent::Incoming { upgrade: connection, .. }) =
        Pin::new(&mut transport).poll(&mut cx)
    else {
        panic!("a newcomer where there are listeners");
    };
    assert!(transport.remove_listener(first) && transport.remove_listener(second));
    for id in [first, second] {
        assert_eq!(hears(&mut transport), Some(format!("{id} is closed: Ok(())")));
    }
    transport.inner.events.extend((0..2 * TURN).map(|_| newcomer(first)));
    assert_eq!((hears(&mut transport), transport.inner.events.len()), (None, TURN));
    assert_eq!((hears(&mut transport), transport.inner.events.len()), (None, 0));
    assert_eq!(transport.endpoints.len(), 1, "one connection holds it");
    drop(connection);
    assert_eq!(hears(&mut transport), None);
    assert!(transport.endpoints.is_empty(), "and with it, it goes");
}

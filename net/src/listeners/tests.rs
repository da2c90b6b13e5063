use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::reservation::TRIES;
use super::*;

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn endpoint(text: &str) -> Endpoint {
    Endpoint::of(&address(text)).unwrap()
}

fn listeners(addresses: &[&str]) -> (Listeners, Vec<ListenerId>) {
    let mut listeners = Listeners::default();
    let ids = addresses.iter().map(|text| {
        let id = ListenerId::next();
        listeners.opened(id, address(text), address(text));
        id
    });
    let ids = ids.collect();
    (listeners, ids)
}

fn shown(listeners: &Listeners, wanted: &[Multiaddr]) -> Vec<Multiaddr> {
    listeners.show(wanted).into_iter().map(|listening| listening.bound).collect()
}

#[test]
fn the_difference_counts_equal_entries_one_by_one() {
    let (mut listeners, ids) = listeners(&["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/7"]);
    let wanted = [address("/ip4/127.0.0.1/tcp/0"), address("/ip4/127.0.0.1/tcp/0")];
    assert_eq!(listeners.missing(&wanted), wanted[..1]);
    assert_eq!(listeners.extra(&wanted), ids[1..]);
    listeners.closing(ids[0]);
    assert_eq!(listeners.missing(&wanted), wanted, "what is closing is not there");
    let now = Instant::now();
    assert_eq!(listeners.closed(ids[0], &Ok(()), now), None, "it was asked to");
    assert_eq!(listeners.closed(ids[1], &Ok(()), now), Some(address("/ip4/127.0.0.1/tcp/7")));
}

#[test]
fn listeners_are_shown_in_the_order_of_the_configuration() {
    let (listeners, _) = listeners(&["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2", "/ip4/127.0.0.1/tcp/3"]);
    let wanted = [address("/ip4/127.0.0.1/tcp/3"), address("/ip4/127.0.0.1/tcp/1")];
    let all = [wanted[0].clone(), wanted[1].clone(), address("/ip4/127.0.0.1/tcp/2")];
    assert_eq!(shown(&listeners, &wanted), all);
}

#[test]
fn one_that_closed_by_itself_is_tried_again_ever_more_slowly_until_it_is_open_or_unwanted() {
    let wanted = [address("/ip4/127.0.0.1/tcp/0")];
    let bound = address("/ip4/127.0.0.1/tcp/5");
    let (mut listeners, id) = (Listeners::default(), ListenerId::next());
    listeners.opened(id, wanted[0].clone(), bound.clone());
    let start = Instant::now();
    let why = Err(io::Error::other("torn"));
    assert_eq!(listeners.closed(id, &why, start), Some(bound.clone()));
    assert_eq!(listeners.missing(&wanted), [], "a reload need not open it");
    assert_eq!(shown(&listeners, &wanted), []);
    assert_eq!(listeners.failing()[0].error, "torn");
    assert_eq!(listeners.lost_since(start), Some(&bound));
    assert_eq!(listeners.lost_since(start + FIRST), None);

    let mut pauses = Vec::new();
    let mut now = start;
    for _ in 0..9 {
        assert_eq!(listeners.due(now), []);
        let next = listeners.next().unwrap();
        pauses.push((next - now).as_secs());
        now = next;
        assert_eq!(listeners.due(now), std::slice::from_ref(&bound), "on the port that it had");
        listeners.failed(&bound, "still taken".to_owned());
        assert_eq!(listeners.failing()[0].error, "still taken");
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);

    let again = ListenerId::next();
    listeners.opened(again, bound.clone(), bound.clone());
    assert_eq!((listeners.failing(), listeners.missing(&wanted)), (vec![], vec![]));
    assert_eq!(shown(&listeners, &wanted), [bound]);
    listeners.closed(again, &Ok(()), now);
    assert_eq!(listeners.extra(&[]), [], "there is no socket to close");
    assert_eq!((listeners.failing(), listeners.next()), (vec![], None), "and none is to be opened");
}

#[test]
fn an_address_that_goes_away_and_comes_back_is_seen() {
    let (mut listeners, _) =
        listeners(&["/ip4/10.9.8.7/tcp/1", "/ip4/0.0.0.0/tcp/2", "/ip4/127.0.0.1/tcp/3"]);
    let (mut now, nowhere) = (Instant::now(), |_: IpAddr| false);
    let away = address("/ip4/10.9.8.7/tcp/1");
    assert_eq!(listeners.look(now, nowhere), [(away.clone(), true)], "not a wildcard, not loopback");
    assert_eq!(listeners.failing().len(), 1);
    assert_eq!(listeners.look(now, |_| true), [], "not so soon");
    now = listeners.next().expect("to look again");
    assert_eq!(listeners.look(now, nowhere), [], "that was said");
    now += LOOK;
    assert_eq!(listeners.look(now, |_| true), [(away, false)]);
    assert_eq!(listeners.failing(), []);
    assert!(is_here([127, 0, 0, 1].into()) && !is_here([192, 0, 2, 1].into()));
}

#[test]
fn a_port_that_someone_holds_is_refused_and_a_free_one_is_held_until_dropped() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = Endpoint::tcp(other.local_addr().unwrap());
    let error = Reservation::new(&taken.to_multiaddr(), &[]).unwrap_err();
    assert!(matches!(error, ReserveError::InUse(_)), "{error}");
    assert!(error.to_string().contains(&taken.to_multiaddr().to_string()));
    let wildcard = address(&format!("/ip4/0.0.0.0/tcp/{}", taken.address.port()));
    assert!(matches!(Reservation::new(&wildcard, &[]), Err(ReserveError::InUse(_))));
    assert!(Reservation::new(&wildcard, &[Held::listening(taken)]).is_ok(), "it is our own");

    let free = Reservation::new(&address("/ip4/127.0.0.1/tcp/0"), &[]).unwrap();
    let socket = Endpoint::of(&free.bound).unwrap();
    assert_ne!(socket.address.port(), 0);
    std::net::TcpStream::connect(socket.address).expect_err("a reservation takes no traffic");
    drop(free);
    Reservation::new(&socket.to_multiaddr(), &[]).expect("given back");
}

#[test]
fn a_udp_port_is_reserved_until_room_is_made_for_its_listener() {
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = Endpoint::quic(other.local_addr().unwrap()).to_multiaddr();
    assert!(matches!(Reservation::new(&taken, &[]), Err(ReserveError::InUse(_))));

    let mut free = Reservation::new(&address("/ip4/127.0.0.1/udp/0/quic-v1"), &[]).unwrap();
    let socket: SocketAddr = Endpoint::of(&free.bound).unwrap().address;
    UdpSocket::bind(socket).expect_err("it is reserved");
    free.make_room();
    UdpSocket::bind(socket).expect("the listener can have it");
}

#[test]
fn a_quic_endpoint_is_taken_over_at_its_own_address_and_in_the_way_of_any_other_on_its_port() {
    let own = endpoint("/ip4/0.0.0.0/udp/9/quic-v1");
    let specific = address("/ip4/127.0.0.1/udp/9/quic-v1");
    for held in [Held::listening(own), Held::retired(own, 3)] {
        let all = std::slice::from_ref(&held);
        assert!(matches!(Held::standing(all, &own), Standing::Ours(_)));
        assert!(matches!(Held::standing(all, &endpoint("/ip4/0.0.0.0/tcp/9")), Standing::Free));
        let error = Reservation::new(&specific, all).unwrap_err();
        assert_eq!(error.class(), reload::Class::Component);
        let text = error.to_string();
        assert!(
            text.contains("/ip4/0.0.0.0/udp/9/quic-v1") && text.contains(&specific.to_string()),
            "{text}"
        );
        assert_eq!(text.contains("3 connections"), held.retired, "{text}");
        assert!(error.hint().contains("another port"));
    }
}

#[test]
fn a_port_that_was_just_given_up_is_waited_for() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = Endpoint::quic(socket.local_addr().unwrap());
    let closed = Held { closed: Some(Instant::now()), ..Held::retired(own, 0) };
    let error = Reservation::new(&own.to_multiaddr(), std::slice::from_ref(&closed)).unwrap_err();
    assert!(matches!(error, ReserveError::Closing(_)), "{error}");
    assert_eq!(error.class(), reload::Class::System, "it passes by itself");
    drop(socket);
    Reservation::new(&own.to_multiaddr(), &[closed]).expect("it is free now");
}

#[test]
fn who_only_looks_at_a_udp_port_is_in_nobodys_way() {
    let (quic, tcp) = (endpoint("/ip4/127.0.0.1/udp/9/quic-v1"), endpoint("/ip4/127.0.0.1/tcp/9"));
    let mut tries = 0;
    let third = patiently(
        &quic,
        |_| true,
        || {
            tries += 1;
            if tries < 3 { Err("somebody looks") } else { Ok(tries) }
        },
    );
    assert_eq!(third, Ok(3));
    for (endpoint, is_taken, expected) in [(&tcp, true, 1), (&quic, false, 1), (&quic, true, TRIES)] {
        let mut tries = 0;
        let failed = patiently(
            endpoint,
            |_| is_taken,
            || {
                tries += 1;
                Err::<(), _>(tries)
            },
        );
        assert_eq!(failed, Err(expected), "of a TCP port it is no matter, and of other errors neither");
    }
}

#[test]
fn what_cannot_be_listened_on_says_so() {
    for text in ["/dns4/localhost/tcp/1", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1"] {
        assert!(matches!(Reservation::new(&address(text), &[]), Err(ReserveError::Form(_))), "{text}");
    }
    for text in ["/ip4/192.0.2.1/tcp/0", "/ip4/192.0.2.1/udp/0/quic-v1"] {
        assert!(matches!(Reservation::new(&address(text), &[]), Err(ReserveError::NoInterface(_))), "{text}");
    }
}

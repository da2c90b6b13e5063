//! The end of a TCP listener, outside the swarm: its last callers.
//!
//! When a wildcard takes the place of an address, or the other way round, both listen for a moment, and the kernel brings each caller to the
//! one that fits better. If that is the one that goes, whoever comes between its last look into its queue and its close would be
//! reset. So it turns newcomers away first, silently: their kernel knocks again a second later (RFC 6298: the first timeout), and
//! finds the one that stays.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

/// How long those whose handshake has begun may take to end it: a country's round trip, or a busy machine's. They are reset if they take
/// longer; whoever begins meanwhile waits a second.
const GRACE: Duration = Duration::from_millis(50);

/// More callers than any queue here holds: where newcomers cannot be turned away, they do not keep this going.
const MOST: usize = 8192;

/// Hands the callers that a listener still has to `take`; it is to be closed then. With `has_heir`, another listener is there for
/// those who come now.
pub async fn last_callers(
    listener: &TcpListener,
    has_heir: bool,
    mut take: impl FnMut(TcpStream, SocketAddr),
) {
    if let Err(error) = turn_newcomers_away(listener) {
        tracing::debug!(%error, "callers may be reset while a listener is closed");
    }
    if has_heir {
        // A caller's handshake ends when it ends; what the kernel has then is taken below.
        tokio::time::sleep(GRACE).await;
    }
    for (stream, peer) in std::iter::from_fn(|| next_in_queue(listener)).take(MOST) {
        take(stream, peer);
    }
}

/// The kernel is asked: what the runtime knows of the queue is as old as its last look, and it looks no further than a task's fair turn.
fn next_in_queue(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = SockRef::from(listener).accept().and_then(|(socket, peer)| {
            // Whoever ended the handshake under the filter has it too; there is none where he did so before.
            #[cfg(target_os = "linux")]
            let _ = socket.detach_filter();
            socket.set_nonblocking(true)?;
            let peer = peer.as_socket().ok_or(ErrorKind::Unsupported)?;
            Ok((TcpStream::from_std(socket.into())?, peer))
        });
        match accepted {
            Ok(caller) => return Some(caller),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                tracing::warn!(%error, "callers are reset: their listener is closed and could not accept them");
                return None;
            }
        }
    }
}

/// From here on the kernel drops each first packet of a caller, and no other.
#[cfg(target_os = "linux")]
fn turn_newcomers_away(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;

    // linux/bpf_common.h, linux/filter.h; what is filtered begins with TCP's header (RFC 9293, 3.1: the flags are its byte 13).
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    const DROP: u32 = 0;
    const KEEP: u32 = u32::MAX;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, DROP),
        SockFilter::new(RETURN, 0, 0, KEEP),
    ])
}

/// Elsewhere the moment stays.
#[cfg(not(target_os = "linux"))]
fn turn_newcomers_away(_: &TcpListener) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::{Domain, Socket, Type};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::reserve::reserve;

    fn listen(address: SocketAddr, ours: &[SocketAddr]) -> TcpListener {
        let socket = reserve(address, ours).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.listen(16).unwrap();
        socket.set_nonblocking(true).unwrap();
        TcpListener::from_std(socket.into()).unwrap()
    }

    /// A caller, whose first packet is on its way.
    fn calls(here: SocketAddr) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // It says that it is under way.
        let _ = socket.connect(&here.into());
        socket
    }

    /// What it hears to the end.
    async fn hears(caller: Socket) -> io::Result<String> {
        let mut stream = TcpStream::from_std(caller.into())?;
        stream.writable().await?;
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await?;
        Ok(heard)
    }

    #[tokio::test]
    async fn who_comes_while_a_listener_goes_is_served_by_the_one_that_stays() {
        let old = listen((Ipv4Addr::LOCALHOST, 0).into(), &[]);
        let here = old.local_addr().unwrap();
        let new = listen((Ipv4Addr::UNSPECIFIED, here.port()).into(), &[here]);
        // Who came before is the old one's.
        let early = calls(here);
        let (mut stream, _) = old.accept().await.unwrap();
        stream.write_all(b"old").await.unwrap();
        turn_newcomers_away(&old).unwrap();
        let late = calls(here);
        last_callers(&old, true, |_, _| panic!("a newcomer is not taken")).await;
        drop(old);
        let (mut other, _) = new.accept().await.unwrap();
        other.write_all(b"new").await.unwrap();
        drop((stream, other));
        assert_eq!(hears(early).await.unwrap(), "old");
        assert_eq!(hears(late).await.unwrap(), "new");
    }

    #[tokio::test]
    async fn who_waits_in_the_queue_is_taken() {
        for has_heir in [true, false] {
            let old = listen((Ipv4Addr::LOCALHOST, 0).into(), &[]);
            let port = old.local_addr().unwrap().port();
            let callers: Vec<_> =
                (0..5).map(|_| std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
            let mut taken = Vec::new();
            last_callers(&old, has_heir, |_, peer| taken.push(peer)).await;
            let came: Vec<_> = callers.iter().map(|caller| caller.local_addr().unwrap()).collect();
            assert_eq!(taken, came);
        }
    }
}

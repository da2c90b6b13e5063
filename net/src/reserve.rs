//! Addresses of TCP listeners outside the swarm: reserved while a reload is prepared, listened on when it is committed.

use std::io;
use std::net::SocketAddr;

use reload::StepError;
use socket2::{Domain, Protocol, Socket, Type};

use crate::Endpoint;

/// Whether two listeners cannot be told apart by the kernel without a word from both: equal ports, and one address within the
/// other.
#[must_use]
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    Endpoint::tcp(one).overlaps(&Endpoint::tcp(other))
}

/// Binds an address without listening on it: nobody else can take it, and nobody can connect. `ours` are the addresses of
/// listeners of the same kind that are open, or reserved in the same breath.
///
/// # Errors
/// If it cannot be had.
pub fn reserve(listen: SocketAddr, ours: &[SocketAddr]) -> io::Result<Socket> {
    if !ours.iter().any(|own| overlap(*own, listen)) {
        // Refused if anybody listens there, whatever they share.
        bind(listen, Sharing { in_time: true, side_by_side: false })?;
    }
    // A wildcard and an address of one port can be open side by side while one takes the other's place. Whoever binds in the
    // usual way is kept out, unless connections of an earlier life are still there.
    bind(listen, Sharing { in_time: false, side_by_side: true }).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse => bind(listen, Sharing { in_time: true, side_by_side: true }),
        _ => Err(error),
    })
}

/// With whom a socket shares its port.
#[derive(Clone, Copy, Debug)]
struct Sharing {
    /// `SO_REUSEADDR`: with connections in TIME_WAIT, and with others of the kind that do not listen.
    in_time: bool,
    /// `SO_REUSEPORT`: with others of the kind and the same user.
    side_by_side: bool,
}

fn bind(listen: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
    if listen.is_ipv6() {
        // `[::]:P` is IPv6 alone, as everywhere in this node.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(sharing.in_time)?;
    socket.set_reuse_port(sharing.side_by_side)?;
    socket.bind(&listen.into())?;
    Ok(socket)
}

/// What a component says of an address that it cannot have.
#[must_use]
pub fn refusal(listen: SocketAddr, error: &io::Error) -> StepError {
    let (message, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("{listen} is in use by another process, or by another listener of this node"),
            format!(
                "choose another port, or stop what holds this one (`ss -lnp 'sport = :{}'` names it); a port that this node \
                 itself frees in the same change is free for the next one",
                listen.port()
            ),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("{} is on no interface of this machine", listen.ip()),
            "`ip address` lists the addresses of this machine".to_owned(),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("{listen} needs a privilege that this process does not have"),
            "choose a port from 1024 on, or grant CAP_NET_BIND_SERVICE".to_owned(),
        ),
        _ => (format!("{listen} cannot be listened on: {error}"), "choose another address".to_owned()),
    };
    StepError::of_io(message, error).hint(hint)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener};

    use super::*;

    #[test]
    fn what_cannot_be_had_is_refused_with_the_cause_and_a_remedy() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let (taken, elsewhere) = (holder.local_addr().unwrap(), "192.0.2.1:4001".parse().unwrap());
        // Whoever runs the tests may have every privilege.
        let denied = Err(io::ErrorKind::PermissionDenied.into());
        for (address, refused, cause, remedy) in [
            (taken, reserve(taken, &[]), "in use by another process", "ss -lnp"),
            (elsewhere, reserve(elsewhere, &[]), "192.0.2.1 is on no interface", "ip address"),
            (elsewhere, denied, "192.0.2.1:4001 needs a privilege", "from 1024 on"),
        ] {
            let error = refusal(address, &refused.unwrap_err());
            assert!(error.message.contains(cause), "{error:?}");
            assert!(error.hint.as_ref().unwrap().contains(remedy), "{error:?}");
        }
    }

    #[test]
    fn an_address_of_ipv6_takes_nothing_of_ipv4() {
        let both = || {
            let six = reserve((Ipv6Addr::UNSPECIFIED, 0).into(), &[])?;
            let port = six.local_addr()?.as_socket().unwrap().port();
            reserve(([0, 0, 0, 0], port).into(), &[]).map(drop)
        };
        // Somebody else may have a port that is free in IPv6. Where the machine has no IPv6, there is nothing to reserve.
        let tries: Vec<_> = std::iter::repeat_with(both).take(20).collect();
        let has_six = reserve((Ipv6Addr::UNSPECIFIED, 0).into(), &[]).is_ok();
        assert!(!has_six || tries.iter().any(Result::is_ok), "{tries:?}");
    }
}

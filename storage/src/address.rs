//! Addresses of peers: which multiaddrs a node can dial.

use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::PeerKey;

/// The longest text of one address; a DNS name has at most 253 characters (RFC 1035).
pub const MAX_ADDRESS: usize = 512;

/// Why a text is not an address that a node can dial.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No multiaddr. The reason quotes nothing of the text, which may be anything, and a secret, too.
    #[error("is no multiaddr: {0}")]
    Syntax(&'static str),
    /// Longer than [`MAX_ADDRESS`].
    #[error("is {0} characters long, more than {MAX_ADDRESS}")]
    Length(usize),
    /// A multiaddr of protocols that this node does not speak.
    #[error("is not of a form that can be dialled")]
    Form,
    /// Port 0 is none.
    #[error("has port 0, which nobody listens on")]
    Port,
    /// `0.0.0.0` or `::` is no destination.
    #[error("has the address {0}, which is only for listening")]
    Unspecified(IpAddr),
    /// An address of many machines is no destination of a connection.
    #[error("has the address {0}, which stands for many machines")]
    Group(IpAddr),
    /// A number where a name stands: a resolver would be asked for it.
    #[error("has a number where the name is to stand")]
    NumberAsName,
    /// No host name (RFC 1123, 2.1).
    #[error("has a name that no host can have")]
    Name,
    /// `/p2p/…` names somebody else than the public key.
    #[error("ends in the peer id of another key")]
    Peer,
}

// === impl AddressError ===

impl AddressError {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Syntax(_) | Self::Form | Self::Length(_) => {
                "write /ip4/ADDRESS/tcp/PORT, /ip6/…, /dns4/NAME/tcp/PORT or …/udp/PORT/quic-v1"
            }
            Self::Port => "write the port that the peer listens on",
            Self::Unspecified(_) | Self::Group(_) => {
                "write the address or the name at which others reach the peer"
            }
            Self::NumberAsName => "write /ip4/ADDRESS or /ip6/ADDRESS for a number",
            Self::Name => {
                "labels of 1 to 63 letters, digits, '-' and '_', with dots between, 253 characters in all; \
                 others are written as xn--…"
            }
            Self::Peer => "remove /p2p/…, or write the peer id that belongs to the public key",
        }
    }

    /// The same, for an address of the node's own that is told to others.
    #[must_use]
    pub const fn hint_for_own(&self) -> &'static str {
        match self {
            Self::Port => "write the port at which others reach this node",
            Self::Unspecified(_) | Self::Group(_) => {
                "write the address or the name at which others reach this node"
            }
            Self::Peer => "remove /p2p/…: external addresses are this node's own",
            _ => self.hint(),
        }
    }
}

/// What an address that stands for many machines is called; `None` for one that a connection can be made to.
#[must_use]
pub const fn group(ip: IpAddr) -> Option<&'static str> {
    match ip.to_canonical() {
        ip if ip.is_multicast() => Some("multicast"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("broadcast"),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Reads any multiaddr of bounded length.
///
/// # Errors
/// If it is none.
pub fn parse(text: &str) -> Result<Multiaddr, AddressError> {
    use libp2p::multiaddr::Error;

    if text.len() > MAX_ADDRESS {
        return Err(AddressError::Length(text.len()));
    }
    text.parse().map_err(|error| {
        AddressError::Syntax(match error {
            Error::UnknownProtocolString(_) | Error::UnknownProtocolId(_) => {
                "it names no protocol that is known here"
            }
            Error::DataLessThanLen => "it ends too early",
            _ if !text.starts_with('/') => "it does not begin with `/`",
            _ => "an address or a number in it is wrong",
        })
    })
}

/// Reads an address that can be dialled: `/ip4`, `/ip6`, `/dns`, `/dns4` or `/dns6`, then `/tcp/PORT` or `/udp/PORT/quic-v1`.
/// A `/p2p/ID` at the end must be that of `key`, and is taken off: the key says it already.
///
/// # Errors
/// If the text is of another form, or names no place that can be dialled.
pub fn dialable(text: &str, key: Option<&PeerKey>) -> Result<Multiaddr, AddressError> {
    let mut address = parse(text)?;
    if let Some(Protocol::P2p(peer)) = address.iter().last() {
        let theirs = PeerKey::from_peer_id(&peer).ok();
        if key.is_some_and(|key| theirs.as_ref() != Some(key)) {
            return Err(AddressError::Peer);
        }
        address.pop();
    }
    let mut parts = address.iter();
    let host = match parts.next() {
        Some(Protocol::Ip4(ip)) => Some(IpAddr::V4(ip)),
        Some(Protocol::Ip6(ip)) => Some(IpAddr::V6(ip)),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
            host_name(&name)?;
            None
        }
        _ => return Err(AddressError::Form),
    };
    let port = match (parts.next(), parts.next(), parts.next()) {
        (Some(Protocol::Tcp(port)), None, None)
        | (Some(Protocol::Udp(port)), Some(Protocol::QuicV1), None) => port,
        _ => return Err(AddressError::Form),
    };
    if port == 0 {
        return Err(AddressError::Port);
    }
    match host {
        Some(ip) if ip.is_unspecified() => Err(AddressError::Unspecified(ip)),
        Some(ip) if group(ip).is_some() => Err(AddressError::Group(ip)),
        _ => Ok(address),
    }
}

/// Whether a host can have this name: letters, digits and hyphens (RFC 1123, 2.1), underscores as well, since some have them. The
/// last label of a name is never a number; what ends in one is meant as an address ("127.1", "0x7f.0.0.1").
fn host_name(name: &str) -> Result<(), AddressError> {
    // The root may be written.
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.parse::<IpAddr>().is_ok() {
        return Err(AddressError::NumberAsName);
    }
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_letter);
    if bare.len() > 253 || !bare.split('.').all(is_label) {
        return Err(AddressError::Name);
    }
    let last = bare.rsplit('.').next().unwrap_or_default();
    let digits = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = match digits {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => last.bytes().all(|byte| byte.is_ascii_digit()),
    };
    if is_number { Err(AddressError::NumberAsName) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::ed25519;

    use super::*;

    #[test]
    fn what_can_be_dialled() {
        for good in [
            "/ip4/192.168.1.100/tcp/9000",
            "/ip6/::1/tcp/9000",
            "/dns/a.example/tcp/1",
            "/dns4/node1.example.com/tcp/9000",
            "/dns4/localhost/tcp/9000",
            "/dns4/my_node.1.example./tcp/9000",
            "/dns4/xn--bcher-kva.example/tcp/9000",
            "/dns6/node1.example.com/udp/9000/quic-v1",
            "/ip4/127.0.0.1/udp/65535/quic-v1",
        ] {
            assert_eq!(dialable(good, None).unwrap().to_string(), good);
        }
    }

    #[test]
    fn what_cannot_be_dialled_says_why() {
        for (wrong, piece) in [
            ("", "can be dialled"),
            ("127.0.0.1:9000", "no multiaddr"),
            ("/ip4/300.1.1.1/tcp/1", "no multiaddr"),
            ("/ip4/127.0.0.1/tcp/70000", "no multiaddr"),
            ("/ip4/127.0.0.1", "can be dialled"),
            ("/ip4/127.0.0.1/udp/9000", "can be dialled"),
            ("/ip4/127.0.0.1/tcp/9000/ws", "can be dialled"),
            ("/tcp/9000", "can be dialled"),
            ("/ip4/127.0.0.1/tcp/0", "port 0"),
            ("/ip4/0.0.0.0/tcp/9000", "only for listening"),
            ("/ip6/::/udp/9000/quic-v1", "only for listening"),
            ("/ip4/224.0.0.1/tcp/9000", "many machines"),
            ("/ip4/255.255.255.255/tcp/9000", "many machines"),
            ("/dns4/127.0.0.1/tcp/9000", "a number where the name"),
            ("/dns4/127.1/tcp/9000", "a number where the name"),
            ("/dns/0x7f.0.0.0x1/tcp/9000", "a number where the name"),
            ("/dns6/::1/tcp/9000", "a number where the name"),
            ("/dns4/my node.example/tcp/9000", "no host can have"),
            ("/dns4/a..example/tcp/9000", "no host can have"),
            ("/dns4/bücher.example/tcp/9000", "no host can have"),
            ("/dns4/*.example/tcp/9000", "no host can have"),
            ("/ip6/ff02::1/tcp/9000", "many machines"),
            ("/ip6/::ffff:239.1.2.3/tcp/9000", "many machines"),
        ] {
            let error = dialable(wrong, None).unwrap_err();
            assert!(error.to_string().contains(piece), "{wrong}: {error}");
        }
        let long = format!("/dns4/{}/tcp/1", "a".repeat(MAX_ADDRESS));
        assert!(matches!(dialable(&long, None), Err(AddressError::Length(_))));
    }

    #[test]
    fn what_is_no_multiaddr_is_not_quoted() {
        for wrong in
            ["hunter2", "/hunter2/x", "/ip4/hunter2", "/ip4/1.2.3.4/tcp/hunter2", "/ip4/1.2.3.4/hunter2"]
        {
            let error = dialable(wrong, None).unwrap_err().to_string();
            assert!(error.starts_with("is no multiaddr: ") && !error.contains("hunter2"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_peer_id_must_belong_to_the_key_and_is_taken_off() {
        let key = |_| PeerKey::from_bytes(ed25519::Keypair::generate().public().to_bytes()).unwrap();
        let [mine, other] = [0, 1].map(key);
        let text = format!("/ip4/127.0.0.1/tcp/9000/p2p/{}", mine.peer_id());
        assert_eq!(dialable(&text, Some(&mine)).unwrap().to_string(), "/ip4/127.0.0.1/tcp/9000");
        assert_eq!(dialable(&text, Some(&other)), Err(AddressError::Peer));
    }
}

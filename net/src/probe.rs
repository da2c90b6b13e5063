//! Whether an address can be reached from here, tried without a node: what `check --probe` does for members.

use hickory_resolver::system_conf::read_system_conf;
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::{Endpoint as Side, Transport as _};
use libp2p::dns::{self, ResolveError};
use libp2p::{Multiaddr, tcp};

use crate::resolver;

type Tcp = dns::tokio::Transport<tcp::tokio::Transport>;

/// Tries addresses, with names looked up as the node looks them up. To be used inside a tokio runtime.
pub struct Probe(Tcp);

/// What is wrong with an address, as seen from here.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// The name has no address that the node could dial.
    #[error("the name cannot be resolved: {0}")]
    Name(String),
    /// Nobody took the connection.
    #[error("no connection: {0}")]
    Connection(String),
}

// === impl Probe ===

impl Probe {
    /// Reads the system's resolver configuration.
    #[must_use]
    pub fn new() -> Self {
        let system = read_system_conf();
        let (servers, options) = resolver::or_without_servers(system);
        let transport = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
        Self(dns::tokio::Transport::custom(transport, servers, options))
    }

    /// Looks the name up, and opens and closes a TCP connection. Of a QUIC address only the name is looked up: a handshake would be
    /// one with the peer itself. The deadline is the caller's.
    ///
    /// # Errors
    /// If the name has no address, or nobody takes the connection.
    pub fn reach(
        &mut self,
        address: &Multiaddr,
    ) -> impl Future<Output = Result<(), Unreachable>> + Send + use<> {
        let options = DialOpts { role: Side::Dialer, port_use: PortUse::New };
        let dial = self.0.dial(address.clone(), options);
        async move {
            match dial {
                Ok(dial) => dial.await.map(drop).or_else(|error| judge(&error)),
                Err(error) => Err(Unreachable::Connection(error.to_string())),
            }
        }
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probe")
    }
}

/// The last failure counts: of several addresses of a name, each was tried.
fn judge<E: std::error::Error + 'static>(error: &dns::Error<E>) -> Result<(), Unreachable> {
    match error {
        // Resolved, and not TCP.
        dns::Error::MultiaddrNotSupported(_) => Ok(()),
        dns::Error::Dial(errors) => errors.last().map_or(Ok(()), judge),
        dns::Error::ResolveError(error) => Err(Unreachable::Name(name_error(error))),
        dns::Error::TooManyLookups => Err(Unreachable::Name("it takes too many look-ups".to_owned())),
        dns::Error::Transport(error) => Err(Unreachable::Connection(error.to_string())),
    }
}

fn name_error(error: &ResolveError) -> String {
    resolver::explain(error).map_or_else(|| error.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_listener_is_reached_and_nobody_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        let mut probe = Probe::new();
        probe.reach(&address).await.unwrap();
        drop(listener);
        let error = probe.reach(&address).await.unwrap_err();
        assert!(matches!(error, Unreachable::Connection(_)), "{error}");
        let quic: Multiaddr = format!("/ip4/127.0.0.1/udp/{port}/quic-v1").parse().unwrap();
        probe.reach(&quic).await.unwrap();
        // RFC 6761, 6.4: this name is never there.
        let name: Multiaddr = "/dns4/nobody.invalid/tcp/1".parse().unwrap();
        let error = probe.reach(&name).await.unwrap_err();
        assert!(matches!(error, Unreachable::Name(_)), "{error}");
    }
}

//! How names in addresses (`/dns4/…`) are looked up, also on a host that does not say.

use std::error::Error;

use libp2p::dns::{ResolveError, ResolverConfig, ResolverOpts};

/// The system's resolver configuration, or one without servers where it cannot be used: missing (a bare container), empty,
/// or without one valid `nameserver`. Most nodes dial numbers, and a host that loses the file while a node is down must not
/// keep it down.
///
/// No public servers take their place: whom this node looks for is nobody's business but its operator's.
pub(crate) fn or_without_servers(
    system: Result<(ResolverConfig, ResolverOpts), ResolveError>,
) -> (ResolverConfig, ResolverOpts) {
    system.unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            "no name servers: names in addresses are looked up in /etc/hosts only; mend /etc/resolv.conf and restart"
        );
        (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default())
    })
}

/// What to say of a failed look-up, where the resolver's own words leave the operator in the dark.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match error.downcast_ref()? {
        ResolveError::NoConnections => {
            Some("the name cannot be looked up: no name server could be asked (see /etc/resolv.conf)")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use hickory_resolver::system_conf::parse_resolv_conf;
    use libp2p::core::Endpoint;
    use libp2p::core::transport::{DialOpts, PortUse, TransportError};
    use libp2p::{Transport, dns, tcp};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn warned(system: Result<(ResolverConfig, ResolverOpts), ResolveError>) -> (usize, String) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let (servers, _) = tracing::subscriber::with_default(subscriber, || or_without_servers(system));
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        (servers.name_servers().len(), text)
    }

    #[test]
    fn a_host_that_names_no_server_is_warned_about_and_one_that_does_is_taken_at_its_word() {
        let missing = Err(io::Error::from(io::ErrorKind::NotFound).into());
        let garbage = [0, 0xff, b'\n', b'x', b' ', 0xfe];
        for system in [missing, parse_resolv_conf(""), parse_resolv_conf(garbage)] {
            let (servers, log) = warned(system);
            assert_eq!(servers, 0);
            assert!(log.contains("WARN") && log.contains("/etc/resolv.conf"), "{log}");
        }
        assert_eq!(warned(parse_resolv_conf("nameserver 192.0.2.1\n")), (1, String::new()));
    }

    #[tokio::test]
    async fn without_servers_a_name_is_a_clear_error_and_a_number_is_dialled() {
        let (servers, options) = or_without_servers(parse_resolv_conf(""));
        let tcp = tcp::tokio::Transport::new(tcp::Config::default());
        // In as many boxes as the swarm's own.
        let mut transport = dns::tokio::Transport::custom(tcp, servers, options).boxed().boxed();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let name = transport.dial("/dns4/node.example/tcp/1".parse().unwrap(), options).unwrap();
        let error = TransportError::Other(name.await.err().unwrap());
        let text = crate::network::root(&error);
        assert!(text.contains("/etc/resolv.conf"), "{text}");

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = crate::Endpoint::tcp(listener.local_addr().unwrap()).to_multiaddr();
        transport.dial(number, options).unwrap().await.unwrap();
    }
}

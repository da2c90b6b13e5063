//! The exposing side of a stream: who may use which service, and where it is.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use storage::PeerKey;
use tokio::net::TcpStream;

use super::meter::{Ledger, Meter, Role, Seat};
use super::pump::pump;
use super::wire::{self, ServiceError, Status};
use super::{Caller, Services};
use crate::ExposedService;
use crate::hush::Kind;

/// A stream that does not say what it wants is given up.
const HELLO: Duration = Duration::from_secs(10);
/// A target is looked up and connected to within this.
pub(super) const REACH: Duration = Duration::from_secs(5);
/// An answer that the peer does not take is not waited for.
const ANSWER: Duration = Duration::from_secs(5);

/// The services that are exposed: one immutable value.
#[derive(Debug, Default)]
pub(crate) struct Offers(HashMap<String, Arc<Offer>>);

#[derive(Debug)]
pub(super) struct Offer {
    service: ExposedService,
    meter: Arc<Meter>,
}

/// What a stream is led to.
#[derive(Debug)]
struct Reached {
    socket: TcpStream,
    seat: Seat,
}

// === impl Offers ===

impl Offers {
    pub(super) fn new(services: &[ExposedService], ledger: &Ledger) -> Self {
        let offer = |service: &ExposedService| {
            let meter = ledger.meter(Role::Exposed(service.name.clone()));
            (service.name.clone(), Arc::new(Offer { service: service.clone(), meter }))
        };
        Self(services.iter().map(offer).collect())
    }

    /// Whether these are the services that are exposed.
    pub(super) fn are(&self, services: &[ExposedService]) -> bool {
        self.0.len() == services.len()
            && services
                .iter()
                .all(|service| self.0.get(&service.name).is_some_and(|offer| offer.service == *service))
    }

    /// The service of this name, if this member may use it. Whoever is no member learns no name.
    pub(super) fn find(
        &self,
        name: &str,
        peer: Option<PeerKey>,
        is_member: bool,
    ) -> Result<&Arc<Offer>, Status> {
        let peer = peer.filter(|_| is_member).ok_or(Status::NotAllowed)?;
        let offer = self.0.get(name).ok_or(Status::Unknown)?;
        let allowed = offer.service.allow.as_ref().is_none_or(|keys| keys.contains(&peer));
        allowed.then_some(offer).ok_or(Status::NotAllowed)
    }
}

/// Serves a stream that a peer has opened, to its end.
pub(super) async fn serve<S>(mut stream: S, caller: Caller, services: Services, has_room: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = match tokio::time::timeout(HELLO, wire::read_hello(&mut stream)).await {
        Ok(Ok(name)) => name,
        Ok(Err(ServiceError::Io(error))) => {
            return tracing::debug!(%error, "a stream ended before it asked for a service");
        }
        Ok(Err(error)) => return caller.complain(&error, &services),
        Err(_) => {
            return tracing::debug!(peer_id = %caller.peer, "a stream did not ask for a service in time");
        }
    };
    let found = if has_room { reach(&name, &caller, &services).await } else { Err((Status::TooMany, None)) };
    let status = found.as_ref().map_or_else(|(status, _)| *status, |_| Status::Accepted);
    // A peer that does not take the answer is not told why.
    let told = tokio::time::timeout(ANSWER, wire::write(&mut stream, &[status.to_byte()])).await;
    match found {
        Ok(Reached { socket, seat }) => {
            let is_told = matches!(told, Ok(Ok(())));
            if is_told {
                caller.tell_end(&name, pump(socket, stream, &seat).await);
            }
        }
        Err((status, why)) => {
            if services.may_say(Kind::Service, caller.block()) {
                let reason = why.unwrap_or_else(|| reason(status).to_owned());
                tracing::warn!(service = %name, peer_id = %caller.peer, %reason, "a stream to a service was refused");
            }
            // The answer is still to be sent: a stream that is dropped is reset, and takes it along.
            let _ = tokio::time::timeout(ANSWER, futures::AsyncWriteExt::close(&mut stream)).await;
        }
    }
}

/// As the side that refuses tells.
const fn reason(status: Status) -> &'static str {
    match status {
        Status::Accepted => "accepted",
        Status::Unknown => "no service of this name is exposed",
        Status::NotAllowed => "the peer may not use it",
        Status::Unreachable => "the target does not answer",
        Status::TooMany => "too many streams are open",
        Status::Stopping => "the node stops",
    }
}

async fn reach(
    name: &str,
    caller: &Caller,
    services: &Services,
) -> Result<Reached, (Status, Option<String>)> {
    let offer = services.offer(name, caller).map_err(|status| (status, None))?;
    // A peer without a key of this kind is no member, and found nothing.
    let peer = caller.key.ok_or((Status::NotAllowed, None))?;
    let seat = services.seat(&offer.meter, peer).ok_or((Status::TooMany, None))?;
    let target = &offer.service.target;
    let connected = match tokio::time::timeout(REACH, TcpStream::connect(target.as_str())).await {
        Ok(connected) => connected,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let socket = connected.map_err(|error| {
        (Status::Unreachable, Some(format!("the target {target} cannot be reached: {error}")))
    })?;
    Ok(Reached { socket, seat })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn service(name: &str, allow: Option<Vec<PeerKey>>) -> ExposedService {
        ExposedService { name: name.to_owned(), target: "127.0.0.1:1".to_owned(), allow }
    }

    #[test]
    fn only_members_that_are_allowed_find_a_service() {
        let (one, other) = (Identity::generate().public_key(), Identity::generate().public_key());
        let services = [service("all", None), service("one", Some(vec![one])), service("none", Some(vec![]))];
        let offers = Offers::new(&services, &Ledger::default());
        let find = |name, key, is_member| offers.find(name, key, is_member).map(|_| ()).err();
        assert_eq!(find("all", Some(one), true), None);
        assert_eq!(find("all", Some(other), true), None);
        assert_eq!(find("one", Some(one), true), None);
        assert_eq!(find("one", Some(other), true), Some(Status::NotAllowed));
        assert_eq!(find("none", Some(one), true), Some(Status::NotAllowed));
        assert_eq!(find("two", Some(one), true), Some(Status::Unknown));
        // Listed, but no member any more; and no key at all.
        for name in ["all", "one", "two"] {
            assert_eq!(find(name, Some(one), false), Some(Status::NotAllowed));
            assert_eq!(find(name, None, true), Some(Status::NotAllowed));
        }
    }

    #[test]
    fn offers_are_compared_as_a_whole() {
        let (a, b) = (service("a", None), service("b", None));
        let offers = Offers::new(&[a.clone(), b.clone()], &Ledger::default());
        assert!(offers.are(&[b.clone(), a.clone()]));
        assert!(!offers.are(std::slice::from_ref(&a)));
        assert!(!offers.are(&[a, ExposedService { target: "127.0.0.1:2".to_owned(), ..b }]));
    }
}

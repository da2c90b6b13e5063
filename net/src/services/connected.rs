//! The connecting side of a stream: it asks for the service, hears the answer, and carries a local connection.

use std::time::Duration;

use libp2p::Stream;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::line::{Call, Taken};
use super::pump::{close_politely, pump};
use super::wire::{self, ServiceError, Status};
use super::{Caller, Services};
use crate::hush::Kind;

/// The member connects to its target before it answers; it gives that up earlier ([`super::exposed::REACH`]).
const ANSWER: Duration = Duration::from_secs(10);

/// What a stream is opened for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) taken: Taken,
    /// One of those that may be without an answer.
    pub(super) unanswered: OwnedSemaphorePermit,
    /// One of those that the connection may have.
    pub(super) place: OwnedSemaphorePermit,
}

/// Asks for the service on this stream, and carries the call to its end.
pub(super) async fn carry(mut stream: Stream, asked: Asked, caller: Caller, services: Services) {
    let Asked { taken, unanswered, place } = asked;
    let answered = async {
        wire::write(&mut stream, &wire::hello(taken.service())).await?;
        wire::read_status(&mut stream).await
    };
    let answer = tokio::time::timeout(ANSWER, answered).await;
    drop(unanswered);
    let why = match answer {
        Ok(Ok(Status::Accepted)) => {
            if let Some(call) = taken.keep() {
                connected(stream, call, &caller).await;
            }
            drop(place);
            return;
        }
        // The stream broke before anything was said: perhaps the connection did, and there is another.
        Ok(Err(ServiceError::Io(_))) if taken.may_return() => return,
        Ok(Ok(refusal)) => refusal.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the member did not answer in time".to_owned(),
    };
    drop(stream);
    if let Some(call) = taken.keep() {
        turn_away(call, &why, &services).await;
    }
}

async fn connected(stream: Stream, call: Call, caller: &Caller) {
    let Call { socket, route, seat, .. } = call;
    let socket = match TcpStream::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            return tracing::warn!(service = %route.service, %error, "a local connection cannot be taken over");
        }
    };
    let ended = pump(socket, stream, &seat).await;
    caller.tell_end(&route.service, ended);
}

/// Closes a local connection that was led nowhere, and says why in the log.
pub(super) async fn turn_away(call: Call, why: &str, services: &Services) {
    let Call { socket, route, seat, .. } = call;
    if services.may_say(Kind::Service, None) {
        tracing::warn!(
            service = %route.service, peer = %route.peer, listen = %route.listen, reason = why,
            "a local connection to a service was closed"
        );
    }
    if let Ok(socket) = TcpStream::from_std(socket) {
        close_politely(socket).await;
    }
    drop(seat);
}

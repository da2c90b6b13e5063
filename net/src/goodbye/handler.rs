//! One connection's part: says the byte, and hears the other side's.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, SubstreamProtocol};

use super::{PROTOCOL, Reason};

/// So long the other side has to hear it. One that is there takes two round trips.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Default)]
pub(crate) struct Handler {
    parting: Parting,
    hearing: Hearing,
}

#[derive(Default)]
enum Hearing {
    /// Nothing is said.
    #[default]
    None,
    Begun(BoxFuture<'static, Option<(Reason, Stream)>>),
    /// It was heard, and told; the stream is closed as a sign of that. Not before: the connection ends with the sign.
    Signing(BoxFuture<'static, ()>),
    /// It is said once.
    Over,
}

#[derive(Default)]
enum Parting {
    /// The connection stays.
    #[default]
    None,
    /// A stream is to be opened.
    Due(Reason),
    /// It is under way; over at the latest when the first of the two is.
    UnderWay(Reason, BoxFuture<'static, ()>, Option<BoxFuture<'static, ()>>),
    Over,
}

/// What a handler tells its behaviour.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    /// The connection can be closed now.
    Said,
    /// The peer is about to close it.
    Heard(Reason),
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Reason;
    type ToBehaviour = Told;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    fn on_behaviour_event(&mut self, reason: Reason) {
        if matches!(self.parting, Parting::None) {
            self.parting = Parting::Due(reason);
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. })
                if matches!(self.hearing, Hearing::None) =>
            {
                self.hearing = Hearing::Begun(hear(protocol).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                if let Parting::UnderWay(reason, _, saying) = &mut self.parting {
                    *saying = Some(say(protocol, *reason).boxed());
                }
            }
            // It does not speak the protocol, or does not answer: there is nobody to say it to.
            ConnectionEvent::DialUpgradeError(_) => {
                if let Parting::UnderWay(_, _, saying) = &mut self.parting {
                    *saying = Some(futures::future::ready(()).boxed());
                }
            }
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        match &mut self.hearing {
            Hearing::Begun(hearing) => {
                if let Poll::Ready(heard) = hearing.poll_unpin(cx) {
                    self.hearing = Hearing::Over;
                    if let Some((reason, stream)) = heard {
                        self.hearing = Hearing::Signing(sign(stream).boxed());
                        return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Told::Heard(reason)));
                    }
                }
            }
            Hearing::Signing(signing) => {
                if signing.poll_unpin(cx).is_ready() {
                    self.hearing = Hearing::Over;
                }
            }
            Hearing::None | Hearing::Over => {}
        }
        match &mut self.parting {
            Parting::Due(reason) => {
                // A bound: whoever does not hear it by then is closed without.
                self.parting = Parting::UnderWay(*reason, tokio::time::sleep(GRACE).boxed(), None);
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            Parting::UnderWay(_, grace, saying) => {
                let said = saying.as_mut().is_some_and(|saying| saying.poll_unpin(cx).is_ready());
                if !said && grace.poll_unpin(cx).is_pending() {
                    return Poll::Pending;
                }
                self.parting = Parting::Over;
                Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Told::Said))
            }
            Parting::None | Parting::Over => Poll::Pending,
        }
    }
}

/// Says it, and waits until the other side has closed the stream.
async fn say(mut stream: Stream, reason: Reason) {
    let said = async {
        stream.write_all(&[reason.to_byte()]).await?;
        stream.close().await?;
        stream.read(&mut [0]).await
    };
    // Who has gone already needs no reason.
    let _ = said.await;
}

async fn hear(mut stream: Stream) -> Option<(Reason, Stream)> {
    let mut byte = [0];
    let heard = tokio::time::timeout(GRACE, stream.read_exact(&mut byte)).await;
    heard.ok()?.ok()?;
    Some((Reason::from_byte(byte[0]), stream))
}

async fn sign(mut stream: Stream) {
    // The sign may not get through any more; it was heard all the same.
    let _ = stream.close().await;
}

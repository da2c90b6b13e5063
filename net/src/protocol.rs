//! The protocol actor: direct messages between members, for the application behind the node (N7).
//!
//! It holds nothing that its replacement would lose: settings, outboxes, inbox and subscriptions are in the [`Post`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, Context, Handler, Message, MessageResult, ResponseFuture};
use reload::{Ack, Books, Reconfigurable, Reconfigure, StepError, StepFuture, done, reconfigure};
use storage::PeerKey;

use crate::inbox::Subscription;
use crate::outbox::SendError;
use crate::post::{Post, Settings};
use crate::{ProtocolSection, View};

/// How long a sender waits for the peer's answer: longer than a connection that broke takes to be there again.
const ANSWER: Duration = Duration::from_secs(10);

/// The actor. May be replaced by a successor at any time.
#[derive(Debug)]
pub struct Protocol {
    post: Post,
    view: View,
    books: Books<ProtocolSection, ()>,
}

/// Sends a direct message. `Ok` means that the peer's node has it. Messages to one peer arrive in the order in which they
/// were sent, each at most once.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), SendError>")]
pub struct Send {
    /// To whom.
    pub to: PeerKey,
    /// What it is: 1 to 255 bytes of visible ASCII.
    pub content_type: Option<String>,
    /// The payload.
    pub data: Vec<u8>,
}

/// Every message that arrives from now on, and before that what nobody has read: what came while there was no subscriber, or
/// only some who have left since and had not taken it. Whoever stops reading is cut off.
#[derive(Clone, Copy, Debug, Default, Message)]
#[rtype(result = "Subscription")]
pub struct Subscribe {
    /// The last message that this reader has (`Last-Event-ID` of server-sent events): it also gets the later ones that were
    /// handed out already, of those that are still kept. Ids begin anew with the process; one that this process has not
    /// come to is taken for an older process's, and all that is kept follows.
    pub after: Option<u64>,
}

// === impl Protocol ===

impl Protocol {
    /// Starts the actor on its own arbiter, and puts the section's values into force. To be called inside an actix system;
    /// called again for a successor.
    #[must_use]
    pub fn start(section: Arc<ProtocolSection>, post: Post, view: View) -> Addr<Self> {
        post.set(Settings::from(&*section));
        let arbiter = Arbiter::new();
        Self::start_in_arbiter(&arbiter.handle(), move |_| Self { post, view, books: Books::new(section) })
    }
}

impl Actor for Protocol {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(arbiter) = Arbiter::try_current() {
            arbiter.stop();
        }
    }
}

impl Handler<Reconfigure<ProtocolSection>> for Protocol {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<ProtocolSection>, ctx: &mut Self::Context) -> Self::Result {
        reconfigure(self, message, ctx)
    }
}

impl Reconfigurable for Protocol {
    const NAME: &'static str = "protocol";
    type Section = ProtocolSection;
    type Prepared = ();

    fn books(&mut self) -> &mut Books<ProtocolSection, ()> {
        &mut self.books
    }

    fn prepare(&mut self, _: &Arc<ProtocolSection>, _: Instant) -> StepFuture<()> {
        // Values only; topics and services will acquire something here.
        done(Ok(()))
    }

    fn commit(&mut self, (): (), next: &Arc<ProtocolSection>, _: &mut Self::Context) -> StepFuture<()> {
        self.post.set(Settings::from(&**next));
        done(Ok(()))
    }

    fn restore(&mut self, before: &Arc<ProtocolSection>, _: &mut Self::Context) -> StepFuture<()> {
        self.post.set(Settings::from(&**before));
        done(Ok(()))
    }

    fn probe(&mut self) -> StepFuture<()> {
        let expected = Settings::from(&**self.books.section());
        let found = self.post.settings();
        done(if found == expected {
            Ok(())
        } else {
            Err(StepError::component("connections go by other settings than the section says"))
        })
    }
}

impl Handler<Send> for Protocol {
    type Result = ResponseFuture<Result<(), SendError>>;

    fn handle(&mut self, Send { to, content_type, data }: Send, _: &mut Self::Context) -> Self::Result {
        // Put in line here and not in the future: the order of the mailbox is the order of the messages.
        let posted = self.post.send(&to.peer_id(), content_type.as_deref(), data);
        let posted = posted.map_err(|error| match error {
            SendError::NotConnected if !self.view.is_member(&to) => SendError::UnknownPeer,
            other => other,
        });
        Box::pin(async move { posted?.answered(ANSWER).await })
    }
}

impl Handler<Subscribe> for Protocol {
    type Result = MessageResult<Subscribe>;

    fn handle(&mut self, Subscribe { after }: Subscribe, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.post.subscribe(after))
    }
}

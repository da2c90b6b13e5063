//! Direct messages, for the application behind the node (N7).
//!
//! Not by way of an actor: a message goes from whoever sends it straight into the peer's outbox, and what arrives goes from the
//! connection straight to whoever reads. So neither a reload nor an actor that is stuck holds a message up (R11), and a round trip
//! wakes no thread that has nothing to do with it.

use std::time::Duration;

use storage::PeerKey;

use crate::View;
use crate::inbox::Subscription;
use crate::outbox::SendError;
use crate::post::Post;

/// How long a sender waits for the peer's answer: longer than a connection that broke takes to be there again.
const ANSWER: Duration = Duration::from_secs(10);

/// Sends direct messages, and hands out those that arrive. Cheap to clone; outlives every actor.
#[derive(Clone, Debug)]
pub struct Messages {
    post: Post,
    view: View,
}

// === impl Messages ===

impl Messages {
    /// Messages that go through this post office, to the peers that the view shows.
    #[must_use]
    pub const fn new(post: Post, view: View) -> Self {
        Self { post, view }
    }

    /// Sends a message. `Ok` means that the peer's node has it. It is put in line in this call, not when the future is first
    /// polled: messages to one peer arrive in the order of the calls, each at most once. Dropping the future takes the message
    /// back if it can still be had.
    ///
    /// `content_type` is 1 to 255 bytes of visible ASCII.
    ///
    /// # Errors
    /// The future's: why it was not delivered, or may not have been.
    pub fn send(
        &self,
        to: &PeerKey,
        content_type: Option<&str>,
        data: Vec<u8>,
    ) -> impl Future<Output = Result<(), SendError>> + Send + use<> {
        let posted = self.post.send(&to.peer_id(), content_type, data).map_err(|error| match error {
            SendError::NotConnected if !self.view.is_member(to) => SendError::UnknownPeer,
            other => other,
        });
        async move { posted?.answered(ANSWER).await }
    }

    /// Every message that arrives from now on, and before that what nobody has read: what came while there was no subscriber,
    /// or only some who have left since and had not taken it. Whoever stops reading is cut off.
    ///
    /// `after` is the last message that this reader has (`Last-Event-ID` of server-sent events): it also gets the later ones that
    /// were handed out already, of those that are still kept. Ids begin anew with the process; one that this process has not
    /// come to is taken for an older process's, and all that is kept follows.
    #[must_use]
    pub fn subscribe(&self, after: Option<u64>) -> Subscription {
        self.post.subscribe(after)
    }
}

//! The peer-store actor: the members of the federation as one value.
//!
//! Others read the members through a [`MembersView`], without asking the actor; a reload swaps them all at once.

use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Addr, Arbiter, Context, Handler, ResponseFuture};
use reload::{
    Ack, Books, Live, LiveWriter, Reconfigurable, Reconfigure, StepError, StepFuture, done, reconfigure,
};

use crate::{KnownBound, Members, PeersSection};

/// The members now. A successor of the actor takes over the same view.
pub type MembersView = Live<Members>;

/// Owns the members.
#[derive(Debug)]
pub struct PeerStore {
    books: Books<PeersSection, ()>,
    members: LiveWriter<Members>,
    known: KnownBound,
    /// A commit left no members: to be told once the transaction stands.
    became_alone: bool,
}

// === impl PeerStore ===

impl PeerStore {
    /// Starts the actor on an arbiter of its own, with the members of `section`; it puts `max_known` into force in `known`. Called
    /// again with the same view, it starts a successor: what the predecessor still tries to swap in is refused.
    ///
    /// # Panics
    /// Outside of an actix `System`.
    #[must_use]
    pub fn start(section: Arc<PeersSection>, view: &MembersView, known: &KnownBound) -> Addr<Self> {
        let (members, known) = (view.writer(), known.clone());
        Self::start_in_arbiter(&Arbiter::new().handle(), move |_| Self {
            books: Books::new(section),
            members,
            known,
            became_alone: false,
        })
    }

    fn swap(&self, section: &PeersSection) -> Ack {
        match self.members.swap(Arc::clone(&section.members)) {
            Ok(_) => {
                self.known.set(section.max_known);
                Ok(())
            }
            Err(retired) => Err(StepError::component(retired.to_string())),
        }
    }
}

impl Actor for PeerStore {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        let section = Arc::clone(self.books.section());
        // A retired actor has nothing to say: its successor has set the members.
        if self.swap(&section).is_ok() && section.members.is_empty() {
            tell_alone();
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        Arbiter::current().stop();
    }
}

impl Reconfigurable for PeerStore {
    const NAME: &'static str = "peer_store";
    type Section = PeersSection;
    type Prepared = ();

    fn books(&mut self) -> &mut Books<PeersSection, ()> {
        &mut self.books
    }

    /// Nothing is to be acquired: the section carries the members, read and checked.
    fn prepare(&mut self, _: &Arc<PeersSection>, _: Instant) -> StepFuture<()> {
        done(Ok(()))
    }

    fn commit(&mut self, (): (), next: &Arc<PeersSection>, _: &mut Self::Context) -> StepFuture<()> {
        let was_alone = self.members.load_full().is_empty();
        let swapped = self.swap(next);
        self.became_alone = swapped.is_ok() && next.members.is_empty() && !was_alone;
        done(swapped)
    }

    fn restore(&mut self, before: &Arc<PeersSection>, _: &mut Self::Context) -> StepFuture<()> {
        self.became_alone = false;
        done(self.swap(before))
    }

    fn finish(&mut self, _: &mut Self::Context) -> StepFuture<()> {
        if std::mem::take(&mut self.became_alone) {
            tell_alone();
        }
        done(Ok(()))
    }
}

impl Handler<Reconfigure<PeersSection>> for PeerStore {
    type Result = ResponseFuture<Ack>;

    fn handle(&mut self, message: Reconfigure<PeersSection>, ctx: &mut Self::Context) -> Self::Result {
        reconfigure(self, message, ctx)
    }
}

/// The contract's words ("Log lines that others look for").
fn tell_alone() {
    tracing::info!("No peers configured - running in standalone mode");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    use actix::System;
    use libp2p::identity::Keypair;
    use reload::{Step, Transaction};

    use crate::{Member, PeerKey};

    fn members(count: usize) -> Arc<Members> {
        let mut members = BTreeMap::new();
        for _ in 0..count {
            let key = PeerKey::from_peer_id(&Keypair::generate_ed25519().public().to_peer_id()).unwrap();
            let member =
                Member { key, addresses: vec![], name: None, connection_timeout: None, max_retries: None };
            members.insert(key, member);
        }
        Arc::new(members)
    }

    fn section(file: &Path, count: usize) -> Arc<PeersSection> {
        Arc::new(PeersSection { file: file.into(), max_known: 10 * count, members: members(count) })
    }

    async fn step(store: &Addr<PeerStore>, transaction: Transaction, step: Step<PeersSection>) -> Ack {
        store.send(Reconfigure::new(transaction, step)).await.unwrap()
    }

    fn prepare(section: &Arc<PeersSection>) -> Step<PeersSection> {
        Step::Prepare(Arc::clone(section), Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn members_are_swapped_as_one_value_and_swapped_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("peers.yaml");
        std::fs::write(&file, "peers: []").unwrap();
        let (old, new) = (section(&file, 2), section(&file, 3));
        let (view, known) = (MembersView::new(Arc::default()), KnownBound::default());
        System::new().block_on(async {
            let store = PeerStore::start(Arc::clone(&old), &view, &known);
            let first = Transaction::NONE.next();
            step(&store, first, prepare(&new)).await.unwrap();
            assert!(Arc::ptr_eq(&view.load_full(), &old.members), "prepare touches nothing");
            assert_eq!(known.get(), old.max_known);
            step(&store, first, Step::Commit).await.unwrap();
            assert!(Arc::ptr_eq(&view.load_full(), &new.members));
            assert_eq!(known.get(), new.max_known);
            step(&store, first, Step::Probe).await.unwrap();
            step(&store, first, Step::Rollback).await.unwrap();
            assert!(Arc::ptr_eq(&view.load_full(), &old.members));
            assert_eq!(known.get(), old.max_known);

            let second = first.next();
            step(&store, second, prepare(&new)).await.unwrap();
            step(&store, second, Step::Commit).await.unwrap();
            step(&store, second, Step::Finish).await.unwrap();
            assert!(Arc::ptr_eq(&view.load_full(), &new.members));
        });
    }

    #[test]
    fn a_file_that_is_gone_makes_nobody_ill() {
        let dir = tempfile::tempdir().unwrap();
        let (view, known) = (MembersView::new(Arc::default()), KnownBound::default());
        System::new().block_on(async {
            let store = PeerStore::start(section(&dir.path().join("peers.yaml"), 0), &view, &known);
            let first = Transaction::NONE.next();
            // Not there: a generation that comes back is committed first, and its file written then.
            step(&store, first, prepare(&section(&dir.path().join("peers.yaml"), 1))).await.unwrap();
            step(&store, first, Step::Commit).await.unwrap();
            step(&store, first, Step::Probe).await.unwrap();
            assert_eq!(view.load().len(), 1);
        });
    }

    #[test]
    fn a_predecessor_that_wakes_up_late_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("peers.yaml");
        let (good, stale) = (section(&file, 2), section(&file, 3));
        let (view, known) = (MembersView::new(Arc::default()), KnownBound::default());
        System::new().block_on(async {
            let stuck = PeerStore::start(Arc::clone(&good), &view, &known);
            let first = Transaction::NONE.next();
            step(&stuck, first, prepare(&stale)).await.unwrap();
            let successor = PeerStore::start(Arc::clone(&good), &view, &known);
            step(&successor, first, Step::Rollback).await.unwrap();
            let error = step(&stuck, first, Step::Commit).await.unwrap_err();
            assert_eq!(error.message, "a successor is in office");
            assert!(Arc::ptr_eq(&view.load_full(), &good.members));
            assert_eq!(known.get(), good.max_known);
        });
    }
}

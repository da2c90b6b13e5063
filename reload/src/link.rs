//! The address of an actor that may be replaced by a successor.

use std::sync::Arc;

use actix::{Actor, Addr};
use arc_swap::ArcSwap;

/// Where to reach a component. Everybody who talks to it holds a clone, so that a successor is reached by all at once.
pub struct Link<A: Actor>(Arc<ArcSwap<Addr<A>>>);

// === impl Link ===

impl<A: Actor> Link<A> {
    /// A link to a running actor.
    #[must_use]
    pub fn new(addr: Addr<A>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(addr)))
    }

    /// The actor that is in office now. Asked for at every use; a kept address may be a predecessor's.
    #[must_use]
    pub fn addr(&self) -> Arc<Addr<A>> {
        self.0.load_full()
    }

    /// Puts a successor into office.
    pub fn replace(&self, successor: Addr<A>) {
        self.0.store(Arc::new(successor));
    }
}

impl<A: Actor> Clone for Link<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> std::fmt::Debug for Link<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

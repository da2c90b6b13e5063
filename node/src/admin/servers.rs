//! What is served, and where. Outlives the actor: a successor finds it running.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Arbiter, ArbiterHandle};
use actix_web::dev::ServerHandle;
use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use reload::fault;
use storage::socket_path::Unplaced;

use super::connections::Connections;
use super::gate::{Gate, Rules, RulesError};
use super::socket::{self, Bound, SocketFile};
use super::tcp::{Listening, Reserved, Site};
use super::{AdminState, DRAIN};
use crate::config::AdminSection;

/// The servers by their socket and address, and what they share.
#[derive(Clone, Default)]
pub struct Servers {
    shared: Arc<Mutex<Shared>>,
    gate: Arc<Gate>,
    connections: Connections,
}

#[derive(Default)]
struct Shared {
    by_socket: BTreeMap<PathBuf, Serving>,
    by_address: BTreeMap<SocketAddr, Listening>,
    /// Serves all of the latter; started for the first of them.
    thread: Option<ArbiterHandle>,
    /// The term of the actor in office. One that was left behind in the middle of a step wakes up in that step, and must not open
    /// or close a server any more.
    term: u64,
}

struct Serving {
    handle: ServerHandle,
    file: SocketFile,
}

/// Servers that end, whether it is waited for or not.
pub(super) struct Closing {
    /// Ends when the addresses are free.
    pub(super) freed: LocalBoxFuture<'static, ()>,
    /// Ends when nobody is in any more on the sockets.
    pub(super) left: LocalBoxFuture<'static, ()>,
}

// === impl Servers ===

impl Servers {
    /// Nothing is served yet, by the rules of this section.
    ///
    /// # Errors
    /// If they cannot be put in force.
    pub fn under(section: &AdminSection) -> Result<Self, RulesError> {
        let servers = Self::default();
        servers.gate.set(Rules::new(section, &Rules::default())?);
        Ok(servers)
    }

    /// The rules.
    #[must_use]
    pub const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Binds a socket. One who was left behind while he made it does not take his successor's place.
    pub(super) fn bind(&self, term: u64, path: PathBuf) -> io::Result<Bound> {
        let unplaced = Unplaced::new(&path)?;
        self.with(
            |shared| {
                if term == shared.term { Bound::place(path, unplaced) } else { Err(left_behind()) }
            },
        )
    }

    /// Reserves an address, for whoever starts the node.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn reserve(&self, address: SocketAddr) -> io::Result<Reserved> {
        Reserved::new(address, &self.addresses())
    }

    /// Where it is listened.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.with(|shared| shared.by_address.keys().copied().collect())
    }

    /// Serves a socket, for whoever starts the node.
    ///
    /// # Errors
    /// If the server's threads cannot be started.
    pub fn serve(&self, bound: Bound, state: &Arc<AdminState>) -> io::Result<()> {
        self.serve_under(None, bound, state)
    }

    pub(super) fn serve_under(
        &self,
        term: Option<u64>,
        bound: Bound,
        state: &Arc<AdminState>,
    ) -> io::Result<()> {
        let Bound { file, listener } = bound;
        let handle = socket::serve(listener, Arc::clone(state))?;
        let serving = Serving { handle, file };
        let placed = self.with(|shared| {
            if term.is_none_or(|term| term == shared.term) {
                Ok(shared.by_socket.insert(serving.file.path.clone(), serving))
            } else {
                Err(serving)
            }
        });
        match placed {
            Ok(None) => Ok(()),
            // The one whose file was gone. Callers who are connected keep it until they are done.
            Ok(Some(Serving { handle, file: _ })) => {
                actix::spawn(handle.stop(true));
                Ok(())
            }
            Err(Serving { handle, file: _ }) => {
                actix::spawn(handle.stop(false));
                Err(left_behind())
            }
        }
    }

    /// Listens on an address, for whoever starts the node.
    ///
    /// # Errors
    /// Not in practice: the address is bound.
    pub fn listen(&self, reserved: Reserved, state: &Arc<AdminState>) -> io::Result<()> {
        self.listen_under(None, reserved, state)
    }

    pub(super) fn listen_under(
        &self,
        term: Option<u64>,
        reserved: Reserved,
        state: &Arc<AdminState>,
    ) -> io::Result<()> {
        let (gate, connections) = (Arc::clone(&self.gate), self.connections.clone());
        let site = Site { state: Arc::clone(state), gate, connections };
        self.with(|shared| {
            if term.is_some_and(|term| term != shared.term) {
                return Err(left_behind());
            }
            let address = reserved.address();
            let thread = shared.thread.get_or_insert_with(|| Arbiter::new().handle());
            let listening = reserved.listen(site, thread)?;
            shared.by_address.insert(address, listening);
            Ok(())
        })
    }

    /// Puts rules in force.
    pub(super) fn govern(&self, term: u64, rules: Rules) {
        self.with(|shared| {
            if term == shared.term {
                self.gate.set(rules);
            }
        });
    }

    /// Takes office: whoever was before opens and closes nothing from here on.
    pub(super) fn take_office(&self) -> u64 {
        self.with(|shared| {
            shared.term = shared.term.saturating_add(1);
            shared.term
        })
    }

    /// Whether this socket is served, and its file in its place.
    pub(super) fn is_reached(&self, path: &Path) -> bool {
        self.with(|shared| shared.by_socket.get(path).is_some_and(|serving| serving.file.is_in_place()))
    }

    /// Whether this socket is served, if perhaps where nobody finds it: its folder may come back.
    pub(super) fn serves(&self, path: &Path) -> bool {
        self.with(|shared| shared.by_socket.contains_key(path))
    }

    /// Whether this address is listened on.
    pub(super) fn listens(&self, address: SocketAddr) -> bool {
        self.with(|shared| shared.by_address.get(&address).is_some_and(Listening::is_open))
    }

    /// Whether whoever asks for this socket comes to no server of ours: its file is gone, or another one. Not for one who was left behind.
    pub(super) fn has_lost(&self, term: u64, path: &Path) -> bool {
        self.with(|shared| term == shared.term) && !self.is_reached(path)
    }

    /// Ends every server but those of this section.
    pub(super) fn close(&self, term: u64, keep: Option<&AdminSection>) -> Closing {
        fault::pass("admin::close");
        let (sockets, listeners) = self.with(|shared| {
            if shared.term != term {
                return (BTreeMap::new(), BTreeMap::new());
            }
            let socket = keep.and_then(|keep| shared.by_socket.remove_entry(&keep.socket));
            let address = keep.and_then(|keep| shared.by_address.remove_entry(&keep.listen?));
            (
                std::mem::replace(&mut shared.by_socket, socket.into_iter().collect()),
                std::mem::replace(&mut shared.by_address, address.into_iter().collect()),
            )
        });
        // The file goes first: nobody comes in any more while those who are in may end.
        let left: Vec<_> =
            sockets.into_values().map(|Serving { handle, file: _ }| handle.stop(true)).collect();
        let stays = keep.and_then(|keep| keep.listen);
        let has_heir = |address| stays.is_some_and(|stays| net::reserve::overlap(stays, address));
        let freed = listeners.into_iter().map(|(address, listening)| listening.close(has_heir(address)));
        let freed: Vec<_> = freed.collect();
        Closing {
            freed: join_all(freed).map(drop).boxed_local(),
            left: join_all(left).map(drop).boxed_local(),
        }
    }

    /// Waits for the connections of addresses that are closed: for those that have a request under way, and not for long.
    pub(super) async fn drain(&self) {
        if tokio::time::timeout(DRAIN, self.connections.close()).await.is_err() {
            tracing::warn!(connections = self.connections.count(), "requests of the admin API are cut off");
        }
    }
}

fn left_behind() -> io::Error {
    io::Error::other("a successor is in office")
}

//! The Unix socket of the API: who may open it may do everything.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::System;
use actix_web::dev::{Extensions, ServerHandle};
use actix_web::rt::net::UnixStream;
use actix_web::{App, HttpServer, web};
use reload::fault;
use storage::socket_path::Unplaced;

use super::{AdminState, DRAIN, routes};

/// A caller that sends no request is not kept.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// Who is at the other end of the socket, as the kernel tells (SO_PEERCRED).
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    uid: u32,
    pid: Option<i32>,
}

/// A socket that is bound: callers may connect, and wait until it is served. Dropped unserved, its file is removed.
pub struct Bound {
    pub(super) file: SocketFile,
    pub(super) listener: std::os::unix::net::UnixListener,
}

/// The file of a socket that we bound. Dropped, it is removed, unless somebody has put another in its place.
pub(super) struct SocketFile {
    pub(super) path: PathBuf,
    identity: Option<(u64, u64)>,
}

// === impl Caller ===

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "uid:{} pid:{pid}", self.uid),
            None => write!(f, "uid:{}", self.uid),
        }
    }
}

// === impl Bound ===

impl Bound {
    /// Binds the socket, for its owner only.
    ///
    /// # Errors
    /// If it cannot be bound, or somebody serves it.
    pub fn new(path: PathBuf) -> io::Result<Self> {
        Self::place(path.clone(), Unplaced::new(&path)?)
    }

    pub(super) fn place(path: PathBuf, unplaced: Unplaced) -> io::Result<Self> {
        let listener = unplaced.place()?;
        let identity = storage::socket_path::identity(&path);
        Ok(Self { file: SocketFile { path, identity }, listener })
    }
}

// === impl SocketFile ===

impl SocketFile {
    pub(super) fn is_in_place(&self) -> bool {
        self.identity.is_some() && storage::socket_path::identity(&self.path) == self.identity
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_in_place() {
            return;
        }
        if let Err(error) = fault::io("admin::unlink").and_then(|()| std::fs::remove_file(&self.path)) {
            tracing::warn!(path = %self.path.display(), %error, "the admin socket's file stays behind");
        }
    }
}

/// Runs a server on threads of its own, so that no stuck component holds `status` up.
pub(super) fn serve(
    listener: std::os::unix::net::UnixListener,
    state: Arc<AdminState>,
) -> io::Result<ServerHandle> {
    fault::io("admin::serve")?;
    let server = HttpServer::new(move || {
        App::new().app_data(web::Data::from(Arc::clone(&state))).configure(routes::configure)
    })
    .workers(1)
    .disable_signals()
    .client_request_timeout(REQUEST_WITHIN)
    .shutdown_timeout(DRAIN.as_secs())
    .on_connect(|connection, extensions: &mut Extensions| {
        let stream = connection.downcast_ref::<UnixStream>();
        if let Some(Ok(peer)) = stream.map(UnixStream::peer_cred) {
            extensions.insert(Caller { uid: peer.uid(), pid: peer.pid() });
        }
    })
    .listen_uds(listener)?
    .run();
    let handle = server.handle();
    System::current().arbiter().spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the admin server ended");
        }
    });
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_told_with_what_the_kernel_knows_of_him() {
        let told = |pid| Caller { uid: 7, pid }.to_string();
        assert_eq!((told(Some(42)), told(None)), ("uid:7 pid:42".to_owned(), "uid:7".to_owned()));
    }
}

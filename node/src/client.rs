//! The command line's way to a running node: HTTP over its admin socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::Stream;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// The header by which the command line says that it is one: its reloads are told apart from an API user's.
pub const CLIENT_HEADER: &str = "x-fednode-client";

/// How long a node may take to do something: two budgets of the longest kind (one that runs, one that waits), and some.
const DONE_WITHIN: Duration = Duration::from_secs(70);

/// How long a node may take to say something that it knows.
const SAID_WITHIN: Duration = Duration::from_secs(10);

/// The largest answer that is read: a whole configuration with its members, many times over.
const MAX_ANSWER: usize = 256 << 20;

/// A connection to nobody in particular: each request opens its own.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("nothing answers on {}: {cause}", .socket.display())]
    NoNode {
        /// Where it was tried.
        socket: PathBuf,
        /// What the kernel said.
        cause: std::io::Error,
    },
    /// Somebody listens, and says nothing: a node that is stopped (SIGSTOP), or none.
    #[error("nothing answers on {} within {} s; is the node stopped?", .socket.display(), .within.as_secs())]
    Silent {
        /// Where it was asked.
        socket: PathBuf,
        /// How long it was waited for.
        within: Duration,
    },
    /// Somebody listens, and does not speak as a node does.
    #[error("the node on {} did not answer as expected: {cause}", .socket.display())]
    Answer {
        /// Where it was asked.
        socket: PathBuf,
        /// What went wrong.
        cause: String,
    },
}

/// An answer of the node.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body.
    pub body: Bytes,
}

// === impl Answer ===

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// If it is something else.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

// === impl Client ===

impl Client {
    /// A client of the node that listens on this socket.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET path`.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.ask(Method::GET, path, &[], Vec::new()).await
    }

    /// `POST path` with a body and headers.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, ClientError> {
        self.ask(Method::POST, path, headers, body).await
    }

    /// `DELETE path` with headers.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, ClientError> {
        self.ask(Method::DELETE, path, headers, Vec::new()).await
    }

    /// `GET path` as server-sent events: the `data` of each.
    ///
    /// # Errors
    /// If no node answers, or not with a stream.
    pub async fn events(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = String> + Unpin + use<>, ClientError> {
        let response = self.send(Method::GET, path, &[], Vec::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(self.unexpected(format!("HTTP {}", response.status())));
        }
        let body = response.into_body();
        Ok(Box::pin(futures::stream::unfold((body, Vec::new()), |(mut body, mut held)| async move {
            loop {
                if let Some(event) = next_event(&mut held) {
                    return Some((event, (body, held)));
                }
                let frame = body.frame().await?.ok()?;
                if let Ok(data) = frame.into_data() {
                    held.extend_from_slice(&data);
                }
            }
        })))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, ClientError> {
        let within = if method == Method::GET { SAID_WITHIN } else { DONE_WITHIN };
        let whole = async {
            let response = self.send(method, path, headers, body).await?;
            let status = response.status();
            let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
            let body = body.collect().await.map_err(|error| self.unexpected(error))?;
            Ok(Answer { status, body: body.to_bytes() })
        };
        tokio::time::timeout(within, whole)
            .await
            .unwrap_or_else(|_| Err(ClientError::Silent { socket: self.socket.clone(), within }))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream =
            self.connect().map_err(|cause| ClientError::NoNode { socket: self.socket.clone(), cause })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unexpected(error))?;
        // Ends by itself when the answer is read or dropped.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "fednode");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| self.unexpected(error))?;
        sender.send_request(request).await.map_err(|error| self.unexpected(error))
    }

    fn connect(&self) -> std::io::Result<UnixStream> {
        let stream = storage::socket_path::connect(&self.socket)?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    }

    fn unexpected(&self, cause: impl std::fmt::Display) -> ClientError {
        ClientError::Answer { socket: self.socket.clone(), cause: cause.to_string() }
    }
}

/// Takes the next whole event out of what was received, and returns its data.
fn next_event(held: &mut Vec<u8>) -> Option<String> {
    loop {
        let end = held.windows(2).position(|two| two == b"\n\n")?;
        let event: Vec<u8> = held.drain(..end + 2).collect();
        let text = String::from_utf8_lossy(&event);
        let data: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
        // A comment that keeps the connection alive has no data.
        if !data.is_empty() {
            return Some(data.join("\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_out_of_the_stream_one_by_one() {
        let mut held = b": hello\n\nid: 1\ndata: {\"a\":1}\n\ndata: x\ndata: y\n\ndata: rest".to_vec();
        assert_eq!(next_event(&mut held).as_deref(), Some("{\"a\":1}"));
        assert_eq!(next_event(&mut held).as_deref(), Some("x\ny"));
        assert_eq!(next_event(&mut held), None);
        held.extend_from_slice(b"\n\n");
        assert_eq!(next_event(&mut held).as_deref(), Some("rest"));
    }
}

//! The admin API as a client sees it who writes HTTP by hand, on the socket, on TCP and through TLS; and the certificates for that.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::wait::PATIENCE;

/// A way to the API.
#[derive(Clone, Debug)]
pub enum Way {
    /// The Unix socket.
    Socket(PathBuf),
    /// TCP.
    Plain(SocketAddr),
    /// TCP with TLS.
    Tls(SocketAddr, Arc<ClientConfig>),
}

/// A connection to it.
pub struct Line {
    io: Box<dyn Io>,
    read: Vec<u8>,
    /// HEAD was asked: the answer has the headers of one with a body, and none.
    is_head: bool,
    /// What the server showed.
    pub certificate: Option<CertificateDer<'static>>,
}

/// Both directions.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; of a stream, what came with the headers.
    pub body: Vec<u8>,
}

/// Who signs certificates in a test.
pub struct Authority {
    key: KeyPair,
    certificate: Certificate,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate, PEM.
    pub certificate: String,
    /// The key, PEM.
    pub key: String,
    /// The certificate's bytes.
    pub der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

// === impl Way ===

impl Way {
    /// Connects.
    ///
    /// # Errors
    /// If nobody is there, or the handshake fails.
    pub async fn connect(&self) -> std::io::Result<Line> {
        let connecting = async {
            let (io, certificate): (Box<dyn Io>, _) = match self {
                Self::Socket(path) => (Box::new(UnixStream::connect(path).await?), None),
                Self::Plain(address) => (Box::new(TcpStream::connect(address).await?), None),
                Self::Tls(address, config) => {
                    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
                    let stream = TcpStream::connect(address).await?;
                    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
                    let shown = stream.get_ref().1.peer_certificates();
                    let certificate =
                        shown.and_then(|chain| chain.first()).cloned().map(CertificateDer::into_owned);
                    (Box::new(stream), certificate)
                }
            };
            Ok(Line { io, read: Vec::new(), is_head: false, certificate })
        };
        tokio::time::timeout(PATIENCE, connecting).await.unwrap_or_else(|late| Err(late.into()))
    }

    /// One request on a connection of its own. `head` is the request line without its version and further lines, separated by `\n`.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn try_ask(&self, head: &str, body: &str) -> std::io::Result<Reply> {
        self.connect().await?.ask(head, body).await
    }

    /// The same, of a server that has to answer.
    ///
    /// # Panics
    /// If it does not.
    pub async fn ask(&self, head: &str, body: &str) -> Reply {
        self.try_ask(head, body).await.unwrap_or_else(|error| panic!("{self:?}: {head}: {error}"))
    }
}

// === impl Line ===

impl Line {
    /// One request: see [`Way::try_ask`].
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn ask(&mut self, head: &str, body: &str) -> std::io::Result<Reply> {
        let (request, headers) = head.split_once('\n').unwrap_or((head, ""));
        self.is_head = request.starts_with("HEAD ");
        let mut text = format!("{request} HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
        if !headers.lines().any(|line| line.starts_with("host:")) {
            text += "host: localhost\r\n";
        }
        for header in headers.lines() {
            text += &format!("{header}\r\n");
        }
        self.say(&format!("{text}\r\n{body}")).await?;
        self.hear().await
    }

    /// Sends these very bytes.
    ///
    /// # Errors
    /// If they cannot be sent.
    pub async fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.io.write_all(text.as_bytes()).await?;
        self.io.flush().await
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// If there is none, whole and in time.
    pub async fn hear(&mut self) -> std::io::Result<Reply> {
        tokio::time::timeout(PATIENCE, self.reply()).await.unwrap_or_else(|late| Err(late.into()))
    }

    /// Reads until the other end closes, and tells how much came.
    ///
    /// # Errors
    /// If it does not.
    pub async fn hear_the_end(&mut self) -> std::io::Result<usize> {
        let reading = async {
            let mut count = 0;
            loop {
                match self.more().await {
                    Ok(0) => return Ok(count),
                    Ok(more) => count += more,
                    // A reset is an end, too.
                    Err(error) if error.kind() != std::io::ErrorKind::TimedOut => return Ok(count),
                    Err(error) => return Err(error),
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|late| Err(late.into()))
    }

    /// Reads on in a stream until this text was seen.
    ///
    /// # Errors
    /// If it does not come.
    pub async fn hear_of(&mut self, text: &str) -> std::io::Result<()> {
        let reading = async {
            while !String::from_utf8_lossy(&self.read).contains(text) {
                if self.more().await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|late| Err(late.into()))
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        let mut buffer = [0; 16 << 10];
        let count = self.io.read(&mut buffer).await?;
        self.read.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    async fn reply(&mut self) -> std::io::Result<Reply> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if self.more().await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head: Vec<u8> = self.read.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        let length = reply.header("content-length").and_then(|length| length.parse().ok());
        let length = length.filter(|_| !self.is_head);
        // A stream's body has no length; its events are read with `hear_of`.
        while self.read.len() < length.unwrap_or(0) {
            if self.more().await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        reply.body = self.read.drain(..length.unwrap_or(0)).collect();
        Ok(reply)
    }
}

// === impl Reply ===

impl Reply {
    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is something else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Whether the connection ends with it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

// === impl Authority ===

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// Never: everything is given.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("a certificate can be made");
        Self { key, certificate }
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate for `localhost`, with a key of its own.
    ///
    /// # Panics
    /// Never: everything is given.
    #[must_use]
    pub fn pair(&self) -> Pair {
        self.pair_until(SystemTime::now() + Duration::from_secs(365 * 24 * 60 * 60))
    }

    /// The same, valid until then.
    ///
    /// # Panics
    /// Never: everything is given.
    #[must_use]
    pub fn pair_until(&self, end: SystemTime) -> Pair {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.not_after = end.into();
        let certificate = params.signed_by(&key, &self.certificate, &self.key).expect("it can be signed");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    /// A client that trusts it, and shows this certificate if it has one.
    ///
    /// # Panics
    /// Never: everything is given.
    #[must_use]
    pub fn client(&self, own: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivatePkcs8KeyDer::from(pair.key_der.clone()).into();
                builder.with_client_auth_cert(vec![pair.der.clone()], key).expect("a pair")
            }
        })
    }
}

//! The certificate of a node's own listener for operators, which is replaced while it serves.

use std::net::SocketAddr;
use std::path::Path;
use std::{fmt, io};

use fednode_tests::web::{Authority, Pair, Way};

use super::edit::replace;
use super::{Hand, PATIENCE};
use crate::finding::Rule;

/// Certificate and key in one file, so that there is never the one without the other.
pub(crate) const FILE: &str = "admin.pem";

/// Who signs for one node, and what he signed last.
pub(crate) struct Certificates {
    authority: Authority,
    pair: Pair,
}

// === impl Certificates ===

impl Certificates {
    /// The first one, in this folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn begin(folder: &Path) -> io::Result<Self> {
        let authority = Authority::new("stress");
        let pair = authority.pair();
        let certificates = Self { authority, pair };
        certificates.write(folder)?;
        Ok(certificates)
    }

    /// The next one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn renew(&mut self, folder: &Path) -> io::Result<()> {
        self.pair = self.authority.pair();
        self.write(folder)
    }

    /// By what the key would be known where it does not belong: its longest line, which is drawn by lot.
    pub(crate) fn secret(&self) -> String {
        self.pair.key.lines().max_by_key(|line| line.len()).unwrap_or_default().to_owned()
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        replace(&folder.join(FILE), &format!("{}{}", self.pair.certificate, self.pair.key))
    }

    /// Whether whoever connects there is shown the last one.
    async fn are_shown(&self, address: SocketAddr) -> Result<(), String> {
        let line = Way::Tls(address, self.authority.client(None)).connect().await;
        let shown = line.map_err(|error| error.to_string())?.certificate;
        if shown.as_ref() == Some(&self.pair.der) { Ok(()) } else { Err("another certificate".to_owned()) }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Certificates").finish_non_exhaustive()
    }
}

// === impl Hand ===

impl Hand {
    /// After a reload that has taken the last certificate up, or is followed by one, where a file is watched: it is shown.
    pub(super) async fn shows_its_certificate(&mut self) {
        let Some(node) = &self.node else { return };
        let listen = node.spec().conf["admin"]["listen"].as_str().and_then(|listen| listen.parse().ok());
        let Some(address) = listen else { return };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while let Err(told) = self.certificates.are_shown(address).await {
            if !self.runs() {
                return;
            }
            if tokio::time::Instant::now() > deadline {
                self.found(
                    Rule::Outcomes,
                    format!("the certificate was replaced, and {address} shows: {told}"),
                );
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

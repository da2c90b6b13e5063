//! What changes in a round: one key of one section, there and back.

use fednode_tests::Port;
use serde_json::{Value, json};

use crate::observe::{Files, nobody};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Nothing: what it costs to find that out.
    Nothing,
    /// A second listener in `conf.yaml`.
    Listener,
    /// That, and one address in `peers.yaml`.
    Peers,
    /// One member more in `peers.yaml`, and one less again.
    Member,
    /// The log's level.
    Logging,
    /// How many connections there may be.
    Limits,
    /// One topic more, and one less again: all peers are told.
    Topics,
    /// Where the admin socket is.
    Admin,
}

// === impl Changed ===

impl Changed {
    /// In the order in which they are shown.
    pub(crate) const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Logging,
        Self::Limits,
        Self::Topics,
        Self::Admin,
        Self::Listener,
        Self::Member,
        Self::Peers,
    ];

    /// As it is written on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Listener => "conf",
            Self::Peers => "both",
            Self::Member => "member",
            Self::Logging => "logging",
            Self::Limits => "limits",
            Self::Topics => "topics",
            Self::Admin => "admin",
        }
    }

    /// As it stands in a table.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Listener => "listener",
            Self::Peers => "listener + peers",
            Self::Member => "member",
            Self::Logging => "log level",
            Self::Limits => "limits",
            Self::Topics => "topic",
            Self::Admin => "admin socket",
        }
    }

    pub(crate) fn read(word: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|changed| changed.word() == word)
            .ok_or_else(|| format!("{word} is none of {}", Self::ALL.map(Self::word).join(", ")))
    }

    /// Whether there is a new port to be seen.
    pub(crate) const fn opens_a_port(self) -> bool {
        matches!(self, Self::Listener | Self::Peers)
    }

    /// Whether `peers.yaml` changes.
    pub(crate) const fn is_of_peers(self) -> bool {
        matches!(self, Self::Member | Self::Peers)
    }

    /// Whether the way back counts, too. To remove a listener is another path than to add one.
    pub(crate) const fn counts_both_ways(self) -> bool {
        !self.opens_a_port()
    }

    /// How it ends.
    pub(crate) const fn outcome(self) -> &'static str {
        match self {
            Self::Nothing => "unchanged",
            _ => "committed",
        }
    }

    /// Writes the files for the way there, or for the way back.
    pub(crate) fn write(self, files: &mut Files, first: &str, second: &Port, there: bool, round: usize) {
        let conf = &mut files.conf;
        match self {
            Self::Nothing => return,
            Self::Listener | Self::Peers => {
                let addresses = if there { json!([first, second.loopback()]) } else { json!([first]) };
                conf["network"]["addresses"] = addresses;
            }
            Self::Member => {
                if there {
                    files.peers.extend(nobody(1));
                } else {
                    files.peers.pop();
                }
                return files.write_peers();
            }
            Self::Logging => conf["logging"]["level"] = json!(if there { "error" } else { "warn" }),
            Self::Limits => {
                conf["network"]["limits"]["connections"] = json!(if there { 1023 } else { 1024 });
            }
            Self::Topics => {
                conf["protocol"]["topics"] =
                    if there { json!([{"name": "bench"}]) } else { Value::Array(Vec::new()) };
            }
            Self::Admin => conf["admin"]["socket"] = json!(if there { "new.sock" } else { "admin.sock" }),
        }
        files.write_conf();
        if there && self == Self::Peers {
            let middle = files.peers.len() / 2;
            files.peers[middle]["addresses"][0] = json!(format!("/ip4/127.0.9.9/tcp/{}", 1 + round % 9));
            files.write_peers();
        }
    }
}

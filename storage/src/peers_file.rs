//! `peers.yaml`: the members of the federation, as people write them (N1, N9, contract: "peers.yaml").

pub mod edit;
mod edited;
mod plain;
pub mod rewrite;
mod turn;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reload::Problem;
use reload::error::MAX_PROBLEMS;
use sha2::{Digest as _, Sha256};

use crate::address::dialable;
use crate::document::place::Spot;
use crate::document::{Document, Findings, MAX_FILE, Node, ReadError, Section, given_up, source};
use crate::{Member, Members, PeerKey, PeerKeyError};

/// The most addresses of one member: each is tried in turn, and a try can take the whole connection timeout.
pub const MAX_ADDRESSES: usize = 16;

/// The longest name of a member, in characters: it stands in logs.
pub const MAX_NAME: usize = 128;

/// The bounds of `connection_timeout`, of a member as of all (contract: at least 1s).
pub const TIMEOUTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// What a file says, and the file itself.
#[derive(Clone, Debug)]
pub struct PeersFile {
    /// The members, without the node's own entry.
    pub members: Members,
    /// What is odd in it: keys that this node does not know.
    pub warnings: Vec<Problem>,
    /// The very bytes; `None` where there is no file, which is a federation of one.
    pub text: Option<Arc<[u8]>>,
    /// Whether it is of the usual shape, so that the next one can be read by its difference to this one.
    pub is_plain: bool,
}

/// What is known before a file is parsed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The node's own key: its entry is passed over, so that one file serves all members.
    pub own: Option<&'a PeerKey>,
    /// Members read before. Their keys are recognised instead of judged again, which is a third of the time.
    pub known: Option<&'a Members>,
    /// The text of those members' file, if it was [plain](PeersFile::is_plain) and the node's key is the same.
    pub plain_text: Option<&'a str>,
}

/// The SHA-256 of a file's bytes: how its content is compared.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// Why a file was refused: everything that is wrong in it.
#[derive(Clone, Debug, Default, thiserror::Error)]
#[error("the peers file is refused with {} errors", problems.len())]
pub struct PeersFileError {
    /// What is wrong; at least one.
    pub problems: Vec<Problem>,
    /// What is odd besides.
    pub warnings: Vec<Problem>,
}

// === impl PeersFile ===

impl PeersFile {
    /// Reads the file at `path`; in problems it is called `name`. A missing file has no members.
    ///
    /// # Errors
    /// If the file is there and cannot be read, or anything in it is wrong.
    pub fn read(path: &Path, name: &str, context: Context<'_>) -> Result<Self, PeersFileError> {
        match source::read(path, MAX_FILE) {
            Ok(file) => Self::parse(name, file.bytes.into(), context),
            Err(ReadError::Missing) => Ok(Self::none()),
            Err(error) => Err(PeersFileError { problems: vec![error.problem(name)], warnings: Vec::new() }),
        }
    }

    /// A federation of one: no file, no members.
    #[must_use]
    pub const fn none() -> Self {
        Self { members: Members::new(), warnings: Vec::new(), text: None, is_plain: false }
    }

    /// The text, if the next version of the file can be read by its difference to it: [`Context::plain_text`].
    #[must_use]
    pub fn plain_text(&self) -> Option<&str> {
        self.text.as_deref().filter(|_| self.is_plain).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// Parses the bytes of a file; see [`PeersFile::read`].
    ///
    /// # Errors
    /// If anything in them is wrong.
    pub fn parse(name: &str, text: Arc<[u8]>, context: Context<'_>) -> Result<Self, PeersFileError> {
        if let Some(members) = source::text(name, &text).ok().and_then(|text| usual(text, context)) {
            return Ok(Self { members, warnings: Vec::new(), text: Some(text), is_plain: true });
        }
        Self::parse_any(name, text, context)
    }

    /// Whatever its shape, with everything that is wrong in it.
    fn parse_any(name: &str, text: Arc<[u8]>, context: Context<'_>) -> Result<Self, PeersFileError> {
        let document = Document::parse(name, &text)
            .map_err(|problem| PeersFileError { problems: vec![*problem], warnings: Vec::new() })?;
        let findings = Findings::new();
        let members = members(&document, &findings, context);
        let (problems, warnings) = document.problems(findings);
        if problems.is_empty() {
            Ok(Self { members, warnings, text: Some(text), is_plain: false })
        } else {
            Err(PeersFileError { problems, warnings })
        }
    }
}

// === impl Digest ===

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    /// The first eight bytes in hexadecimal: enough to tell two versions of a file apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Reads a text of the usual shape, by its difference to the one before where there is one.
fn usual(text: &str, context: Context<'_>) -> Option<Members> {
    edited::members(text, context).or_else(|| plain::members(text, context))
}

fn members(document: &Document<'_>, findings: &Findings, context: Context<'_>) -> Members {
    let root = document.root(findings);
    let _ = root.key("version").integer(1..=1);
    let peers = root.required_key("peers", "[]");
    let mut entries: HashMap<PeerKey, (usize, Member)> = HashMap::new();
    let mut repeats = Vec::new();
    for (index, node) in peers.items().enumerate() {
        if reload::abandon::is_asked() {
            findings.error(given_up(document.file()), Spot::Value);
            break;
        }
        let section = node.section();
        if let Some(member) = member(&section, context) {
            match entries.entry(member.key) {
                Entry::Vacant(free) => {
                    free.insert((index, member));
                }
                Entry::Occupied(first) => repeats.push((first.get().0, index)),
            }
        }
        section.finish_with_warnings();
    }
    root.finish_with_warnings();
    report_repeats(document, findings, &repeats);
    entries
        .into_iter()
        .filter(|(key, _)| Some(key) != context.own)
        .map(|(key, (_, member))| (key, member))
        .collect()
}

/// Reports each entry whose key stands in an earlier one, with the line of that one.
fn report_repeats(document: &Document<'_>, findings: &Findings, repeats: &[(usize, usize)]) {
    let path = |index: usize| format!("peers[{index}].public_key");
    let (told, counted) = repeats.split_at(repeats.len().min(MAX_PROBLEMS));
    let earlier: Vec<_> = told.iter().map(|(first, _)| path(*first)).collect();
    let lines = document.lines(earlier.iter().map(String::as_str));
    for (((_, second), first), line) in told.iter().zip(&earlier).zip(lines) {
        let message = format!("is the same key as {first} in line {line}");
        let problem =
            Problem::at(path(*second), message).hint("put all addresses of a member into one entry");
        findings.error(problem, Spot::Value);
    }
    counted.iter().for_each(|_| findings.count_error());
}

/// One entry. An entry without an address is a member that only dials us.
fn member(section: &Section<'_>, context: Context<'_>) -> Option<Member> {
    let public_key = section.required_key("public_key", "<base64 of the 32-byte Ed25519 public key>");
    let key = read_key(&public_key, context.known);
    let addresses = section.key("addresses");
    let read = read_addresses(&addresses, key.as_ref(), context.own);
    let name = section.key("name").nullable();
    let text = name.text();
    if text.is_some_and(|text| text.chars().count() > MAX_NAME || text.chars().any(char::is_control)) {
        name.refuse(
            format!("{} is no name", name.shown()),
            format!("at most {MAX_NAME} characters, in one line"),
        );
    }
    let connection_timeout = section.key("connection_timeout").nullable().duration(TIMEOUTS.0..=TIMEOUTS.1);
    let max_retries = section.key("max_retries").nullable().integer32(0..=u32::MAX);
    Some(Member {
        key: key?,
        addresses: read,
        name: text.map(str::to_owned),
        connection_timeout,
        max_retries,
    })
}

fn read_key(node: &Node<'_>, known: Option<&Members>) -> Option<PeerKey> {
    let text = node.text()?;
    match key_of(text, known) {
        Ok(key) => Some(key),
        Err(error) => {
            refuse_key(node, &error);
            None
        }
    }
}

fn key_of(text: &str, known: Option<&Members>) -> Result<PeerKey, PeerKeyError> {
    known.and_then(|known| recognised(text, known)).map_or_else(|| text.parse(), Ok)
}

/// Reports a value that should be a member's public key and is not. Nothing is shown of a private one.
pub fn refuse_key(node: &Node<'_>, error: &PeerKeyError) {
    if node.text().is_some_and(is_key_pair) {
        node.refuse(
            "is a key pair; the private half must never leave its owner",
            "write the public key, which `fednode id` prints on the member's machine; \
             if somebody has seen this pair, replace it there",
        );
    } else {
        let hint = "write the key that `fednode id` prints on the member's machine";
        node.refuse_with(|| (format!("{} {error}", node.shown_briefly()), hint));
    }
}

/// Whether a text is 64 bytes in one of the base64 alphabets, padded and broken into lines or not: a private key with its
/// public half (contract: `node.private_key`), wherever it stands.
#[must_use]
pub fn is_key_pair(text: &str) -> bool {
    // Six bits each.
    const CHARACTERS: usize = 86;
    let digits = text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte);
    digits.clone().all(is_digit) && digits.count() == CHARACTERS
}

/// The key among `known` of which this is the base64.
fn recognised(text: &str, known: &Members) -> Option<PeerKey> {
    // Base64 is decoded in steps of three bytes.
    let mut bytes = [0; 33];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    PeerKey::recognise(bytes.get(..length)?.try_into().ok()?, known)
}

fn read_addresses(list: &Node<'_>, key: Option<&PeerKey>, own: Option<&PeerKey>) -> Vec<libp2p::Multiaddr> {
    let mut addresses = Vec::new();
    let mut surplus = false;
    for item in list.items() {
        let Some(text) = item.text() else { continue };
        match dialable(text, key) {
            // The node's own entry is for the others, who may reach it in ways that it cannot judge.
            Err(_) if key.is_some() && key == own => {}
            Err(error) => item.refuse_with(|| (format!("{} {error}", item.shown()), error.hint())),
            Ok(_) if addresses.len() == MAX_ADDRESSES => surplus = true,
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) => addresses.push(address),
        }
    }
    if surplus {
        list.refuse(format!("has more than {MAX_ADDRESSES} addresses"), "keep those that work best");
    }
    addresses
}

#[cfg(test)]
mod plain_tests;
#[cfg(test)]
mod tests;

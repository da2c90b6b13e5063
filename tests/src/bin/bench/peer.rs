//! The other process of a measurement: a peer that serves, loads or is merely there, on our stack or on bare rust-libp2p.
//!
//! `bench peer bare|ours serve`, and the others of [`Role::read`]. A peer says one line of JSON when it is ready, a load a second one
//! when it is done; it ends with its standard input. A crowd is many peers in one process.

mod bare;
mod ours;

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use net::Identity;
use serde_json::{Value, json};
use storage::PeerKey;

use crate::samples::Samples;

/// Messages that one stream has under way.
const WINDOW: usize = 32;

/// What a peer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// The network and protocol actors of a node.
    Ours,
    /// rust-libp2p, with the same transport, and a stream of the same frames.
    Bare,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// As much as goes, in messages of this many bytes, for so long.
    Flood {
        /// Bytes of one message.
        size: usize,
        /// For how long.
        lasting: Duration,
    },
    /// One message after the other, so many times.
    PingPong {
        /// Bytes of one message.
        size: usize,
        /// How many.
        rounds: usize,
    },
}

/// Whom to connect to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) key: PeerKey,
    pub(crate) address: Multiaddr,
}

/// What this process is to do.
enum Role {
    /// These are members.
    Serve(Vec<PeerKey>),
    /// These peers, each with one stream.
    Load(Target, Vec<Identity>, Load),
    /// So many peers that say nothing.
    Idle(Target, usize),
    /// So many members of a federation, which know each other and these, and are connected to by these only.
    Crowd(usize, Vec<PeerKey>),
}

/// A peer in a process of its own; killed when dropped.
pub(crate) struct Peer {
    child: Child,
    lines: std::io::BufReader<ChildStdout>,
    _stays: ChildStdin,
}

/// What was sent and acknowledged.
pub(crate) struct Sent {
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    pub(crate) round_trips: Samples,
}

// === impl Stack ===

impl Stack {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Bare => "bare",
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Ours, Self::Bare].into_iter().find(|stack| stack.name() == text)
    }
}

// === impl Target ===

impl Target {
    pub(crate) fn peer(&self) -> PeerId {
        self.key.peer_id()
    }

    fn arguments(&self) -> [String; 2] {
        [self.key.to_string(), self.address.to_string()]
    }
}

// === impl Load ===

impl Load {
    fn arguments(self) -> [String; 3] {
        match self {
            Self::Flood { size, lasting } => {
                ["flood".to_owned(), size.to_string(), lasting.as_millis().to_string()]
            }
            Self::PingPong { size, rounds } => ["pingpong".to_owned(), size.to_string(), rounds.to_string()],
        }
    }
}

// === impl Role ===

impl Role {
    fn read(arguments: &[String]) -> Option<Self> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let target = |key: &str, address: &str| {
            Some(Target { key: key.parse().ok()?, address: address.parse().ok()? })
        };
        match words[..] {
            ["serve", ref members @ ..] => {
                Some(Self::Serve(members.iter().map(|key| key.parse().ok()).collect::<Option<_>>()?))
            }
            ["crowd", count, ref others @ ..] => {
                let others = others.iter().map(|key| key.parse().ok()).collect::<Option<_>>()?;
                Some(Self::Crowd(count.parse().ok()?, others))
            }
            ["idle", key, address, count] => Some(Self::Idle(target(key, address)?, count.parse().ok()?)),
            ["load", key, address, kind, size, much, ref who @ ..] => {
                let size = size.parse().ok()?;
                let load = match kind {
                    "flood" => Load::Flood { size, lasting: Duration::from_millis(much.parse().ok()?) },
                    "pingpong" => Load::PingPong { size, rounds: much.parse().ok()? },
                    _ => return None,
                };
                let who = who.iter().map(|text| Some(Identity::read(text).ok()?.identity));
                Some(Self::Load(target(key, address)?, who.collect::<Option<_>>()?, load))
            }
            _ => None,
        }
    }
}

/// Runs this process as a peer.
pub(crate) fn run(arguments: &[String]) -> Option<()> {
    let (stack, role) = arguments.split_first()?;
    let (stack, role) = (Stack::read(stack)?, Role::read(role)?);
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    match stack {
        Stack::Bare => runtime().block_on(bare::run(role)),
        Stack::Ours => actix::System::new().block_on(ours::run(role)),
    }
    Some(())
}

/// Says a line to whoever started this process.
fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the bench listens");
}

fn say_where(key: PeerKey, address: &Multiaddr) {
    say(&json!({"key": key.to_string(), "address": address.to_string()}));
}

/// As entries of `peers.yaml`.
fn say_crowd(members: impl Iterator<Item = (PeerKey, Multiaddr)>) {
    let entry = |(key, address): (PeerKey, Multiaddr)| json!({"public_key": key.to_string(), "addresses": [address.to_string()]});
    say(&members.map(entry).collect());
}

fn say_sent(sent: &[Sent]) {
    let longest = sent.iter().map(|sent| sent.took).max().unwrap_or_default();
    let bytes: u64 = sent.iter().map(|sent| sent.bytes).sum();
    say(&json!({
        "mib_per_s": bytes as f64 / f64::from(1 << 20) / longest.as_secs_f64(),
        "round_trip_us": sent.first().map(|sent| sent.round_trips.summary()),
    }));
}

/// Ends when nobody needs this process any more.
async fn until_dismissed() {
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = end.await;
}

// === impl Sent ===

impl Sent {
    fn since(began: Instant, bytes: u64, round_trips: Samples) -> Self {
        Self { bytes, took: began.elapsed(), round_trips }
    }
}

// === impl Peer ===

impl Peer {
    fn spawn(stack: Stack, arguments: &[String]) -> Self {
        let myself = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(myself)
            .args(["peer", stack.name()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs once more");
        let lines = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let stays = child.stdin.take().expect("a pipe");
        Self { child, lines, _stays: stays }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.lines, &mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("a peer said '{line}': {error}"))
    }

    /// A peer that is connected to, with these members.
    pub(crate) fn serve(stack: Stack, members: &[Identity]) -> (Self, Target) {
        let members = members.iter().map(|member| member.public_key().to_string());
        let arguments: Vec<_> = std::iter::once("serve".to_owned()).chain(members).collect();
        let mut peer = Self::spawn(stack, &arguments);
        let line = peer.line();
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let key = text("key").parse().expect("a key");
        (peer, Target { key, address: text("address").parse().expect("an address") })
    }

    /// Puts a load on the target, and says what came of it.
    pub(crate) fn load(stack: Stack, to: &Target, who: &[Identity], load: Load) -> Value {
        Self::begin_load(stack, to, who, load).line()
    }

    /// Puts a load on the target, for as long as this lives.
    pub(crate) fn begin_load(stack: Stack, to: &Target, who: &[Identity], load: Load) -> Self {
        let [key, address] = to.arguments();
        let [kind, size, much] = load.arguments();
        let mut arguments = vec!["load".to_owned(), key, address, kind, size, much];
        arguments.extend(who.iter().map(Identity::to_text));
        Self::spawn(stack, &arguments)
    }

    /// So many peers that stay connected, and say nothing, for as long as this lives.
    pub(crate) fn idle(to: &Target, count: usize) -> Self {
        let [key, address] = to.arguments();
        let mut peer = Self::spawn(Stack::Bare, &["idle".to_owned(), key, address, count.to_string()]);
        peer.line();
        peer
    }

    /// So many members of a federation in one process, and where each of them is. `others` connect to them.
    pub(crate) fn crowd(count: usize, others: &[PeerKey]) -> (Self, Vec<Value>) {
        let arguments = ["crowd".to_owned(), count.to_string()].into_iter();
        let arguments: Vec<_> = arguments.chain(others.iter().map(ToString::to_string)).collect();
        let mut peer = Self::spawn(Stack::Ours, &arguments);
        let members = peer.line();
        (peer, members.as_array().cloned().unwrap_or_default())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

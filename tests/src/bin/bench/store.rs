//! What the two files of peers cost: `peers.yaml` read, edited and read by its difference; `known.yaml` read, merged, written and taken up.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::exchange::sign;
use net::{Identity, View};
use serde_json::{Value, json};
use storage::known_file::KnownFile;
use storage::known_file::merge::{Common, merge};
use storage::peers_file::edit::{Entry, Order};
use storage::peers_file::rewrite::Turn;
use storage::peers_file::{Context, PeersFile};
use storage::{KnownEntry, PeerKey};

use crate::samples::{Samples, round};

/// Measured so often each; the largest sizes take seconds.
const ROUNDS: usize = 5;

pub(crate) fn run(sizes: &[usize]) -> (Value, String, bool) {
    let mut table = "          peers.yaml (ms)               known.yaml (ms)                                 memory\n\
                     peers     read   one edit   changed     read    merge    save   take up             of the book\n"
        .to_owned();
    let mut rows = Vec::new();
    for size in sizes {
        let row = measure(*size);
        let _ = writeln!(
            table,
            "{size:>6} {:>8} {:>10} {:>9} {:>8} {:>8} {:>7} {:>9} {:>20} KiB",
            row["read_ms"],
            row["edit_ms"],
            row["changed_ms"],
            row["known_read_ms"],
            row["merge_ms"],
            row["save_ms"],
            row["take_up_ms"],
            row["book_kib"],
        );
        rows.push(row);
    }
    (json!({"store": rows}), table, true)
}

fn measure(size: usize) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let entries: Vec<KnownEntry> = (0..size).map(|n| entry(&Identity::generate(), n)).collect();
    let peers = folder.path().join("peers.yaml");
    std::fs::write(&peers, written(&entries)).expect("a file");

    let (mut read, mut edit, mut changed) = (Samples::default(), Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let before = timed(&mut read, || file(&peers, Context::default()));
        let order = Order::Set(Entry {
            key: Identity::generate().public_key(),
            addresses: Some(vec![format!("/ip4/198.51.100.7/tcp/{}", 9000 + round)]),
            name: None,
        });
        timed(&mut edit, || Turn::wait(&peers).expect("a turn").rewrite(&[order], None).expect("an edit"));
        let text = before.text.as_deref().and_then(|text| std::str::from_utf8(text).ok());
        let context = Context { known: Some(&before.members), plain_text: text, ..Context::default() };
        timed(&mut changed, || file(&peers, context));
    }

    let mut known = KnownFile::open(folder.path()).file;
    let mut sorted = entries;
    sorted.sort_by_key(|entry| entry.public_key);
    let (mut save, mut load, mut merged) = (Samples::default(), Samples::default(), Samples::default());
    for now in 0..ROUNDS {
        // Everybody was heard of: the most that a save can find new.
        sorted.iter_mut().for_each(|entry| entry.last_seen += 1);
        timed(&mut save, || known.save(sorted.clone(), now as u64).expect("it is saved"));
        let opened = timed(&mut load, || KnownFile::open(folder.path()));
        let common = Common::of(&sorted);
        timed(&mut merged, || merge(&common, &opened.entries, &sorted, now as u64));
    }
    let before = resident_kib();
    let view = View::new();
    let mut take_up = Samples::default();
    timed(&mut take_up, || view.known().load(sorted.iter().cloned()));
    let book = resident_kib().saturating_sub(before);
    json!({
        "peers": size, "read_ms": read.median(), "edit_ms": edit.median(), "changed_ms": changed.median(),
        "known_read_ms": load.median(), "merge_ms": merged.median(), "save_ms": save.median(),
        "take_up_ms": round(take_up.median()), "book_kib": book, "book_peers": view.known().count(),
    })
}

fn timed<T>(samples: &mut Samples, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    samples.add_ms(began.elapsed());
    result
}

fn file(path: &Path, context: Context<'_>) -> PeersFile {
    PeersFile::read(path, "peers.yaml", context).expect("a good file")
}

fn entry(identity: &Identity, n: usize) -> KnownEntry {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let at = address(n);
    let record =
        sign(identity, u64::try_from(since.as_millis()).expect("a time"), &[at.parse().expect("an address")])
            .expect("it can be signed");
    KnownEntry {
        public_key: identity.public_key(),
        addresses: vec![at],
        source: "exchange".to_owned(),
        first_seen: since.as_secs(),
        last_seen: since.as_secs(),
        failures: 0,
        records: vec![STANDARD.encode(record)],
    }
}

fn address(n: usize) -> String {
    format!("/ip4/198.51.{}.{}/tcp/9000", n / 250 % 250, n % 250 + 1)
}

/// As the contract has it.
fn written(entries: &[KnownEntry]) -> String {
    let mut text = "# The members\npeers:\n".to_owned();
    for KnownEntry { public_key, addresses, .. } in entries {
        let key: &PeerKey = public_key;
        let _ = writeln!(text, "  - public_key: \"{key}\"\n    addresses: [\"{}\"]", addresses[0]);
    }
    text
}

/// Resident memory of this process.
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

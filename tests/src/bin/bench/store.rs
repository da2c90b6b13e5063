//! What the two files of peers cost. `peers.yaml`: validated whole and by its difference, edited. `known.yaml`: loaded until every
//! peer in it is usable, merged, saved. And the memory of a process that holds what they say.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use net::exchange::sign;
use net::{Identity, View};
use serde_json::{Value, json};
use storage::known_file::merge::{Common, merge};
use storage::known_file::{Hand, KnownFile, Opened};
use storage::peers_file::edit::{Entry, Order};
use storage::peers_file::rewrite::Turn;
use storage::peers_file::{Context, PeersFile};
use storage::{KnownEntry, PeerKey};

use crate::samples::Samples;

/// Measured so often each.
const ROUNDS: usize = 5;

/// What each may take in milliseconds, and hold in MiB, with so many peers.
const GOAL: (usize, f64, f64) = (10_000, 100.0, 20.0);

/// The columns: name in the report, title, whether the goal holds for it.
const COLUMNS: [(&str, &str, bool); 9] = [
    ("validate_ms", "validate", true),
    ("changed_ms", "changed", true),
    ("edit_ms", "one edit", true),
    ("load_ms", "load", true),
    ("load_judged_ms", "load, judged", false),
    ("merge_ms", "merge", true),
    ("save_ms", "save", true),
    ("members_mib", "members", true),
    ("known_mib", "known", true),
];

pub(crate) fn run(sizes: &[usize]) -> (Value, String, bool) {
    let mut table = format!(
        "{:>7}{:>33}{:>44}{:>22}\n{:>7}",
        "", "peers.yaml, ms", "known.yaml, ms", "memory, MiB", "peers"
    );
    for (_, title, _) in COLUMNS {
        let _ = write!(table, "{title:>width$}", width = width(title));
    }
    let (mut rows, mut is_good) = (Vec::new(), true);
    for size in sizes {
        let row = measure(*size);
        let _ = write!(table, "\n{size:>7}");
        for (name, title, has_goal) in COLUMNS {
            let value = row[name].as_f64().unwrap_or(f64::INFINITY);
            let _ = write!(table, "{value:>width$.1}", width = width(title));
            let most = if name.ends_with("_mib") { GOAL.2 } else { GOAL.1 };
            is_good &= !has_goal || *size > GOAL.0 || value < most;
        }
        rows.push(row);
    }
    let _ = write!(table, "\n\ngoal: under {} ms and {} MiB for {} peers", GOAL.1, GOAL.2, GOAL.0);
    (json!({"store": rows, "is_good": is_good}), table, is_good)
}

fn width(title: &str) -> usize {
    title.len().max(8) + 2
}

fn measure(size: usize) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let entries: Vec<KnownEntry> = (0..size).map(|n| entry(&Identity::generate(), n)).collect();
    let peers = folder.path().join(PEERS);
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
        let context =
            Context { known: Some(&before.members), plain_text: before.plain_text(), ..Context::default() };
        timed(&mut changed, || file(&peers, context));
    }

    let mut known = KnownFile::open(folder.path()).file;
    let mut sorted = entries;
    sorted.sort_by_key(|entry| entry.public_key);
    let (mut save, mut load, mut merged) = (Samples::default(), Samples::default(), Samples::default());
    for now in 0..ROUNDS {
        // Everybody was heard of: the most that a save can find new.
        sorted.iter_mut().for_each(|entry| entry.last_seen += 1);
        let memory = sorted.clone();
        timed(&mut save, || known.save(memory, now as u64).expect("it is saved"));
        let view = timed(&mut load, || taken_up(folder.path(), size, None).1);
        assert_eq!(view.known().count(), size, "all are usable");
        let (common, file) = (Common::of(&sorted), KnownFile::open(folder.path()).entries);
        timed(&mut merged, || merge(&common, &file, &sorted, now as u64));
    }
    let mut judged = Samples::default();
    timed(&mut judged, || taken_up(folder.path(), size, Some(Hand::Person)));
    json!({
        "peers": size, "validate_ms": read.median(), "edit_ms": edit.median(), "changed_ms": changed.median(),
        "load_ms": load.median(), "load_judged_ms": judged.median(), "merge_ms": merged.median(),
        "save_ms": save.median(), "members_mib": held("members", folder.path(), size),
        "known_mib": held("known", folder.path(), size),
    })
}

/// What a node does at its start. With `hand`, as if it were that one's.
fn taken_up(folder: &Path, size: usize, hand: Option<Hand>) -> (KnownFile, View) {
    let Opened { file, entries, hand: wrote, .. } = KnownFile::open(folder);
    let view = View::new();
    view.known().bound().set(size);
    view.known().load(entries, hand.unwrap_or(wrote));
    (file, view)
}

/// The memory of a process that holds what the files in this folder say, above that of one whose files say nothing.
fn held(what: &str, folder: &Path, size: usize) -> f64 {
    let nothing = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(nothing.path().join(PEERS), "peers: []\n").expect("a file");
    let resident = |folder: &Path| {
        let program = std::env::current_exe().expect("this program");
        let size = size.to_string();
        let output = Command::new(program).args(["hold", what]).arg(folder).arg(&size).output();
        let output = String::from_utf8(output.expect("it runs").stdout).expect("a number");
        output.trim().parse::<f64>().unwrap_or(f64::INFINITY)
    };
    (resident(folder) - resident(nothing.path())) / 1024.0
}

/// Holds what a file says as a node does that has run for a while, and prints this process's resident memory in KiB.
pub(crate) fn hold(arguments: &[String]) -> Option<()> {
    let [what, folder, size] = arguments else { return None };
    let (folder, size) = (Path::new(folder), size.parse().ok()?);
    match what.as_str() {
        "members" => {
            let held = file(&folder.join(PEERS), Context::default());
            println!("{}", resident_kib());
            drop(held);
        }
        "known" => {
            let (mut file, view) = taken_up(folder, size, None);
            for now in 0..3 {
                // Another first entry each time, so that there is something to write.
                let mut memory = view.known().snapshot();
                memory.iter_mut().take(1).for_each(|entry| entry.failures = now);
                file.save(memory, u64::from(now)).ok()?;
            }
            println!("{}", resident_kib());
        }
        _ => return None,
    }
    Some(())
}

fn timed<T>(samples: &mut Samples, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    samples.add_ms(began.elapsed());
    result
}

const PEERS: &str = "peers.yaml";

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

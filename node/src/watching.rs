//! The configuration's files are watched while it says so (R24): `conf.yaml` and every file that the configuration which runs
//! names. A file that only a refused text names is of no concern: the text has to be changed first, and it is watched.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use futures::StreamExt as _;
use reload::events::{Event, Sink};
use reload::watch::{Changed, Options, Seen, Watch, WatchHandle, Watched};
use reload::{Coordinator, Origin, Refusal, Reload, Trigger};
use storage::Digest;
use tokio::sync::Notify;

use crate::config::Config;
use crate::engine::Current;

/// How long after the coordinator had too many waiting it is asked again: a change is not let go.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Watching that has not started yet, but knows already when a reload ends.
#[derive(Default)]
pub(crate) struct Watching {
    ended: Arc<Notify>,
}

/// Passes events on, and notes that a reload has ended.
struct Ends<S> {
    sink: S,
    ended: Arc<Notify>,
}

// === impl Watching ===

impl Watching {
    /// The sink, with an ear on it.
    pub(crate) fn beside(&self, sink: impl Sink) -> Arc<dyn Sink> {
        Arc::new(Ends { sink, ended: Arc::clone(&self.ended) })
    }

    /// Watches what `current` names whenever a reload has ended, and asks for a reload when it changes.
    pub(crate) fn start(self, current: Current, coordinator: Addr<Coordinator<Config>>) {
        let options = Options { digest, ..Options::default() };
        let (handle, changes) = match Watch::start(options, Vec::new()) {
            Ok(started) => started,
            Err(error) => {
                tracing::warn!(%error, "files are not watched, whatever reload.watch says");
                return;
            }
        };
        actix::spawn(follow(self.ended, Arc::clone(&current), handle));
        actix::spawn(ask(changes, current, coordinator));
    }
}

/// The set is that of the configuration which runs, from the start and from the end of each reload on.
async fn follow(ended: Arc<Notify>, current: Current, handle: WatchHandle) {
    let mut was_on = false;
    loop {
        let config = current.load_full();
        let (is_on, settle) = (config.reload.watch, config.reload.settle);
        // Off, and off before: nothing to look at, and nothing to let go of.
        if is_on || was_on {
            // Digests of some megabytes are no work for an arbiter.
            let files = tokio::task::spawn_blocking(move || files(&config)).await.unwrap_or_default();
            let count = files.len();
            match handle.set(files, settle) {
                Ok(()) => {
                    match (was_on, is_on) {
                        (false, true) => tracing::info!(files = count, ?settle, "files are watched"),
                        (true, false) => tracing::info!("files are not watched any more"),
                        _ => {}
                    }
                    was_on = is_on;
                }
                Err(error) => tracing::warn!(%error, "the files that are watched stay those of before"),
            }
        }
        ended.notified().await;
    }
}

/// Asks for a reload, one at a time: what changes meanwhile is one change.
async fn ask(mut changes: Watch, current: Current, coordinator: Addr<Coordinator<Config>>) {
    while let Some(changed) = changes.next().await {
        let note = Some(note(&changed, current.load().folder()));
        let origin = Origin { trigger: Trigger::Watch, actor: None, note };
        loop {
            match coordinator.send(Reload::new(origin.clone())).await {
                // Those who wait have their turn one after the other, and nobody tells when there is room.
                Ok(Err(Refusal::Busy(_))) => tokio::time::sleep(ASK_AGAIN).await,
                // Whatever came of it is told where all outcomes are; the watching goes on.
                Ok(Ok(_) | Err(Refusal::Mismatch { .. } | Refusal::NothingToConfirm)) => break,
                Ok(Err(Refusal::Stopping)) | Err(_) => return,
            }
        }
    }
    tracing::error!("the watching of files has ended by a bug; reload by SIGHUP or `fednode reload`");
}

/// What is watched, and what the node has read of it: a file that is another one by now is told.
fn files(config: &Config) -> Vec<Watched> {
    if !config.reload.watch {
        return Vec::new();
    }
    let source = &config.source;
    let read = |bytes: &Arc<[u8]>| Seen::Content(digest(bytes));
    let peers = source.snapshot.peers.as_ref().map_or(Seen::Missing, read);
    let mut files = vec![
        Watched::seen(&source.path, read(&source.snapshot.conf)),
        Watched::seen(&config.peers.file, peers),
    ];
    files.extend(source.named.iter().map(|(path, digest)| Watched::seen(path, Seen::Content(short(digest)))));
    files
}

/// Why there is a reload, for whoever reads the history.
fn note(changed: &Changed, folder: &Path) -> String {
    let names: Vec<_> = changed
        .files
        .iter()
        .map(|file| file.strip_prefix(folder).unwrap_or(file).display().to_string())
        .collect();
    format!("changed: {}", names.join(", "))
}

fn digest(bytes: &[u8]) -> u64 {
    short(&Digest::of(bytes))
}

/// Enough to tell two states of one file apart.
fn short(Digest([a, b, c, d, e, f, g, h, ..]): &Digest) -> u64 {
    u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])
}

// === impl Ends ===

impl<S: Sink> Sink for Ends<S> {
    fn emit(&self, event: &Event<'_>) {
        self.sink.emit(event);
        if matches!(event, Event::Finished(_)) {
            self.ended.notify_one();
        }
    }
}

//! `fednode status --watch`: what the node does, live; drawn anew on events and each second.
//!
//! On a terminal a view of its own screen; elsewhere a line for each change, and with `--json` one JSON for each.

mod screen;
mod view;

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use futures::{Stream, StreamExt as _};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Common, INTERNAL, print};
use screen::Screen;

/// Between two looks where nothing happens.
const EVERY: Duration = Duration::from_secs(1);

/// After an event: others come with it, and are drawn together.
const TOGETHER: Duration = Duration::from_millis(50);

/// The events that are kept to be shown.
const EVENTS: usize = 64;

type Events = Pin<Box<dyn Stream<Item = String>>>;

/// What is shown.
enum Shown {
    Screen(Screen),
    /// The line or JSON that was printed last.
    Lines {
        json: bool,
        last: String,
    },
}

/// The node as it was seen last.
struct Seen {
    status: Option<Value>,
    events: VecDeque<String>,
}

/// What ends the watch, or makes it look again.
struct Signals {
    ends: [Signal; 3],
    resized: Signal,
}

/// Watches until a signal comes.
pub(super) async fn watch(common: &Common) -> ExitCode {
    // Whoever names a socket on which nobody listens has a typing error to mend.
    if let Err(code) = common.client() {
        return code;
    }
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("Error: cannot take signals: {error}");
            return ExitCode::from(INTERNAL);
        }
    };
    let mut shown = match common.json {
        false if std::io::stdout().is_terminal() => Shown::Screen(Screen::open()),
        json => Shown::Lines { json, last: String::new() },
    };
    let mut seen = Seen { status: None, events: VecDeque::new() };
    let mut events: Option<Events> = None;
    loop {
        // A reload may take the socket elsewhere, and a node may be started again: each look finds it anew.
        let client = common.find_client();
        seen.status = None;
        if let Some(client) = &client {
            if events.is_none() {
                events = client.events("/v1/events").await.ok().map(|events| -> Events { Box::pin(events) });
            }
            tokio::select! {
                answer = client.get("/admin/status") => {
                    seen.status = answer.ok().and_then(|answer| answer.json().ok());
                }
                ends = signals.next() => if ends {
                    return ExitCode::SUCCESS;
                } else {
                    continue;
                },
            }
        }
        shown.show(&seen);
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            event = next(&mut events) => match event {
                Some(event) => {
                    seen.take(&event);
                    gather(&mut events, &mut seen).await;
                }
                None => {
                    // A node that stops ends each stream at once.
                    events = None;
                    tokio::time::sleep(TOGETHER).await;
                }
            },
            ends = signals.next() => if ends {
                return ExitCode::SUCCESS;
            },
        }
    }
}

/// Takes the events that come with the first.
async fn gather(events: &mut Option<Events>, seen: &mut Seen) {
    let all = async {
        while let Some(event) = next(events).await {
            seen.take(&event);
        }
    };
    let _ = tokio::time::timeout(TOGETHER, all).await;
}

/// The next event; never, where there is no stream.
async fn next(events: &mut Option<Events>) -> Option<String> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

// === impl Seen ===

impl Seen {
    fn take(&mut self, event: &str) {
        let Some(line) = serde_json::from_str(event).ok().and_then(|event| view::event(&event)) else {
            return;
        };
        if self.events.len() == EVENTS {
            self.events.pop_back();
        }
        self.events.push_front(line);
    }
}

// === impl Shown ===

impl Shown {
    fn show(&mut self, seen: &Seen) {
        match self {
            Self::Screen(screen) => {
                let view = match &seen.status {
                    Some(status) => view::lines(status, &seen.events),
                    None => view::nobody(&seen.events),
                };
                screen.draw(&view);
            }
            Self::Lines { json, last } => {
                let now = match &seen.status {
                    Some(status) if *json => view::without_clocks(status).to_string(),
                    // A line of JSON is a status, or none.
                    None if *json => return,
                    Some(status) => view::summary(status),
                    None => "no node answers".to_owned(),
                };
                if now == *last {
                    return;
                }
                match &seen.status {
                    Some(status) if *json => print(&format!("{status}\n")),
                    _ => print(&format!("{} {now}\n", humantime::format_rfc3339_seconds(SystemTime::now()))),
                }
                *last = now;
            }
        }
    }
}

// === impl Signals ===

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            ends: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ],
            resized: signal(SignalKind::window_change())?,
        })
    }

    /// The next one, which ends the watch or (false) does not.
    async fn next(&mut self) -> bool {
        let [interrupt, terminate, hangup] = &mut self.ends;
        tokio::select! {
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
            _ = hangup.recv() => true,
            _ = self.resized.recv() => false,
        }
    }
}

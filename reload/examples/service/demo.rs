//! The demo: one operator, one caller whose connection outlives every reload, and what they see.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reload::outcome::{ComponentResult, Kind};
use reload::signal::Signal;
use reload::{Aim, Generation, Origin, Outcome, Reload, Trigger};
use signal_hook::consts::SIGHUP;
use signal_hook::low_level::raise;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::files::replace;
use crate::{obey, start};

/// Longer than anything here takes on the slowest machine; a demo that hangs is to fail.
const AT_MOST: Duration = Duration::from_secs(60);

/// Somebody who is connected.
struct Caller(BufReader<TcpStream>);

impl Caller {
    async fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address).await?)))
    }

    /// Says a line and hears one.
    async fn say(&mut self, line: &str) -> String {
        self.0.write_all(format!("{line}\n").as_bytes()).await.expect("the connection is open");
        let mut answer = String::new();
        self.0.read_line(&mut answer).await.expect("the connection is open");
        println!("  caller: {line:?} is answered {:?}", answer.trim_end());
        answer.trim_end().to_owned()
    }
}

/// A folder of its own that goes when the demo ends, well or not.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("reload-service-{}", std::process::id()));
        fs::create_dir(&folder).expect("the folder for temporary files can be written");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What an operator does with an editor.
fn edit(conf: &Path, greeting: &str, listen: SocketAddr) {
    println!("operator: writes greeting {greeting:?}, listen {listen}");
    let text = format!(
        "{{\n  \"budget_ms\": 1000,\n  \"phrasebook\": {{\"greeting\": \"{greeting}\"}},\n  \"greeter\": {{\"listen\": \"{listen}\"}}\n}}\n"
    );
    replace(conf, &text).expect("the demo's own folder can be written");
}

/// What an operator does with `kill -HUP`.
async fn hangup(outcomes: &mut mpsc::Receiver<Outcome>) -> Outcome {
    println!("operator: kill -HUP");
    raise(SIGHUP).expect("a process may signal itself");
    outcomes.recv().await.expect("the engine lives as long as the process")
}

/// A loopback address that is free, held for as long as the listener lives.
fn somebody_elses() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// Runs the demo; panics where something is not as the README promises.
pub(crate) async fn run(signals: impl futures::Stream<Item = Signal> + Unpin + 'static) {
    let folder = Folder::new();
    tokio::time::timeout(AT_MOST, play(&folder.0.join("service.json"), signals))
        .await
        .expect("the demo hangs");
}

async fn play(conf: &Path, signals: impl futures::Stream<Item = Signal> + Unpin + 'static) {
    let (_, first) = somebody_elses();
    edit(conf, "Hello, {name}!", first);
    let (told, mut outcomes) = mpsc::channel(8);
    let (coordinator, board) = start(conf.to_owned(), told).expect("the first configuration is good");
    let obeying = actix::spawn(obey(signals, coordinator.clone()));
    let mut caller = Caller::connect(first).await.expect("the greeter listens");
    assert_eq!(caller.say("Ada").await, "Hello, Ada!");

    println!("\n--- Only what changed is told, and the open connection sees it");
    edit(conf, "Good morning, {name}.", first);
    let outcome = hangup(&mut outcomes).await;
    assert_eq!((outcome.outcome, outcome.config_generation.get()), (Kind::Committed, 2));
    assert_eq!(outcome.components.len(), 1, "the greeter was sent nothing");
    assert_eq!(caller.say("Ada").await, "Good morning, Ada.");

    println!("\n--- A file that is wrong is rejected before anybody is told");
    edit(conf, "Good morning!", first);
    let outcome = hangup(&mut outcomes).await;
    assert_eq!(outcome.outcome, Kind::Rejected);
    assert_eq!(outcome.errors[0].path.as_deref(), Some("phrasebook.greeting"));
    assert_eq!(caller.say("Ada").await, "Good morning, Ada.");

    println!("\n--- One component that cannot takes all of them back");
    let (holder, second) = somebody_elses();
    edit(conf, "Good evening, {name}.", second);
    let outcome = hangup(&mut outcomes).await;
    assert_eq!((outcome.outcome, outcome.config_generation.get()), (Kind::RolledBack, 2));
    assert!(outcome.components.iter().all(|told| told.result == ComponentResult::RolledBack));
    assert!(outcome.duration_ms < 1000.0, "half of the budget is for trying, the rest for the way back");
    assert_eq!(caller.say("Ada").await, "Good morning, Ada.");

    println!(
        "\n--- The same file is taken over when the port is free; `/reload` is answered with the outcome"
    );
    drop(holder);
    let answer = caller.say("/reload").await;
    assert_eq!(answer, "committed, generation 3");
    outcomes.recv().await.expect("told here as well");
    assert_eq!(caller.say("Ada").await, "Good evening, Ada.", "accepted at the old address, and still open");
    assert_eq!(
        Caller::connect(second).await.expect("the new door is open").say("Bob").await,
        "Good evening, Bob."
    );
    Caller::connect(first).await.err().expect("the old door is closed");

    println!("\n--- Back to the first generation, as a new one; the file says so too");
    let origin = Origin { trigger: Trigger::Rollback, actor: None, note: Some("too formal".to_owned()) };
    let back = Reload { aim: Aim::Generation(Generation::FIRST), ..Reload::new(origin) };
    let outcome: Arc<Outcome> = coordinator.send(back).await.expect("it lives").expect("it takes requests");
    assert_eq!((outcome.outcome, outcome.config_generation.get()), (Kind::Committed, 4));
    outcomes.recv().await.expect("told here as well");
    assert_eq!(caller.say("Ada").await, "Hello, Ada!");
    assert_eq!(caller.say("/reload").await, "unchanged, generation 4", "the file says what runs");

    println!("\n--- The history");
    let history = conf.with_file_name("history");
    let audit = fs::read_to_string(history.join("audit.jsonl")).expect("it was written");
    let attempts: Vec<Outcome> =
        audit.lines().map(|line| serde_json::from_str(line).expect("an outcome")).collect();
    for attempt in &attempts {
        println!(
            "  {} by {}, generation {}",
            attempt.outcome.as_str(),
            attempt.trigger.as_str(),
            attempt.config_generation
        );
    }
    assert_eq!(attempts.len(), 6);
    assert!((1..=4).all(|generation| history.join(format!("{generation}.json")).exists()));
    assert_eq!(board.read().generation.get(), 4);

    raise(signal_hook::consts::SIGTERM).expect("a process may signal itself");
    obeying.await.expect("it stops when it is told to");
    println!("stopped");
}

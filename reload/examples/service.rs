//! A small service that never restarts: a greeter answers lines over TCP, with a phrase that it finds in a phrasebook.
//!
//! ```sh
//! cargo run -p reload --example service            # the demo: edits a file, reloads, asserts what happened, ends
//! cargo run -p reload --example service -- FILE    # serves FILE until SIGTERM; SIGHUP or the line `/reload` reloads
//! ```
//!
//! FILE: `{"budget_ms": 1000, "phrasebook": {"greeting": "Hello, {name}!"}, "greeter": {"listen": "127.0.0.1:7000"}}`

#[cfg(unix)]
#[path = "service/demo.rs"]
mod demo;
#[path = "service/files.rs"]
mod files;
#[path = "service/greeter.rs"]
mod greeter;
#[path = "service/phrasebook.rs"]
mod phrasebook;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::Addr;
use arc_swap::ArcSwap;
use reload::events::{Event, Sink};
use reload::outcome::Kind;
use reload::{
    ActorComponent, Board, Coordinator, Generation, Link, Live, Origin, Outcome, Parts, Problem, Site,
    Trigger,
};
use tokio::sync::mpsc;

use files::{Config, Files};
use greeter::{Greeter, Shared, bind, said};
use phrasebook::Phrasebook;

/// Where a reload is asked for.
type ToCoordinator = Addr<Coordinator<Config>>;

/// What the engine asks about connections. None is ever closed by a reload here.
impl Site<Config> for Shared {
    fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// Where the engine's events go: metrics would be counted here. It prints, and passes on to whoever listens.
struct Printer(mpsc::Sender<Outcome>);

impl Sink for Printer {
    fn emit(&self, event: &Event<'_>) {
        if let Event::Finished(outcome) = event {
            println!("service: {} (by {})", said(outcome), outcome.trigger.as_str());
            // Must not block: with nobody there, or nobody who reads, it is dropped.
            let _ = self.0.try_send(Outcome::clone(outcome));
        }
    }
}

/// Starts the service on what `conf` says. The board shows at any time what runs and what is going on.
fn start(conf: PathBuf, told: mpsc::Sender<Outcome>) -> Result<(ToCoordinator, Arc<Board>), Vec<Problem>> {
    let files = Arc::new(Files::beside(conf));
    let config = Arc::new(files.read(&files.conf)?);
    let listener = bind(config.greeter.listen).map_err(|error| vec![error.into_problem("greeter")])?;
    files.begin(&config);

    let phrase = Live::new(Arc::new(config.phrasebook.phrase()));
    let shared = Shared { phrase: phrase.clone(), open: Arc::default(), coordinator: Arc::default() };
    let phrasebook = Link::new(Phrasebook::start(Arc::clone(&config.phrasebook), &phrase));
    let greeter = Link::new(Greeter::start(Arc::clone(&config.greeter), listener, shared.clone()));

    let origin = Origin { trigger: Trigger::Startup, actor: None, note: None };
    let (first, started) = (Generation::FIRST, Kind::Committed);
    let board = Board::new(Arc::new(Outcome::bare(started, first, first, origin)), None);
    let coordinator = Coordinator::start_apart(Parts {
        components: vec![
            Box::new(
                ActorComponent::new(phrasebook, &[], |config: &Config| &config.phrasebook)
                    // If it hangs it is left behind, and this starts a successor.
                    .replaceable(move |section| Phrasebook::start(section, &phrase)),
            ),
            // Told after the phrasebook, and on the way back before it.
            Box::new(ActorComponent::new(greeter, &["phrasebook"], |config: &Config| &config.greeter)),
        ],
        source: Arc::clone(&files) as _,
        recorder: files,
        site: Arc::new(shared.clone()),
        sink: Arc::new(Printer(told)),
        board: Arc::clone(&board),
        current: Arc::new(ArcSwap::new(config)),
        generation: first,
        unconfirmed: None,
    });
    // Fails only if dependencies are declared in a circle or on nobody.
    let coordinator = coordinator.map_err(|error| vec![Problem::at("components", error.to_string())])?;
    let _ = shared.coordinator.set(coordinator.clone());
    Ok((coordinator, board))
}

/// Passes signals on until one says stop, and returns when the transaction that runs has ended.
#[cfg(unix)]
async fn obey(
    mut signals: impl futures::Stream<Item = reload::signal::Signal> + Unpin,
    coordinator: ToCoordinator,
) {
    use futures::StreamExt as _;
    use reload::Reload;
    use reload::signal::Signal;

    while let Some(Signal::Reload(sender)) = signals.next().await {
        let origin = Origin { trigger: Trigger::Signal, actor: Some(sender.to_string()), note: None };
        coordinator.do_send(Reload::new(origin));
    }
    let _ = coordinator.send(reload::Stop).await;
}

fn main() -> ExitCode {
    let file = std::env::args_os().nth(1).map(PathBuf::from);
    actix::System::new().block_on(async {
        // Before anything else: a SIGHUP that comes while the file is read must not end the process.
        #[cfg(unix)]
        let signals = reload::signal::listen().expect("signal handlers can be registered in a new process");
        let Some(file) = file else {
            #[cfg(unix)]
            demo::run(signals).await;
            #[cfg(not(unix))]
            println!("the demo sends itself SIGHUP, which there is not here; name a file to serve");
            return ExitCode::SUCCESS;
        };
        let coordinator = match start(file, mpsc::channel(1).0) {
            Ok((coordinator, _)) => coordinator,
            Err(problems) => {
                problems.iter().for_each(|problem| eprintln!("{problem}"));
                return ExitCode::FAILURE;
            }
        };
        #[cfg(unix)]
        obey(signals, coordinator).await;
        // Without SIGHUP `/reload` is the way (R26); Ctrl-C stops.
        #[cfg(not(unix))]
        {
            let _ = tokio::signal::ctrl_c().await;
            let _ = coordinator.send(reload::Stop).await;
        }
        ExitCode::SUCCESS
    })
}

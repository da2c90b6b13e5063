//! The command line (contract: "Command line").

mod ask;
mod check;
mod files;
mod peers;
mod render;
mod run;

use std::collections::HashSet;
use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reload::Generation;
use storage::document::units::Span;
use storage::{Signpost, Whereabouts};

use crate::client::Client;
use crate::config::Loose;

/// The configuration where none is named.
const DEFAULT_CONFIG: &str = "conf.yaml";

/// Exit code: something is wrong with a file, or what was asked for was refused.
const REFUSED: u8 = 1;
/// Exit code: a bug, or a machine that fails.
const INTERNAL: u8 = 70;
/// Exit code: no node answers.
const NO_NODE: u8 = 5;

/// A federation node that never restarts to change its mind.
#[derive(Debug, Parser)]
#[command(name = "fednode", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// The configuration [env: FEDNODE_CONFIG] [default: conf.yaml]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin socket of the node to ask [env: FEDNODE_SOCKET] [default: what the configuration says]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON, for machines
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "Examples:
  fednode init                 write conf.yaml with a new key, and an empty peers.yaml
  fednode                      run the node in this folder
  fednode check                judge conf.yaml and peers.yaml
  fednode check --against running
                               what would change, and which connections would close
  fednode reload               make the running node take the edited files over, and wait
  fednode reload --confirm 5m  the same, and go back by itself unless `fednode confirm` comes in time
  fednode rollback             make the generation before current again
  fednode peers add KEY /dns4/node1.example.com/tcp/9000
                               write a member into peers.yaml and take it over
  fednode demo                 see a federation reload";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node in the foreground (also without any subcommand)
    Run {
        /// Where the files are refused: start from the newest generation that runs, degraded
        #[arg(long)]
        last_known_good: bool,
    },
    /// Write conf.yaml with a new key, and peers.yaml; never overwrites
    Init,
    /// Judge the configuration: every error at once
    Check {
        /// Show what would change against this file, or against what the node runs
        #[arg(long, value_name = "FILE|running")]
        against: Option<String>,
    },
    /// Show what runs against what the files say
    Diff,
    /// Make the running node take its files over, and wait for the outcome
    Reload {
        /// Only show what would happen
        #[arg(long)]
        dry_run: bool,
        /// Go back by itself after this long (5m, 90s), unless `fednode confirm` comes in time
        #[arg(long, value_name = "TIME", conflicts_with = "dry_run", value_parser = confirm_within)]
        confirm: Option<Span>,
        /// Why, for the audit log
        #[arg(short, long, value_name = "WHY")]
        message: Option<String>,
    },
    /// Keep what `reload --confirm` made current
    Confirm {
        /// Why, for the audit log
        #[arg(short, long, value_name = "WHY")]
        message: Option<String>,
    },
    /// Make an older generation current, and the files say what it said
    Rollback {
        /// Which one [default: the newest before this one with other contents]
        #[arg(value_name = "N")]
        generation: Option<Generation>,
        /// Only show what would happen
        #[arg(long)]
        dry_run: bool,
        /// Why, for the audit log
        #[arg(short, long, value_name = "WHY")]
        message: Option<String>,
    },
    /// Show the generations that ran
    History {
        /// How many
        #[arg(value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Show what the node does
    Status,
    /// Show, add and remove members: in peers.yaml and in the running node, if there is one
    Peers {
        #[command(subcommand)]
        command: Option<peers::Peers>,
    },
    /// Show which services are exposed and connected, and what goes through them
    Services,
    /// Show who this node is
    Id,
    /// Make a new key pair
    Keygen,
    /// Four members, some edits, and what becomes of their connections
    Demo,
}

/// The options that every command has.
struct Common {
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
    json: bool,
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { config, socket, json, command } = Cli::parse();
    let common = Common {
        config: config.or_else(|| from_environment("FEDNODE_CONFIG")),
        socket: socket.or_else(|| from_environment("FEDNODE_SOCKET")),
        json,
    };
    match command.unwrap_or(Command::Run { last_known_good: false }) {
        Command::Run { last_known_good } => run::run(common.config, last_known_good),
        Command::Init => files::init(&common),
        Command::Id => files::id(&common),
        Command::Keygen => files::keygen(&common),
        Command::Check { against: None } => check::check(&common),
        Command::Check { against: Some(other) } if other == "running" => {
            on_runtime(check::against_running(&common))
        }
        Command::Check { against: Some(other) } => check::against_file(&common, Path::new(&other)),
        Command::Diff => on_runtime(ask::diff(&common)),
        Command::Reload { dry_run, confirm, message } => {
            on_runtime(ask::reload(&common, dry_run, confirm, message))
        }
        Command::Confirm { message } => on_runtime(ask::confirm(&common, message)),
        Command::Rollback { generation, dry_run, message } => {
            on_runtime(ask::rollback(&common, generation, dry_run, message))
        }
        Command::History { limit } => on_runtime(ask::history(&common, limit)),
        Command::Status => on_runtime(ask::status(&common)),
        Command::Peers { command } => on_runtime(peers::run(&common, command.unwrap_or(peers::Peers::List))),
        Command::Services => on_runtime(ask::services(&common)),
        Command::Demo => on_runtime(crate::demo::run(common.json)),
    }
}

/// A time to confirm in that is worth something.
fn confirm_within(text: &str) -> Result<Span, String> {
    let span: Span = text.parse().map_err(|error| format!("{error}"))?;
    if crate::admin::CONFIRM.contains(&span.0) {
        return Ok(span);
    }
    Err(format!("from {} to {}", Span(*crate::admin::CONFIRM.start()), Span(*crate::admin::CONFIRM.end())))
}

/// A path from the environment; set to nothing means not set.
fn from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn on_runtime(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => {
            eprintln!("Error: cannot start: {error}");
            ExitCode::from(INTERNAL)
        }
    }
}

/// Prints to stdout. A reader that has gone away (`| head`) is no error; a full disk is, because what was asked for is lost.
fn print(text: &str) {
    let mut stdout = std::io::stdout();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        eprintln!("Error: the output cannot be written: {error}");
        std::process::exit(INTERNAL.into());
    }
}

fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => eprintln!("Error: {error}"),
    }
}

// === impl Common ===

impl Common {
    fn config(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG))
    }

    /// The sockets to try, in order (contract: "Where clients look").
    fn sockets(&self) -> Vec<PathBuf> {
        if let Some(socket) = &self.socket {
            return vec![socket.clone()];
        }
        let config = self.config();
        let folder = config.parent().unwrap_or(Path::new("")).to_owned();
        let beside = folder.join("data").join("admin.sock");
        let mut sockets = match Loose::read(&config).filter(Loose::is_yaml) {
            // An edited file may name the socket of a reload that is still to come. Only one node holds a data folder's lock, so
            // whatever socket is served in there is that node's.
            Some(said) => std::iter::once(said.socket()).chain(sockets_in(&said.data_dir())).collect(),
            None => vec![beside],
        };
        // Or the folder, and then the node is still where it was.
        if let Ok(Some(Whereabouts { data_dir, moving_to })) = Signpost::beside(&config).read() {
            sockets.extend([Some(data_dir), moving_to].into_iter().flatten().flat_map(|at| sockets_in(&at)));
        }
        let mut seen = HashSet::new();
        sockets.retain(|socket| seen.insert(socket.clone()));
        sockets
    }

    /// A client of the first socket on which somebody listens.
    fn find_client(&self) -> Option<Client> {
        let sockets = self.sockets();
        sockets.iter().find(|socket| storage::socket_path::connect(socket).is_ok()).map(Client::new)
    }

    /// The same, with the message that nothing answers.
    fn client(&self) -> Result<Client, ExitCode> {
        self.find_client().ok_or_else(|| {
            let given = self.socket.as_ref().map_or("not given".to_owned(), |s| s.display().to_string());
            let config = self.config();
            let folder = config.parent().unwrap_or(Path::new(""));
            let beside = folder.join("data").join("admin.sock");
            let (said, tried) = match Loose::read(&config).filter(Loose::is_yaml) {
                Some(said) if said.socket() == beside => (beside.display().to_string(), ""),
                Some(said) => (said.socket().display().to_string(), ", which is only where that cannot be read"),
                None => ("cannot be read".to_owned(), ""),
            };
            eprintln!(
                "Error: no node answers. Looked at: --socket or FEDNODE_SOCKET ({given}); admin.socket in {} ({said}); {} \
                 beside it{tried} (is the node running?)",
                config.display(),
                beside.display(),
            );
            ExitCode::from(NO_NODE)
        })
    }
}

/// The sockets in a folder, by name.
fn sockets_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    let mut sockets: Vec<PathBuf> = sockets.map(|entry| entry.path()).collect();
    sockets.sort();
    sockets
}

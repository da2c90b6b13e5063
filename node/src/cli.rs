//! The command line (contract: "Command line").

mod ask;
mod check;
mod examples;
mod excerpt;
mod files;
mod generate;
mod peers;
mod probe;
mod progress;
mod render;
mod run;
mod token;
mod watch;

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
#[command(name = "fednode", version, max_term_width = 100, after_help = examples::FEDNODE)]
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

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node in the foreground (also without any subcommand)
    #[command(after_help = examples::RUN)]
    Run {
        /// Where the files are refused: start from the newest generation that runs, degraded
        #[arg(long)]
        last_known_good: bool,
    },
    /// Write conf.yaml with a new key, and peers.yaml; never overwrites
    #[command(after_help = examples::INIT)]
    Init,
    /// Judge the configuration: every error at once
    #[command(after_help = examples::CHECK)]
    Check {
        /// Show what would change against this file, or against what the node runs
        #[arg(long, value_name = "FILE|running")]
        against: Option<String>,
        /// Also try from here what the files name: services' targets, members' names and addresses. What fails is a warning
        #[arg(long)]
        probe: bool,
    },
    /// Show what runs against what the files say
    #[command(after_help = examples::DIFF)]
    Diff,
    /// Make the running node take its files over, and wait for the outcome
    #[command(after_help = examples::RELOAD)]
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
    #[command(after_help = examples::CONFIRM)]
    Confirm {
        /// Why, for the audit log
        #[arg(short, long, value_name = "WHY")]
        message: Option<String>,
    },
    /// Make an older generation current, and the files say what it said
    #[command(after_help = examples::ROLLBACK)]
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
    #[command(after_help = examples::HISTORY)]
    History {
        /// How many
        #[arg(value_name = "N", default_value_t = 20)]
        limit: usize,
    },
    /// Show what the node does
    #[command(after_help = examples::STATUS)]
    Status {
        /// Live, until Ctrl-C
        #[arg(short, long)]
        watch: bool,
    },
    /// Show, add and remove members: in peers.yaml and in the running node, if there is one
    #[command(after_help = examples::PEERS)]
    Peers {
        #[command(subcommand)]
        command: Option<peers::Peers>,
    },
    /// Show which services are exposed and connected, and what goes through them
    #[command(after_help = examples::SERVICES)]
    Services,
    /// Show who this node is
    #[command(after_help = examples::ID)]
    Id,
    /// Make a new key pair
    #[command(after_help = examples::KEYGEN)]
    Keygen,
    /// Mint a token (JWT) for the HTTP API, with the key of admin.jwt
    #[command(after_help = examples::TOKEN)]
    Token {
        /// What it says, besides what admin.jwt.claims demands; repeat for more
        #[arg(long, value_name = "NAME=VALUE", value_parser = token::given)]
        claim: Vec<token::Given>,
        /// How long it is good
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = token::ttl)]
        ttl: Span,
        /// The private key (PEM), where admin.jwt has only the public one: RS256, ES256, EdDSA
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Print the JSON Schema of a file, for editors
    #[command(after_help = examples::SCHEMA)]
    Schema {
        /// Of which file
        #[arg(value_enum, default_value = "conf")]
        file: generate::Described,
    },
    /// Print completions for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, docs/man/fednode.1
    #[command(hide = true)]
    Man,
    /// Print the configuration reference, docs/configuration.md
    #[command(hide = true)]
    Reference,
    /// Four members, some edits, and what becomes of their connections
    #[command(after_help = examples::DEMO)]
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
        Command::Check { against: None, probe } => check::check(&common, probe),
        Command::Check { against: Some(other), probe } if other == "running" => {
            on_runtime(check::against_running(&common, probe))
        }
        Command::Check { against: Some(other), probe } => {
            check::against_file(&common, Path::new(&other), probe)
        }
        Command::Diff => on_runtime(ask::diff(&common)),
        Command::Reload { dry_run, confirm, message } => {
            on_runtime(ask::reload(&common, dry_run, confirm, message))
        }
        Command::Confirm { message } => on_runtime(ask::confirm(&common, message)),
        Command::Rollback { generation, dry_run, message } => {
            on_runtime(ask::rollback(&common, generation, dry_run, message))
        }
        Command::History { limit } => on_runtime(ask::history(&common, limit)),
        Command::Status { watch: false } => on_runtime(ask::status(&common)),
        Command::Status { watch: true } => on_runtime(watch::watch(&common)),
        Command::Peers { command } => on_runtime(peers::run(&common, command.unwrap_or(peers::Peers::List))),
        Command::Services => on_runtime(ask::services(&common)),
        Command::Token { claim, ttl, key } => token::token(&common, &claim, ttl, key.as_deref()),
        Command::Schema { file } => generate::schema(file),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man => generate::manual(),
        Command::Reference => generate::reference(),
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
    on_runtime_of(command).unwrap_or(ExitCode::from(INTERNAL))
}

/// What comes of it; nothing, and said on stderr, where the machine has no room for a runtime.
fn on_runtime_of<T>(command: impl Future<Output = T>) -> Option<T> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Some(runtime.block_on(command)),
        Err(error) => {
            eprintln!("Error: cannot start: {error}");
            None
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
        if let Ok(Some(Whereabouts { data_dir, moving_to, .. })) = Signpost::beside(&config).read() {
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

//! A node seen from outside.
//!
//! - By default, or by `--all`: all figures of this list but `--hang`, `--soak`, `--messages` and `--growth`, each beside its floor or its
//!   peer, in one table; `--baseline` compares with figures that were stored.
//! - `--reload`: how long a reload takes, from SIGHUP to the moment a new listener accepts, and to the moment the outcome can be
//!   read in the audit log, beside the floor of the same run (parsing `peers.yaml`, one durable write), by what has changed.
//! - `--growth 8,32,128,512`: what reloads, peer exchange and memory cost in federations of so many members, and by which power they grow.
//! - `--rollback N`: how long a reload takes in which a component fails, for each component and step.
//! - `--start N`: how long a node takes to be ready, beside bare libp2p.
//! - `--hang N`: how long a reload takes in which a component never answers, N times: is the budget kept?
//! - `--soak N`: N reloads, good and bad mixed, as fast as they go: are memory, descriptors and threads flat?
//! - `--data N`: throughput, round trips and the cost of reloads, beside bare libp2p, in N turns.
//! - `--tunnel N`: throughput of a service, beside a bare libp2p stream and socat, in N turns.
//! - `--messages N`: N messages on a topic of three nodes and N direct ones, by HTTP, without reloads and with.
//! - `--exchange 8,64`: bytes of peer exchange, whole and of what is new, between two that know 64, 512 and 10,000 peers; and what one
//!   change of address costs each of so many nodes.
//! - `--store 8,512`: what `peers.yaml` and `known.yaml` cost with so many peers: load, validate, edit, merge, save, memory.
//! - `--mesh 8,64`: how soon so many nodes are connected, and what a connection costs, beside bare libp2p.
//!
//! `docs/bench.md` says how to read each. `cargo build --release -p fednode && cargo build --release -p fednode-tests --bins`, then
//! `target/release/bench --help`. Built without `--release`, the floor is an unoptimised parser's, and too high: the ratio flatters.

mod all;
mod baseline;
mod changed;
mod data;
mod exchange;
mod figure;
mod floor;
mod growth;
mod hang;
mod look;
mod mesh;
mod messages;
mod observe;
mod options;
mod peer;
mod reload;
mod rollback;
mod samples;
mod soak;
mod start;
mod store;
mod tunnel;

use std::process::ExitCode;

use options::{Options, Subject};
use serde_json::Value;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("peer", arguments)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return if peer::run(arguments).is_some() { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    if let Some(("hold", arguments)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return if store::hold(arguments).is_some() { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let options = match Options::read(arguments.into_iter()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("{problem}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (report, table, is_good): (Value, String, bool) = runtime.block_on(async {
        match options.subject {
            Subject::All => all::run(&options).await,
            Subject::Growth => growth::run(&options, &options.members).await,
            Subject::Rollback(rounds) => rollback::run(&options, rounds).await,
            Subject::Start(rounds) => start::run(&options, rounds).await,
            Subject::Reloads => reload::run(&options).await,
            Subject::Hang(count) => hang::run(&options, count).await,
            Subject::Soak(count) => soak::run(&options, count).await,
            Subject::Data(turns) => data::run(&options, turns).await,
            Subject::Tunnel(turns) => tunnel::run(&options, turns).await,
            Subject::Messages(count) => messages::run(&options, count).await,
            Subject::Exchange => exchange::run(&options, &options.members).await,
            Subject::Store => store::run(&options.members),
            Subject::Mesh => mesh::run(&options, &options.members).await,
        }
    });
    if let Some(file) = &options.json_file
        && let Err(error) = std::fs::write(file, format!("{report:#}\n"))
    {
        eprintln!("{}: {error}", file.display());
        return ExitCode::FAILURE;
    }
    if options.json {
        println!("{report:#}");
    } else {
        println!("{table}");
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! A node seen from outside.
//!
//! - By default: how long a reload takes, from SIGHUP to the moment a new listener accepts, and to the moment the outcome can be
//!   read in the audit log, beside the floor of the same run (parsing `peers.yaml`, one durable write).
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
//! `cargo build --release && cargo run --release -p fednode-tests --bin bench -- --help`. Built without `--release`, the floor is
//! an unoptimised parser's, and too high: the ratio flatters.

mod data;
mod exchange;
mod floor;
mod hang;
mod look;
mod mesh;
mod messages;
mod observe;
mod options;
mod peer;
mod reload;
mod samples;
mod soak;
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
    if options.json {
        println!("{report:#}");
    } else {
        println!("{table}");
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! `fednode peers`: the members, shown and changed, by the running node or, without one, in the file.

use std::process::ExitCode;

use serde_json::{Value, json};
use storage::peers_file::edit::{Effect, Entry, Order};
use storage::peers_file::rewrite::Turn;
use storage::peers_file::{Context, PeersFile};
use storage::{Member, PeerKey};

use super::{Common, REFUSED, ask, print, print_json, render};
use crate::config::Loose;

/// What is to be done with the members.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Peers {
    /// Show the members (also without any subcommand)
    List,
    /// Add a member, or give one other addresses
    Add {
        /// Its public key (base64), or its peer id
        #[arg(value_name = "KEY")]
        key: PeerKey,
        /// Where it is reached, as /dns4/node1.example.com/tcp/9000
        #[arg(value_name = "ADDR")]
        addresses: Vec<String>,
        /// What people call it
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove a member: its connections are closed
    Remove {
        /// Its public key (base64), or its peer id
        #[arg(value_name = "KEY")]
        key: PeerKey,
    },
}

pub(super) async fn run(common: &Common, command: Peers) -> ExitCode {
    let is_running = common.find_client().is_some();
    match command {
        Peers::List if is_running => ask::peers(common).await,
        Peers::List => list_file(common),
        Peers::Add { key, addresses, name } if is_running => {
            let body = json!({"public_key": key, "addresses": addresses, "name": name});
            ask::add_peer(common, body.to_string().into_bytes()).await
        }
        Peers::Add { key, addresses, name } => in_file(common, Order::Set(Entry { key, addresses, name })),
        Peers::Remove { key } if is_running => ask::remove_peer(common, &key).await,
        Peers::Remove { key } => in_file(common, Order::Remove(key)),
    }
}

/// Changes the file of a node that does not run: it is judged when that starts.
fn in_file(common: &Common, order: Order) -> ExitCode {
    let config = common.config();
    let file = Loose::read(&config).unwrap_or_else(|| Loose::nothing(&config)).peers_file();
    let key = *order.key();
    let effect = match Turn::wait(&file).and_then(|turn| turn.rewrite(&[order], None)) {
        Ok(rewritten) => rewritten.effects.first().copied().unwrap_or(Effect::Unchanged),
        Err(error) => {
            eprintln!("Error: {error}");
            return ExitCode::from(REFUSED);
        }
    };
    let word = match effect {
        Effect::Added => "added",
        Effect::Changed => "changed",
        Effect::Unchanged => "unchanged",
        Effect::Removed => "removed",
    };
    if common.json {
        print_json(&json!({"effect": word, "public_key": key, "file": file, "running": false}));
    } else {
        print(&format!(
            "{word}: {key} in {} (no node runs; it counts from the next start)\n",
            file.display()
        ));
    }
    ExitCode::SUCCESS
}

fn list_file(common: &Common) -> ExitCode {
    let config = common.config();
    let file = Loose::read(&config).unwrap_or_else(|| Loose::nothing(&config)).peers_file();
    let read = PeersFile::read(&file, &file.display().to_string(), Context::default());
    let members = match read {
        Ok(read) => read.members,
        Err(error) => {
            for problem in &error.problems {
                eprintln!("{problem}");
            }
            return ExitCode::from(REFUSED);
        }
    };
    let members: Value = members.values().map(shown).collect();
    if common.json {
        print_json(&members);
    } else {
        print(&render::peers(&members));
        eprintln!("no node runs: this is what {} says", file.display());
    }
    ExitCode::SUCCESS
}

/// A member as `GET /admin/peers` shows it, of which no state is known.
fn shown(member: &Member) -> Value {
    json!({
        "public_key": member.key,
        "name": member.name,
        "state": null,
        "addresses": member.addresses,
        "last_error": null,
    })
}

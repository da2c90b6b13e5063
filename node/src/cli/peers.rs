//! `fednode peers`: the members, shown and changed, by the running node or, without one, in the file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use storage::peers_file::edit::{Effect, Entry, Order};
use storage::peers_file::rewrite::Turn;
use storage::peers_file::{Context, PeersFile};
use storage::{Member, PeerKey, Signpost};

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
    if common.find_client().is_some() {
        return match command {
            Peers::List => ask::peers(common).await,
            Peers::Add { key, addresses, name } => {
                let mut body = json!({"public_key": key, "name": name});
                if let Some(addresses) = given(addresses) {
                    body["addresses"] = addresses.into();
                }
                ask::add_peer(common, body.to_string().into_bytes()).await
            }
            Peers::Remove { key } => ask::remove_peer(common, &key).await,
        };
    }
    let done = without_node(common).and_then(|file| match command {
        Peers::List => list_file(common, &file),
        Peers::Add { key, addresses, name } => {
            in_file(common, &file, Order::Set(Entry { key, addresses: given(addresses), name }))
        }
        Peers::Remove { key } => in_file(common, &file, Order::Remove(key)),
    });
    done.map_or_else(
        |error| {
            eprintln!("Error: {error}");
            ExitCode::from(REFUSED)
        },
        |()| ExitCode::SUCCESS,
    )
}

/// None named: those that are there stay.
fn given(addresses: Vec<String>) -> Option<Vec<String>> {
    (!addresses.is_empty()).then_some(addresses)
}

/// The file of a node that does not run.
fn without_node(common: &Common) -> Result<PathBuf, String> {
    let config = common.config();
    let name = config.display();
    let Some(said) = Loose::read(&config) else {
        return Err(format!(
            "{name} cannot be read (name another with -c, or write one with `fednode init`)"
        ));
    };
    if !said.is_yaml() {
        return Err(format!(
            "{name} does not say where its peers are (`fednode check` says what is wrong in it)"
        ));
    }
    // One that is stopped, or whose socket is gone, would never hear of the change.
    let signpost = Signpost::beside(&config).read().ok().flatten();
    let folders = [Some(said.data_dir()), signpost.map(|at| at.data_dir)];
    for folder in folders.into_iter().flatten() {
        if let Some(pid) = storage::lock::holder(&folder) {
            return Err(format!(
                "a node (pid {pid}) runs on {} and does not answer; nothing was done (is it stopped?)",
                folder.display()
            ));
        }
    }
    Ok(said.peers_file())
}

/// Changes the file: it is judged when the node starts.
fn in_file(common: &Common, file: &Path, order: Order) -> Result<(), String> {
    let key = *order.key();
    let rewritten = Turn::wait(file).and_then(|turn| turn.rewrite(&[order], None));
    let rewritten = rewritten.map_err(|error| error.to_string())?;
    let word = match rewritten.effects.first() {
        Some(Effect::Added) => "added",
        Some(Effect::Changed) => "changed",
        Some(Effect::Removed) => "removed",
        Some(Effect::Unchanged) | None => "unchanged",
    };
    if common.json {
        print_json(&json!({"effect": word, "public_key": key, "file": file, "running": false}));
    } else {
        print(&format!(
            "{word}: {key} in {} (no node runs; it counts from the next start)\n",
            file.display()
        ));
    }
    Ok(())
}

fn list_file(common: &Common, file: &Path) -> Result<(), String> {
    let read = PeersFile::read(file, &file.display().to_string(), Context::default());
    let members: Value = match read {
        Ok(read) => read.members.values().map(shown).collect(),
        Err(error) => {
            let lines: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
            return Err(lines.join("\n"));
        }
    };
    if common.json {
        print_json(&members);
    } else {
        print(&render::peers(&json!({"members": members})));
        eprintln!("no node runs: this is what {} says", file.display());
    }
    Ok(())
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

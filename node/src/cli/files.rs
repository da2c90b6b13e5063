//! `fednode init`, `id` and `keygen`: commands that need no node.

use std::process::ExitCode;

use net::Identity;
use serde_json::json;

use super::{Common, REFUSED, print, print_json};
use crate::config::{self, Config, LoadOptions, default_config_text, host_has_ipv6};

/// Writes `conf.yaml` with a new key, and `peers.yaml`.
pub(super) fn init(common: &Common) -> ExitCode {
    let path = common.config();
    let peers = path.with_file_name("peers.yaml");
    if let Some(there) = [&path, &peers].into_iter().find(|path| path.symlink_metadata().is_ok()) {
        eprintln!("Error: {} is there already; nothing was written", there.display());
        return ExitCode::from(REFUSED);
    }
    let identity = Identity::generate();
    let text = default_config_text(&identity, host_has_ipv6());
    let written = storage::atomic::create(&path, text.as_bytes())
        .and_then(|()| storage::atomic::create(&peers, config::DEFAULT_PEERS.as_bytes()));
    if let Err(error) = written {
        eprintln!("Error: {error}");
        return ExitCode::from(REFUSED);
    }
    show(common, &identity, false);
    ExitCode::SUCCESS
}

/// Shows who the node is.
pub(super) fn id(common: &Common) -> ExitCode {
    match Config::load(&common.config(), None, LoadOptions::default()) {
        Ok(loaded) if loaded.temporary_key => {
            eprintln!(
                "Error: {} holds no key yet; the node generates one when it starts, and `fednode init` writes one",
                common.config().display()
            );
            ExitCode::from(REFUSED)
        }
        Ok(loaded) => {
            show(common, loaded.config.identity(), false);
            ExitCode::SUCCESS
        }
        Err(rejection) => {
            eprintln!("{}", config::problems_text(&rejection.problems));
            ExitCode::from(REFUSED)
        }
    }
}

/// Makes a key pair.
pub(super) fn keygen(common: &Common) -> ExitCode {
    show(common, &Identity::generate(), true);
    ExitCode::SUCCESS
}

fn show(common: &Common, identity: &Identity, with_secret: bool) {
    let (key, peer) = (identity.public_key(), identity.peer_id());
    if common.json {
        let mut value = json!({"public_key": key, "peer_id": peer.to_string()});
        if with_secret {
            value["private_key"] = identity.to_text().into();
        }
        return print_json(&value);
    }
    if with_secret {
        print(&format!("private_key: {}\n", identity.to_text()));
    }
    print(&format!("public_key: {key}\npeer_id: {peer}\n"));
}

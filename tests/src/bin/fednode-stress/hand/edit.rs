//! What becomes of the files.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::{Hand, certificate};
use crate::action::{Conflict, Wrong};
use crate::schedule::watches;
use crate::world::World;

/// What every configuration of a run has in common: what the harness relies on.
pub(crate) fn tune(conf: &mut Value, world: &World, index: usize) {
    let reload = &mut conf["reload"];
    reload["budget"] = json!(humantime::format_duration(world.scenario.budget).to_string());
    reload["watch"] = json!(watches(index));
    reload["settle"] = json!("300ms");
    // A node that comes back finds its place, and soon: what is left out of a run was not tested in it.
    conf["network"]["limits"]["connections"] = json!(1024);
    conf["network"]["limits"]["connections_per_peer"] = json!(4);
    conf["network"]["limits"]["pending_incoming"] = json!(64);
    conf["peers"]["reconnect_min"] = json!("100ms");
    conf["peers"]["reconnect_max"] = json!("1s");
    // A partition is noticed within two of them.
    conf["protocol"]["ping_interval"] = json!("5s");
    conf["admin"]["jwt"] = json!({"algorithm": "HS256", "secret_file": "jwt.secret"});
    conf["admin"]["tls"] = json!({"certificate": certificate::FILE, "private_key": certificate::FILE});
    if conf["logging"]["level"] == "debug" {
        // What happened is looked up in the log; libp2p's own is megabytes.
        conf["logging"]["targets"] = json!({"libp2p": "info", "yamux": "info", "hickory_resolver": "info"});
    }
}

/// Writes a secret in the way of a person who knows how.
pub(crate) fn write_secret(folder: &Path, secret: &str) -> io::Result<()> {
    replace(&folder.join("jwt.secret"), secret)
}

// === impl Hand ===

impl Hand {
    /// Writes other valid files.
    pub(super) fn write_valid(&mut self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut conf = self.author.conf(&mut random);
        tune(&mut conf, &self.world, self.index);
        let peers = self.author.peers(&mut random);
        let Some(node) = &mut self.node else { return };
        let spec = node.spec_mut();
        (spec.conf, spec.peers) = (conf, peers);
        self.write();
    }

    /// Writes what stands in the spec, without the members that are to be forgotten and the services that are reached at them.
    pub(super) fn write(&mut self) {
        let gone: Vec<&str> =
            self.removed.keys().map(|index| self.world.places[*index].key.as_str()).collect();
        let is_there = |key: &Value| !gone.iter().any(|gone| *key == *gone);
        let Some(node) = &mut self.node else { return };
        let spec = node.spec_mut();
        if let Some(peers) = spec.peers["peers"].as_array_mut() {
            peers.retain(|peer| is_there(&peer["public_key"]));
        }
        if let Some(connect) = spec.conf["protocol"]["services"]["connect"].as_array_mut() {
            connect.retain(|service| is_there(&service["peer"]));
        }
        spec.write();
    }

    /// The same values in other words.
    pub(super) fn write_in_other_words(&self, seed: u64) -> io::Result<()> {
        let Some(node) = &self.node else { return Ok(()) };
        let spec = node.spec();
        let text = serde_yaml::to_string(&spec.conf).map_err(io::Error::other)?;
        replace(&spec.conf_path(), &format!("# {seed}\n{text}"))
    }

    /// Writes what must be refused; never the same bytes twice, of which whoever watches makes nothing.
    pub(super) fn write_wrong(&self, wrong: Wrong, seed: u64) -> io::Result<()> {
        let Some(node) = &self.node else { return Ok(()) };
        let spec = node.spec();
        let mut conf = spec.conf.clone();
        match wrong {
            Wrong::Key => conf["network"]["adresses"] = json!([]),
            Wrong::Value => conf["peers"]["connection_timeout"] = json!("0s"),
            Wrong::CutOff => {
                let text = conf.to_string();
                let at = StdRng::seed_from_u64(seed).random_range(text.len() / 4..text.len() * 3 / 4);
                return fs::write(spec.conf_path(), text.get(..at).unwrap_or("{"));
            }
            Wrong::Peers => {
                return fs::write(spec.peers_path(), format!("peers:\n  - public_key: \"{seed}\"\n"));
            }
            Wrong::Empty => return fs::write(spec.conf_path(), format!("# {seed}\n")),
        }
        replace(&spec.conf_path(), &format!("{conf}\n# {seed}\n"))
    }

    /// Writes what cannot be had.
    pub(super) fn write_conflict(&self, conflict: Conflict, seed: u64) -> io::Result<()> {
        let Some(node) = &self.node else { return Ok(()) };
        let spec = node.spec();
        let mut conf = spec.conf.clone();
        match conflict {
            Conflict::Port => {
                let addresses = conf["network"]["addresses"].as_array_mut();
                addresses.expect("the author writes a list").push(json!(self.taken.port.loopback()));
            }
            Conflict::Identity => {
                conf["node"]["private_key"] = json!(fednode_tests::Keys::generate().private_key);
            }
            Conflict::Generation => {}
        }
        replace(&spec.conf_path(), &format!("{conf}\n# {seed}\n"))
    }
}

pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("next");
    let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&beside);
    io::Write::write_all(&mut file?, text.as_bytes())?;
    fs::rename(beside, path)
}

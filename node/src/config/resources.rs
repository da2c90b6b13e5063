//! What the machine must have for a configuration to run: free ports, writable folders (R6, last layer). Nothing is created or
//! kept here; what is free now can be taken when it is needed, and then the component refuses.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use net::{Endpoint, Held, Standing};
use reload::{Class, Problem};
use rustix::fs::{Access, access};
use storage::relocate::is_nested;

use super::{Config, certificates};

const DATA_DIR: &str = "node.data_dir";

/// Between two looks whether a port is free that the node itself gives up.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Everything that this machine lacks for `config`. Ports that `current` uses, and those of `held`, the sockets of the running node,
/// count as free (contract: "A port that the node on the same `data_dir` holds counts as free"), as far as the node can make room.
/// Blocks: files are read, and a port that the node itself gives up is waited for, up to two seconds.
#[must_use]
pub fn resources(config: &Config, current: Option<&Config>, held: &[Held]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut ours = held.to_vec();
    if let Some(current) = current {
        let local = local_listeners(current).into_iter().map(|(_, address)| Endpoint::tcp(address));
        // Also one that is out of order at the moment: that it is, is no reason to refuse another change.
        let own = current.network.listen.iter().filter_map(Endpoint::of);
        ours.extend(local.chain(own).map(Held::listening));
    }

    let network =
        config.network.listen.iter().enumerate().filter_map(|(index, address)| {
            Some((format!("network.addresses[{index}]"), Endpoint::of(address)?))
        });
    let local = local_listeners(config).into_iter().map(|(path, address)| (path, Endpoint::tcp(address)));
    for (path, endpoint) in network.chain(local) {
        if let Some(keeper) = current.and_then(|current| kept_by(current, &path, &endpoint)) {
            let message = format!("{} is where {keeper} listens until this reload is done", endpoint.address);
            problems
                .push(Problem::at(path, message).hint("let it go in one reload, and take it in the next"));
            continue;
        }
        let closing = match Held::standing(&ours, &endpoint) {
            Standing::Ours(_) => continue,
            // A check: who starts on the file does so when that node is gone, with all its sockets.
            Standing::InTheWay(_) | Standing::Closing(_) if current.is_none() => continue,
            Standing::InTheWay(held) => {
                let message = format!("'{}' {}", endpoint.to_multiaddr(), held.obstruction());
                problems.push(Problem::at(path, message).hint(Held::REMEDY));
                continue;
            }
            Standing::Closing(until) => Some(until),
            Standing::Free => None,
        };
        problems.extend(probe_until(closing, &endpoint).err().map(|error| {
            if closing.is_some() && error.kind() == io::ErrorKind::AddrInUse {
                let message = format!("{} is still being closed by this node itself", endpoint.address);
                Problem { class: Class::System, ..Problem::at(&path, message).hint("try again in a moment") }
            } else {
                unusable(&path, &endpoint, &error)
            }
        }));
    }
    problems.extend(data_dir(&config.history.data_dir));
    problems.extend(current.and_then(|current| nested(&current.history.data_dir, &config.history.data_dir)));
    if current.is_none_or(|current| current.admin.socket != config.admin.socket) {
        problems.extend(admin_socket(&config.admin.socket, &config.history.data_dir));
    }
    problems.extend(config.logging.file.in_use().and_then(log_file));
    problems.extend(certificates::out_of_date(config, current));
    config.locate(&mut problems);
    problems
}

/// Which other component of this node has the port: what was there first is closed last, so that a rollback finds it open.
fn kept_by(current: &Config, path: &str, wanted: &Endpoint) -> Option<&'static str> {
    let overlaps = |other: Endpoint| other.overlaps(wanted);
    let network = current.network.listen.iter().filter_map(Endpoint::of).any(overlaps);
    let services = current.protocol.connect.iter().any(|service| overlaps(Endpoint::tcp(service.listen)));
    let api = current.admin.listen.is_some_and(|address| overlaps(Endpoint::tcp(address)));
    if network && !path.starts_with("network.") {
        return Some("the node itself (network.addresses)");
    }
    if services && !path.starts_with("protocol.") {
        return Some("a service (protocol.services.connect)");
    }
    (api && path != "admin.listen").then_some("the admin API (admin.listen)")
}

/// TCP listeners apart from the swarm's.
fn local_listeners(config: &Config) -> Vec<(String, SocketAddr)> {
    let services = config.protocol.connect.iter().enumerate();
    let services = services
        .map(|(index, service)| (format!("protocol.services.connect[{index}].listen"), service.listen));
    services.chain(config.admin.listen.map(|address| ("admin.listen".to_owned(), address))).collect()
}

/// Whether it can be listened on; where the node itself gives the port up, when that is done, or not until then.
fn probe_until(closing: Option<Instant>, endpoint: &Endpoint) -> io::Result<()> {
    loop {
        match net::probe(endpoint) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && closing.is_some_and(|until| Instant::now() < until) =>
            {
                // The system tells nobody when a port is free.
                thread::sleep(LOOK_AGAIN);
            }
            probed => return probed,
        }
    }
}

fn unusable(path: &str, endpoint: &Endpoint, error: &io::Error) -> Problem {
    let address = endpoint.address;
    let (message, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("{address} is in use by another process"),
            format!("`ss -lnp 'sport = :{}'` shows which; stop it, or choose another port", address.port()),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("{} is on no interface of this machine", address.ip()),
            format!(
                "`ip address` lists those that are; {} stands for all of them",
                if address.is_ipv6() { "::" } else { "0.0.0.0" }
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("{address} may not be listened on by this user"),
            "choose a port from 1024, or grant CAP_NET_BIND_SERVICE".to_owned(),
        ),
        _ if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => (
            format!("this machine has no {}", if address.is_ipv6() { "IPv6" } else { "IPv4" }),
            "remove the address".to_owned(),
        ),
        _ => (format!("{address} cannot be listened on: {error}"), "choose another address".to_owned()),
    };
    Problem::at(path, message).hint(hint)
}

/// A folder in the one that is in use, or around it: whoever removes the one that is left behind would take the other with it.
fn nested(current: &Path, next: &Path) -> Option<Problem> {
    if !is_nested(current, next) {
        return None;
    }
    let message = format!("{} is in {}, the folder in use, or around it", next.display(), current.display());
    let hint = "name a folder that is neither: what is left behind is to be removed by and by";
    Some(Problem::at(DATA_DIR, message).hint(hint))
}

fn data_dir(path: &Path) -> Option<Problem> {
    // The nearest folder that is there decides whether the rest can be created.
    let there = path.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok())?;
    if !there.is_dir() {
        let problem = Problem::at(DATA_DIR, format!("{} is not a folder", there.display()));
        return Some(problem.hint("remove what is there, or name another folder"));
    }
    access(there, Access::WRITE_OK | Access::EXEC_OK).err().map(|error| {
        let what = if there == path { "written to" } else { "created" };
        Problem::at(DATA_DIR, format!("{} cannot be {what}: {}: {error}", path.display(), there.display()))
            .hint("let the node's user write there (chown), or name another folder")
    })
}

fn admin_socket(path: &Path, data_dir: &Path) -> Option<Problem> {
    let problem = |message: String, hint: &str| Some(Problem::at("admin.socket", message).hint(hint));
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        // The data folder itself is made at the start.
        let message = format!("there is no folder {}", folder.display());
        return if folder == data_dir { None } else { problem(message, "create it, or name another path") };
    }
    if let Err(error) = access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        let message = format!("the folder {} cannot be written to: {error}", folder.display());
        return problem(message, "let the node's user write there (chown), or name another path");
    }
    let occupied = storage::socket_path::occupied(path)?;
    // In the data folder, whose lock only one node holds, it can only be served by this very node.
    if occupied.kind() == io::ErrorKind::AddrInUse && folder == data_dir {
        return None;
    }
    problem(format!("{} {occupied}", path.display()), "name another path")
}

fn log_file(path: &Path) -> Option<Problem> {
    let problem = |message: String, hint: &str| Some(Problem::at("logging.file_name", message).hint(hint));
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        return problem(
            format!("there is no folder {}", folder.display()),
            "create it, or name another file",
        );
    }
    // Rotation renames and creates, so the folder has to be writable, not only the file.
    match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => None,
        Err(error) => problem(
            format!("the folder {} cannot be written to: {error}", folder.display()),
            "let the node's user write there (chown), or name another file",
        ),
    }
}

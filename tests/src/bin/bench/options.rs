//! What is asked for on the command line.

use std::fs;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
bench [--members 4,512,10000] [--changed conf,both] [--shape block|json] [--rounds 200] [--node PATH] [--json]
bench --hang 1000 [--budget 500ms] [--json]       the node beside this program, which was built with fault points
bench --soak 10000 [--members 64] [--node PATH] [--json]
bench --data 5 [--node PATH] [--json]              beside bare libp2p, in so many turns
bench --tunnel 5 [--node PATH] [--json]            beside bare libp2p and socat, in so many turns
bench --messages 20000 [--node PATH] [--json]
bench --mesh 8,64 [--node PATH] [--json]           beside bare libp2p
bench --store 8,512,10000,100000 [--json]
bench --exchange 8,64 [--node PATH] [--json]       in federations of so many nodes

--node   the node that is measured; without it target/release/fednode, or for --hang fednode-under-test
--shape  how peers.yaml is written: as people do, or as programs do";

pub(crate) struct Options {
    pub(crate) subject: Subject,
    pub(crate) node: PathBuf,
    pub(crate) members: Vec<usize>,
    pub(crate) changed: Vec<Changed>,
    pub(crate) shape: Shape,
    pub(crate) rounds: usize,
    pub(crate) budget_ms: u64,
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Reloads,
    Hang(usize),
    Soak(usize),
    Data(usize),
    Tunnel(usize),
    Messages(usize),
    Mesh,
    Exchange,
    Store,
}

/// What changes in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// One key of `conf.yaml`.
    Conf,
    /// That, and one address in `peers.yaml`.
    Both,
}

/// How `peers.yaml` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As in the contract.
    Block,
    /// As JSON, over many lines.
    Json,
}

// === impl Options ===

impl Options {
    /// `None` if only the usage was asked for.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            subject: Subject::Reloads,
            node: PathBuf::new(),
            members: Vec::new(),
            changed: vec![Changed::Conf, Changed::Both],
            shape: Shape::Block,
            rounds: 200,
            budget_ms: 500,
            json: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--json" => options.json = true,
                "--node" => options.node = value()?.into(),
                "--rounds" => options.rounds = number(&value()?)?,
                "--hang" => options.subject = Subject::Hang(number(&value()?)?),
                "--data" => options.subject = Subject::Data(number(&value()?)?),
                "--tunnel" => options.subject = Subject::Tunnel(number(&value()?)?),
                "--messages" => options.subject = Subject::Messages(number(&value()?)?),
                "--mesh" => {
                    options.subject = Subject::Mesh;
                    options.members = value()?.split(',').map(number).collect::<Result<_, _>>()?;
                }
                "--exchange" => {
                    options.subject = Subject::Exchange;
                    options.members = value()?.split(',').map(number).collect::<Result<_, _>>()?;
                }
                "--store" => {
                    options.subject = Subject::Store;
                    options.members = value()?.split(',').map(number).collect::<Result<_, _>>()?;
                }
                "--soak" => options.subject = Subject::Soak(number(&value()?)?),
                "--budget" => {
                    let text = value()?;
                    let number = number(text.strip_suffix("ms").ok_or("--budget is written as 500ms")?)?;
                    options.budget_ms = u64::try_from(number).unwrap_or(u64::MAX);
                }
                "--members" => options.members = value()?.split(',').map(number).collect::<Result<_, _>>()?,
                "--changed" => {
                    options.changed = value()?.split(',').map(changed).collect::<Result<_, _>>()?
                }
                "--shape" => {
                    options.shape = match value()?.as_str() {
                        "block" => Shape::Block,
                        "json" => Shape::Json,
                        other => return Err(format!("{other} is no shape")),
                    }
                }
                other => return Err(format!("unknown argument {other}")),
            }
        }
        options.complete()?;
        Ok(Some(options))
    }

    fn complete(&mut self) -> Result<(), String> {
        if self.members.is_empty() {
            self.members = match self.subject {
                Subject::Reloads => vec![4, 512, 10_000],
                Subject::Hang(_) => vec![4],
                Subject::Soak(_) => vec![64],
                Subject::Data(_) | Subject::Tunnel(_) | Subject::Messages(_) => Vec::new(),
                Subject::Mesh | Subject::Exchange | Subject::Store => vec![8],
            };
        }
        if self.subject == Subject::Store {
            return Ok(());
        }
        if self.node.as_os_str().is_empty() {
            self.node = match self.subject {
                Subject::Hang(_) => fednode_tests::process::binary(),
                _ => PathBuf::from("target/release/fednode"),
            };
        }
        self.node = fs::canonicalize(&self.node)
            .map_err(|error| format!("{}: {error}; build it first", self.node.display()))?;
        Ok(())
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("{text} is no number from 1"))
}

fn changed(text: &str) -> Result<Changed, String> {
    match text {
        "conf" => Ok(Changed::Conf),
        "both" => Ok(Changed::Both),
        other => Err(format!("{other} is neither conf nor both")),
    }
}

//! What is asked for on the command line.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::changed::Changed;

pub(crate) const USAGE: &str = "\
bench [--all] [--quick] [--json FILE] [--markdown] [--baseline FILE] [--save-baseline FILE] [--node PATH]
                                                   every figure beside its floor or its peer; --quick in two minutes
bench --reload [--members 4,64,512,10000] [--changed logging,member] [--shape block|json] [--rounds 200]
bench --growth 8,32,128,512 [--rounds 20]          federations of so many members, and with which power each cost grows
bench --rollback 20 [--members 64] [--budget 500ms] each component fails in each step, so many times
bench --start 20 [--members 4,512,10000]           from start to ready, beside bare libp2p
bench --hang 1000 [--budget 500ms]
bench --soak 10000 [--members 64]
bench --data 5                                     beside bare libp2p, in so many turns
bench --tunnel 5                                   beside bare libp2p and socat, in so many turns
bench --messages 20000
bench --mesh 8,64                                  beside bare libp2p
bench --store 8,512,10000,100000
bench --exchange 8,64                              in federations of so many nodes

--node      the node that is measured; without it target/release/fednode, or for --hang and --rollback fednode-under-test beside this
            program, which is built with fault points
--shape     how peers.yaml is written: as people do, or as programs do
--changed   of nothing, logging, limits, topics, admin, conf (a listener), member, both (a listener and a member's address)
--json      prints JSON instead of the table; with a file, writes it there and prints the table as well
--baseline  compares with a stored baseline, by ratio; exit code 1 if something is worse than its tolerance allows";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) subject: Subject,
    pub(crate) node: PathBuf,
    pub(crate) members: Vec<usize>,
    pub(crate) changed: Vec<Changed>,
    pub(crate) shape: Shape,
    pub(crate) rounds: usize,
    pub(crate) budget_ms: u64,
    /// Shorter, and less exact.
    pub(crate) quick: bool,
    /// JSON instead of a table.
    pub(crate) json: bool,
    /// JSON into a file.
    pub(crate) json_file: Option<PathBuf>,
    /// The table as Markdown.
    pub(crate) markdown: bool,
    /// What to compare with.
    pub(crate) baseline: Option<PathBuf>,
    /// Where to store what was measured.
    pub(crate) save_baseline: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    All,
    Reloads,
    Growth,
    Rollback(usize),
    Start(usize),
    Hang(usize),
    Soak(usize),
    Data(usize),
    Tunnel(usize),
    Messages(usize),
    Mesh,
    Exchange,
    Store,
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
    pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            subject: Subject::All,
            node: PathBuf::new(),
            members: Vec::new(),
            changed: Vec::new(),
            shape: Shape::Block,
            rounds: 0,
            budget_ms: 500,
            quick: false,
            json: false,
            json_file: None,
            markdown: false,
            baseline: None,
            save_baseline: None,
        };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let file = arguments.next_if(|next| argument == "--json" && !next.starts_with('-'));
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            let mut sizes = |subject| {
                options.subject = subject;
                options.members = list(&value()?, number)?;
                Ok::<_, String>(())
            };
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--all" => options.subject = Subject::All,
                "--reload" => options.subject = Subject::Reloads,
                "--growth" => sizes(Subject::Growth)?,
                "--mesh" => sizes(Subject::Mesh)?,
                "--exchange" => sizes(Subject::Exchange)?,
                "--store" => sizes(Subject::Store)?,
                "--rollback" => options.subject = Subject::Rollback(number(&value()?)?),
                "--start" => options.subject = Subject::Start(number(&value()?)?),
                "--hang" => options.subject = Subject::Hang(number(&value()?)?),
                "--soak" => options.subject = Subject::Soak(number(&value()?)?),
                "--data" => options.subject = Subject::Data(number(&value()?)?),
                "--tunnel" => options.subject = Subject::Tunnel(number(&value()?)?),
                "--messages" => options.subject = Subject::Messages(number(&value()?)?),
                "--quick" => options.quick = true,
                "--markdown" => options.markdown = true,
                "--json" => match file {
                    Some(file) => options.json_file = Some(file.into()),
                    None => options.json = true,
                },
                "--baseline" => options.baseline = Some(value()?.into()),
                "--save-baseline" => options.save_baseline = Some(value()?.into()),
                "--node" => options.node = value()?.into(),
                "--rounds" => options.rounds = number(&value()?)?,
                "--members" => options.members = list(&value()?, number)?,
                "--changed" => options.changed = list(&value()?, Changed::read)?,
                "--budget" => {
                    let text = value()?;
                    let number = number(text.strip_suffix("ms").ok_or("--budget is written as 500ms")?)?;
                    options.budget_ms = u64::try_from(number).unwrap_or(u64::MAX);
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
        // Who says how many reloads, or of what, means reloads.
        let is_of_reloads = options.rounds > 0 || !options.changed.is_empty() || !options.members.is_empty();
        if options.subject == Subject::All && is_of_reloads {
            options.subject = Subject::Reloads;
        }
        options.complete()?;
        Ok(Some(options))
    }

    /// The same for another subject, with what is usual there.
    pub(crate) fn of(&self, subject: Subject, members: &[usize], rounds: usize) -> Self {
        let mut options = Self { subject, members: members.to_vec(), rounds, ..self.clone() };
        options.fill();
        options
    }

    /// For how long one throughput is measured.
    pub(crate) const fn lasting(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { 3 })
    }

    fn complete(&mut self) -> Result<(), String> {
        self.fill();
        // No node has a part in it.
        if self.subject == Subject::Store {
            return Ok(());
        }
        if self.node.as_os_str().is_empty() {
            self.node = match self.subject {
                Subject::Hang(_) | Subject::Rollback(_) => fednode_tests::process::binary(),
                _ => PathBuf::from("target/release/fednode"),
            };
        }
        self.node = fs::canonicalize(&self.node)
            .map_err(|error| format!("{}: {error}; build it first", self.node.display()))?;
        Ok(())
    }

    fn fill(&mut self) {
        if self.members.is_empty() {
            self.members = match self.subject {
                Subject::Reloads => vec![4, 64, 512, 10_000],
                Subject::Start(_) => vec![4, 512, 10_000],
                Subject::Growth => vec![8, 32, 128, 512],
                Subject::Hang(_) => vec![4],
                Subject::Soak(_) | Subject::Rollback(_) => vec![64],
                Subject::All | Subject::Data(_) | Subject::Tunnel(_) | Subject::Messages(_) => Vec::new(),
                Subject::Mesh | Subject::Exchange | Subject::Store => vec![8],
            };
        }
        if self.changed.is_empty() {
            self.changed = match self.subject {
                Subject::Reloads => vec![Changed::Listener, Changed::Peers],
                // The way there and back of a listener is none of a federation's size.
                Subject::Growth => {
                    Changed::ALL.into_iter().filter(|changed| !changed.opens_a_port()).collect()
                }
                _ => Changed::ALL.to_vec(),
            };
        }
        if self.rounds == 0 {
            self.rounds = match self.subject {
                Subject::Growth => 20,
                _ => 200,
            };
        }
    }
}

fn list<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(read).collect()
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("{text} is no number from 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Options {
        // Any program that is there.
        let words = line.split_whitespace().chain(["--node", "/proc/self/exe"]);
        Options::read(words.map(str::to_owned)).unwrap().unwrap()
    }

    #[test]
    fn everything_is_measured_unless_something_is_named() {
        assert_eq!(read("").subject, Subject::All);
        assert_eq!(read("--quick --baseline b.json").subject, Subject::All);
        assert_eq!(read("--members 4,8").subject, Subject::Reloads);
        assert_eq!(read("--changed logging").changed, [Changed::Logging]);
        assert_eq!(read("--growth 8,32").members, [8, 32]);
        assert_eq!(read("--start 3 --members 5").subject, Subject::Start(3));
    }

    #[test]
    fn json_may_go_into_a_file() {
        assert!(read("--json --quick").json);
        let options = read("--json figures.json --quick");
        assert_eq!((options.json, options.json_file), (false, Some("figures.json".into())));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let error = |line: &str| Options::read(line.split(' ').map(str::to_owned)).unwrap_err();
        assert!(error("--growth 8,none").contains("none is no number"));
        assert!(error("--changed colour").contains("colour is none of nothing, logging"));
        assert!(error("--fast").contains("unknown argument --fast"));
        assert!(error("--baseline").contains("--baseline wants a value"));
    }
}

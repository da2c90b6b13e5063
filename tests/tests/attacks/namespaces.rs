//! A network of its own, joined to the machine's by one link: packets on it are real, and can be stopped on the way.

use std::process::Command;

/// See the module. Gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    link: String,
    subnet: String,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("ip: {error}")),
    }
}

// === impl Namespace ===

impl Namespace {
    /// A namespace with a link to it; `None`, and the reason on the standard output, where there is no right to make one (root
    /// has it).
    pub(crate) fn new() -> Option<Self> {
        // Two tests of this process, and those of others, have links of their own.
        let number: u16 = rand::random();
        let [high, low] = number.to_be_bytes();
        let namespace = Self {
            name: format!("fednode-{number}"),
            link: format!("fed{number}"),
            // A block for such uses (RFC 2544, 198.18.0.0/15), which nobody is likely to route.
            subnet: format!("198.18.{high}.{}", low & 0xfc),
        };
        if let Err(error) = namespace.make() {
            println!("skipped: no network namespace can be made: {error}");
            return None;
        }
        Some(namespace)
    }

    fn make(&self) -> Result<(), String> {
        let Self { name, link, .. } = self;
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {link} type veth peer name {link}p"))?;
        ip(&format!("link set {link}p netns {name}"))?;
        ip(&format!("addr add {}/30 dev {link}", self.here()))?;
        ip(&format!("-n {name} addr add {}/30 dev {link}p", self.there()))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} link set {link}p up"))?;
        ip(&format!("link set {link} up"))
    }

    fn host(&self, host: u8) -> String {
        let (network, last) = self.subnet.rsplit_once('.').expect("an address has dots");
        format!("{network}.{}", last.parse::<u8>().expect("a byte") + host)
    }

    /// The address at this end.
    pub(crate) fn here(&self) -> String {
        self.host(1)
    }

    /// The address at the other end.
    pub(crate) fn there(&self) -> String {
        self.host(2)
    }

    /// What a program is run by to run inside.
    pub(crate) fn inside(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// From now on every packet is lost, without a word to either end.
    pub(crate) fn cut(&self) {
        // A neighbour that is somebody else: what is sent to it goes nowhere, and nobody is told.
        self.neighbours("replace", " lladdr 02:00:00:00:00:99 nud permanent");
    }

    /// Packets arrive again.
    pub(crate) fn heal(&self) {
        self.neighbours("del", "");
    }

    fn neighbours(&self, verb: &str, rest: &str) {
        let Self { name, link, .. } = self;
        let here = ip(&format!("neigh {verb} {} dev {link}{rest}", self.there()));
        let there = ip(&format!("-n {name} neigh {verb} {} dev {link}p{rest}", self.here()));
        here.and(there).expect("the link can be changed");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The link goes with the namespace once nothing runs inside.
        let _ = ip(&format!("link del {}", self.link));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

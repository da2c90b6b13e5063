//! `fednode demo`: what this is for, in half a minute. Real processes on loopback ports, in a temporary folder: four members
//! talk to each other while their files are edited and SIGHUP is sent.

mod member;
mod stream;

use std::net::TcpListener;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use reload::Outcome;
use reload::outcome::Kind;
use serde_json::json;

use member::Member;
use stream::Streams;

/// Anything that takes longer has failed: a release build on an idle machine needs a few seconds for all of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why the demo came to an end of its own.
type Failure = String;

/// What was seen of one scene.
struct Scene {
    title: &'static str,
    held: bool,
    outcomes: Vec<Outcome>,
}

struct Demo {
    members: Vec<Member>,
    streams: Streams,
    scenes: Vec<Scene>,
    quiet: bool,
}

/// Plays the demo. The exit code is 0 only if everything held.
pub async fn run(json: bool) -> ExitCode {
    let played = tokio::select! {
        played = play(json) => played,
        _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
    };
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("Error: the demo could not be played to its end: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn play(quiet: bool) -> Result<bool, Failure> {
    let began = Instant::now();
    let folder =
        tempfile::Builder::new().prefix("fednode-demo-").tempdir().map_err(|error| error.to_string())?;
    let mut members = Vec::new();
    for number in 1..=5 {
        members.push(Member::new(number, folder.path())?);
    }
    let everybody: Vec<_> = members.iter().take(4).map(Member::entry).collect();
    for member in members.iter_mut().take(4) {
        member.peers.clone_from(&everybody);
        member.start()?;
    }
    for member in &members[..4] {
        member.wait_for_connections(3).await?;
    }
    say(quiet, "Four members are connected to each other, and each sends messages to the next.\n");
    let streams = Streams::start(&members[..4]).await?;
    let mut demo = Demo { members, streams, scenes: Vec::new(), quiet };
    demo.log_level().await?;
    demo.new_address().await?;
    demo.somebody_joins().await?;
    demo.somebody_leaves().await?;
    demo.invalid_file().await?;
    demo.occupied_port().await?;
    demo.end(began).await
}

fn say(quiet: bool, text: &str) {
    if !quiet {
        println!("{text}");
    }
}

// === impl Demo ===

impl Demo {
    async fn log_level(&mut self) -> Result<(), Failure> {
        let before = self.connections(0..4).await?;
        self.members[0].edit(|conf| conf["logging"]["level"] = json!("debug"))?;
        let outcome = self.members[0].hangup().await?;
        let held = outcome.outcome == Kind::Committed
            && told(&outcome) == ["logging"]
            && self.connections(0..4).await? == before;
        self.scene("member 1 logs at debug", held, vec![outcome]).await
    }

    async fn new_address(&mut self) -> Result<(), Failure> {
        let before = self.connections(0..4).await?;
        let port = member::free_port()?;
        self.members[1].edit(|conf| {
            if let Some(addresses) = conf["network"]["addresses"].as_array_mut() {
                addresses.push(json!(format!("/ip4/127.0.0.1/tcp/{port}")));
            }
        })?;
        let outcome = self.members[1].hangup().await?;
        let held = outcome.outcome == Kind::Committed
            && std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            && self.connections(0..4).await? == before;
        self.scene("member 2 listens on one more port", held, vec![outcome]).await
    }

    async fn somebody_joins(&mut self) -> Result<(), Failure> {
        let before = self.connections(0..4).await?;
        let everybody: Vec<_> = self.members.iter().map(Member::entry).collect();
        for member in &mut self.members {
            member.peers.clone_from(&everybody);
        }
        self.members[4].start()?;
        let mut outcomes = Vec::new();
        for member in &mut self.members[..4] {
            member.write()?;
            outcomes.push(member.hangup().await?);
        }
        let mut held = outcomes.iter().all(|outcome| outcome.outcome == Kind::Committed);
        for member in &self.members {
            member.wait_for_connections(4).await?;
        }
        let after = self.connections(0..4).await?;
        held &= before.iter().zip(&after).all(|(before, after)| before.iter().all(|id| after.contains(id)));
        self.scene("a fifth member joins: four files are edited", held, outcomes).await
    }

    async fn somebody_leaves(&mut self) -> Result<(), Failure> {
        let leaver = self.members[4].key().to_owned();
        let mut staying = Vec::new();
        for member in &self.members[..4] {
            let all = member.connections().await?;
            staying.push(all.into_iter().filter(|(_, key)| *key != leaver).collect::<Vec<_>>());
        }
        let mut outcomes = Vec::new();
        for member in &mut self.members[..4] {
            member.peers.retain(|entry| entry["public_key"] != leaver.as_str());
            member.write()?;
            outcomes.push(member.hangup().await?);
        }
        let held = outcomes.iter().all(|outcome| outcome.outcome == Kind::Committed)
            && self.connections(0..4).await? == staying;
        self.members[4].stop().await?;
        self.scene("it leaves: its connections are closed, no other", held, outcomes).await
    }

    async fn invalid_file(&mut self) -> Result<(), Failure> {
        let before = self.connections(0..4).await?;
        self.members[2].edit(|conf| {
            conf["logging"]["level"] = json!("loud");
            conf["network"]["adresses"] = json!([]);
        })?;
        let outcome = self.members[2].hangup().await?;
        let held = outcome.outcome == Kind::Rejected
            && outcome.errors.len() == 2
            && outcome.components.is_empty()
            && self.connections(0..4).await? == before;
        self.members[2].undo()?;
        self.scene("member 3's file is wrong in two places", held, vec![outcome]).await
    }

    async fn occupied_port(&mut self) -> Result<(), Failure> {
        let before = self.connections(0..4).await?;
        let other = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
        let port = other.local_addr().map_err(|error| error.to_string())?.port();
        self.members[3].edit(|conf| {
            if let Some(addresses) = conf["network"]["addresses"].as_array_mut() {
                addresses.push(json!(format!("/ip4/127.0.0.1/tcp/{port}")));
            }
        })?;
        let outcome = self.members[3].hangup().await?;
        let held = outcome.outcome == Kind::Rejected
            && outcome.components.is_empty()
            && self.connections(0..4).await? == before;
        self.members[3].undo()?;
        self.scene("member 4 wants a port that another program holds", held, vec![outcome]).await
    }

    async fn scene(
        &mut self,
        title: &'static str,
        held: bool,
        outcomes: Vec<Outcome>,
    ) -> Result<(), Failure> {
        // What was in flight during the reload has arrived when newer messages have.
        self.streams.go_on().await?;
        let scene = Scene { title, held, outcomes };
        if !self.quiet {
            scene.print(self.scenes.len() + 1, self.streams.sent());
        }
        self.scenes.push(scene);
        Ok(())
    }

    async fn connections(&self, of: std::ops::Range<usize>) -> Result<Vec<Vec<(String, String)>>, Failure> {
        let mut all = Vec::new();
        for member in &self.members[of] {
            all.push(member.connections().await?);
        }
        Ok(all)
    }

    async fn end(mut self, began: Instant) -> Result<bool, Failure> {
        let tally = self.streams.finish().await?;
        for member in &mut self.members[..4] {
            member.stop().await?;
        }
        let outcomes: Vec<&Outcome> = self.scenes.iter().flat_map(|scene| &scene.outcomes).collect();
        let mut times: Vec<f64> = outcomes
            .iter()
            .filter(|outcome| outcome.outcome == Kind::Committed)
            .map(|outcome| outcome.duration_ms)
            .collect();
        times.sort_by(f64::total_cmp);
        let held = self.scenes.iter().all(|scene| scene.held) && tally.is_clean();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let longest = times.last().copied().unwrap_or_default();
        let summary = format!(
            "\n{} reloads of running nodes: {} committed (median {median:.2} ms, longest {longest:.2} ms), {} refused with a \
             reason.\n{} messages sent meanwhile: {} lost, {} repeated, {} out of order. No process was restarted.\n{} after \
             {:.1} s.",
            outcomes.len(),
            times.len(),
            outcomes.len() - times.len(),
            tally.sent,
            tally.lost,
            tally.repeated,
            tally.reordered,
            if held { "Everything held" } else { "SOMETHING DID NOT HOLD" },
            began.elapsed().as_secs_f64()
        );
        if self.quiet {
            let scenes: Vec<_> = self
                .scenes
                .iter()
                .map(|scene| json!({"title": scene.title, "held": scene.held, "outcomes": scene.outcomes}))
                .collect();
            let messages = json!({
                "sent": tally.sent, "lost": tally.lost, "repeated": tally.repeated, "reordered": tally.reordered,
            });
            println!("{:#}", json!({"held": held, "scenes": scenes, "messages": messages}));
        } else {
            println!("{summary}");
        }
        Ok(held)
    }
}

fn told(outcome: &Outcome) -> Vec<&str> {
    outcome.components.iter().map(|component| component.name.as_str()).collect()
}

// === impl Scene ===

impl Scene {
    fn print(&self, number: usize, sent: u64) {
        println!("{number}. {} {}", if self.held { "ok  " } else { "FAIL" }, self.title);
        for outcome in &self.outcomes {
            for change in &outcome.changes {
                println!("       {}: {} -> {}", change.path, brief(&change.from), brief(&change.to));
            }
            for problem in &outcome.errors {
                println!("       {problem}");
            }
            let told: Vec<_> = outcome
                .components
                .iter()
                .map(|c| format!("{} (prepare {:.2}, commit {:.2} ms)", c.name, c.prepare_ms, c.commit_ms))
                .collect();
            let told = if told.is_empty() { "nobody".to_owned() } else { told.join(", ") };
            println!(
                "       {} in {:.2} ms; told: {told}; connections {} -> {}, closed by the reload: {}",
                outcome.outcome.as_str(),
                outcome.duration_ms,
                outcome.connections.before,
                outcome.connections.after,
                outcome.connections.closed_by_reload
            );
        }
        println!("       messages so far: {sent} sent, every one acknowledged\n");
    }
}

fn brief(value: &serde_json::Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 72 { text } else { text.chars().take(69).chain("...".chars()).collect() }
}

//! What only shows from inside the actor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Handler, Message, MessageResult};
use libp2p::Multiaddr;
use reload::{Ack, Link, Reconfigure, Step, Transaction};

use super::{Network, StartNetwork};
use crate::fixtures::section;
use crate::{Identity, NetworkSection, Post, RateLimit, Settings, Topics, View};

/// Panics where the swarm would.
#[derive(Message)]
#[rtype(result = "()")]
struct Break;

impl Handler<Break> for Network {
    type Result = ();

    fn handle(&mut self, _: Break, _: &mut Self::Context) {
        self.guarded(|_| panic!("on purpose"));
    }
}

#[derive(Message)]
#[rtype(result = "Vec<Multiaddr>")]
struct ExternalAddresses;

impl Handler<ExternalAddresses> for Network {
    type Result = MessageResult<ExternalAddresses>;

    fn handle(&mut self, _: ExternalAddresses, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.swarm.external_addresses().cloned().collect())
    }
}

/// Closes the listeners as if they had closed by themselves.
#[derive(Message)]
#[rtype(result = "()")]
struct Lose;

impl Handler<Lose> for Network {
    type Result = ();

    fn handle(&mut self, _: Lose, _: &mut Self::Context) {
        for id in self.listeners.extra(&[]) {
            self.swarm.remove_listener(id);
        }
        self.wake();
    }
}

struct Scene {
    network: Link<Network>,
    view: View,
    transaction: Transaction,
}

impl Scene {
    fn start(section: NetworkSection) -> Self {
        let settings = Settings {
            ping_interval: Duration::from_secs(15),
            max_message_size: 1024,
            rate_limit: RateLimit { messages_per_second: 1.0, burst: 1 },
            exchange_interval: Duration::from_secs(30),
        };
        let (identity, post, view) = (Identity::generate(), Post::new(settings), View::new());
        let topics = Topics::new(identity.public_key(), post.clone(), view.clone());
        let section = Arc::new(section);
        let services = crate::Services::new();
        let start = StartNetwork { identity, section, post, services, topics, view: view.clone() };
        let network = Network::start(start);
        Self { network: network.unwrap(), view, transaction: Transaction::NONE }
    }

    async fn step(&self, step: Step<NetworkSection>) -> Ack {
        self.network.addr().send(Reconfigure::new(self.transaction, step)).await.unwrap()
    }

    async fn commit(&mut self, next: &NetworkSection) {
        self.transaction = self.transaction.next();
        let by = Instant::now() + Duration::from_secs(30);
        self.step(Step::Prepare(Arc::new(next.clone()), by)).await.unwrap();
        self.step(Step::Commit).await.unwrap();
    }
}

#[actix::test]
async fn a_panic_of_the_swarm_fails_the_probe_and_costs_neither_actor_nor_listener() {
    let mut scene =
        Scene::start(NetworkSection { listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()], ..section() });
    let listeners = scene.view.listeners();
    let next = NetworkSection { worker_threads: 2, ..section() };
    scene.commit(&next).await;
    scene.network.addr().send(Break).await.unwrap();
    let error = scene.step(Step::Probe).await.unwrap_err();
    assert!(error.message.contains("on purpose"), "{error}");
    assert_eq!(scene.view.trouble().as_deref(), Some("on purpose"));
    scene.step(Step::Rollback).await.unwrap();
    assert_eq!((scene.view.listeners(), scene.view.worker_threads()), (listeners, 1));
    // It counts against the reload that it happened under, not against the next.
    scene.commit(&next).await;
    scene.step(Step::Probe).await.unwrap();
    scene.step(Step::Finish).await.unwrap();
    assert_eq!(scene.view.listeners(), []);
}

#[actix::test]
async fn external_addresses_come_with_a_commit_and_go_with_its_rollback() {
    let first: Multiaddr = "/dns4/one.example/tcp/9000".parse().unwrap();
    let second: Multiaddr = "/dns4/two.example/tcp/9000".parse().unwrap();
    let mut scene = Scene::start(NetworkSection { external: vec![first.clone()], ..section() });
    let next = NetworkSection { external: vec![second.clone()], ..section() };
    scene.commit(&next).await;
    assert_eq!(scene.network.addr().send(ExternalAddresses).await.unwrap(), [second]);
    scene.step(Step::Rollback).await.unwrap();
    assert_eq!(scene.network.addr().send(ExternalAddresses).await.unwrap(), [first]);
}

#[actix::test]
async fn a_listener_that_closes_by_itself_is_said_to_and_opened_again_on_its_port() {
    let listen: Vec<Multiaddr> =
        ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"].map(|text| text.parse().unwrap()).into();
    let mut scene = Scene::start(NetworkSection { listen: listen.clone(), ..section() });
    let open = scene.view.listeners();
    let tcp = crate::Endpoint::of(&open[0]).unwrap().address;
    // Somebody takes the TCP port before the node does.
    let thief = loop {
        scene.network.addr().send(Lose).await.unwrap();
        scene.view.when(|view| view.failing_listeners().len() == 2).await;
        match std::net::TcpListener::bind(tcp) {
            Ok(thief) => break thief,
            // The node was quicker, on a machine that left this test no time.
            Err(_) => scene.view.when(|view| view.failing_listeners().is_empty()).await,
        }
    };
    assert_eq!(scene.view.listeners(), []);
    let is_taken = |view: &View| {
        let failing = view.failing_listeners();
        failing.len() == 1 && failing[0].address == open[0] && failing[0].error.contains("in use")
    };
    scene.view.when(is_taken).await;
    assert_eq!(scene.view.listeners(), open[1..], "the other is open again");

    // A reload of something else is neither refused nor rolled back for it, and does not try in its stead.
    scene.commit(&NetworkSection { worker_threads: 2, listen, ..section() }).await;
    scene.step(Step::Probe).await.unwrap();
    scene.step(Step::Finish).await.unwrap();
    assert!(is_taken(&scene.view));
    drop(thief);
    scene.view.when(|view| view.failing_listeners().is_empty()).await;
    assert_eq!(scene.view.listeners(), open);
    std::net::TcpStream::connect(tcp).unwrap();
    // It is one like any other: a reload that does not want it closes it.
    scene.commit(&section()).await;
    scene.step(Step::Finish).await.unwrap();
    assert_eq!(scene.view.listeners(), []);
    std::net::TcpStream::connect(tcp).unwrap_err();
}

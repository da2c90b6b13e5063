//! What a peer that is nothing but gossipsub can do to a topic: write to it, if it keeps to the rules. And what a service is that is to be
//! reached there.

use std::sync::Arc;

use futures::StreamExt as _;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentTopic, MessageAuthenticity, PublishError, ValidationMode,
};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, tcp, yamux};
use net::ConnectedService;
use net::topics::Envelope;
use storage::PeerKey;

use crate::harness::*;
use crate::services_pair::{hears, listen};

fn stranger(authenticity: MessageAuthenticity, keypair: Keypair) -> Swarm<Behaviour> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::None)
        .max_transmit_size(32 * 1024 * 1024)
        .build()
        .unwrap();
    SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| Behaviour::new(authenticity, config).unwrap())
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(NEVER))
        .build()
}

fn envelope(number: u64, data: &[u8]) -> Vec<u8> {
    Envelope { number, content_type: None, data: data.to_vec() }.encode()
}

/// Drives a stranger: what it is given, it publishes, as soon as somebody is subscribed.
async fn drive(mut swarm: Swarm<Behaviour>, to: Multiaddr, messages: Vec<Vec<u8>>) {
    let topic = IdentTopic::new("a");
    swarm.dial(to).unwrap();
    swarm.behaviour_mut().subscribe(&topic).unwrap();
    let mut messages = messages.into_iter().peekable();
    loop {
        while let Some(message) = messages.peek() {
            match swarm.behaviour_mut().publish(topic.clone(), message.clone()) {
                Err(PublishError::NoPeersSubscribedToTopic) => break,
                other => drop(other.unwrap()),
            }
            messages.next();
        }
        swarm.select_next_some().await;
    }
}

async fn node() -> Node {
    let node = Node::start(network_section());
    node.reload_protocol(1, |section| section.topics = vec!["a".to_owned()]).await;
    node
}

#[actix::test]
async fn a_name_that_is_not_proven_is_not_believed() {
    let node = node().await;
    let mut reader = node.topics.subscribe("a", None).unwrap();
    let victim = Keypair::generate_ed25519().public().to_peer_id();
    // One in the name of another, one without a name: neither signs. One that signs, after them.
    for authenticity in [MessageAuthenticity::Author(victim), MessageAuthenticity::Anonymous] {
        let swarm = stranger(authenticity, Keypair::generate_ed25519());
        let connections = node.view.connection_count();
        actix::spawn(drive(swarm, node.view.listeners()[0].clone(), vec![envelope(1, b"forged")]));
        soon("a connection", node.view.when(|view| view.connection_count() > connections)).await;
    }
    let keypair = Keypair::generate_ed25519();
    let key = PeerKey::from_peer_id(&PeerId::from(keypair.public())).unwrap();
    let honest = stranger(MessageAuthenticity::Signed(keypair.clone()), keypair);
    // A version that is not known, bytes that are nothing, a message, the same again, one that is newer, one that is too large.
    let large = vec![0; 2 * 1024 * 1024];
    let messages = vec![
        vec![9, 9, 9],
        vec![1, 2, 3],
        envelope(5, b"first"),
        envelope(5, b"again"),
        envelope(6, b"second"),
        envelope(7, &large[..1024 * 1024 + 1]),
        envelope(8, b"third"),
    ];
    actix::spawn(drive(honest, node.view.listeners()[0].clone(), messages));
    for expected in ["first", "second", "third"] {
        let message = soon("a message", reader.recv()).await.unwrap();
        assert_eq!((String::from_utf8_lossy(&message.data).as_ref(), message.from), (expected, key));
    }
    assert_eq!(node.view.counted().violations, 1, "the bytes that are nothing");
    assert!(reader.try_recv().unwrap().is_none());
}

#[actix::test]
async fn a_strangers_frame_is_bounded_when_it_comes() {
    let node = node().await;
    let mut reader = node.topics.subscribe("a", None).unwrap();
    let keypair = Keypair::generate_ed25519();
    let swarm = stranger(MessageAuthenticity::Signed(keypair.clone()), keypair);
    // Gossipsub closes the stream over the first; what is written after that on a new one arrives.
    let messages = vec![envelope(1, &vec![0; 8 * 1024 * 1024])];
    actix::spawn(drive(swarm, node.view.listeners()[0].clone(), messages));
    let keypair = Keypair::generate_ed25519();
    let other = stranger(MessageAuthenticity::Signed(keypair.clone()), keypair);
    actix::spawn(drive(other, node.view.listeners()[0].clone(), vec![envelope(1, b"small")]));
    assert_eq!(soon("a message", reader.recv()).await.unwrap().data, b"small");
    assert!(reader.try_recv().unwrap().is_none());
}

#[actix::test]
async fn a_service_of_a_member_that_knows_none_is_closed_to_its_caller_and_the_log_says_why() {
    capture_log();
    let mut node = Node::start(network_section());
    let keypair = Keypair::generate_ed25519();
    let key = PeerKey::from_peer_id(&keypair.public().to_peer_id()).unwrap();
    node.reload_with(|section| section.members = Arc::new([(key, member(key, Vec::new()))].into())).await;
    let swarm = stranger(MessageAuthenticity::Signed(keypair.clone()), keypair);
    actix::spawn(drive(swarm, node.view.listeners()[0].clone(), Vec::new()));
    soon("a connection", node.view.when(|view| view.connection_count() == 1)).await;
    let port = free_port();
    let service = ConnectedService { name: "of-a-stranger".to_owned(), peer: key, listen: listen(port) };
    node.reload_protocol(1, |section| section.connect = vec![service]).await;
    assert_eq!(hears(port).await, "");
    let why = "the member does not speak the protocol of services";
    assert!(logged(&["a local connection to a service was closed", "of-a-stranger", why]) > 0);
}

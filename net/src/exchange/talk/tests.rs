//! Both ends of a stream over a real socket, and peers that do as they like on one of them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libp2p::Multiaddr;
use libp2p::tcp::tokio::TcpStream;
use storage::KnownEntry;
use storage::known_file::Hand;

use super::*;
use crate::exchange::record::{MAX_RECORD, Record, RecordError};
use crate::exchange::wire::{MAX_MESSAGE, Request, write};
use crate::fixtures::member;
use crate::{Identity, RateLimit, Settings};

const NEVER: Duration = Duration::from_secs(60);

struct Node {
    identity: Identity,
    known: Known,
    post: Post,
}

impl Node {
    fn new() -> Self {
        let settings = Settings {
            ping_interval: NEVER,
            max_message_size: 9,
            rate_limit: RateLimit { messages_per_second: 1.0, burst: 1 },
            exchange_interval: Duration::from_millis(100),
        };
        let node =
            Self { identity: Identity::generate(), known: Known::default(), post: Post::new(settings) };
        node.moves("/ip4/127.0.0.1/tcp/1", 0);
        node
    }

    fn key(&self) -> PeerKey {
        self.identity.public_key()
    }

    fn record(&self, address: &str, later: u64) -> Record {
        let address: Multiaddr = address.parse().unwrap();
        Record::sign(&self.identity, super::super::known::unix_ms() + later, vec![address]).unwrap()
    }

    fn moves(&self, address: &str, later: u64) {
        let record = self.record(address, later);
        self.known.set_own(self.key(), record.seq, vec![record]);
        self.known.publish();
    }

    fn link(&self, peer: PeerKey) -> Link {
        self.link_of(peer, Reach::Host)
    }

    fn link_of(&self, peer: PeerKey, reach: Reach) -> Link {
        Link::new(self.key(), peer, reach, self.known.clone(), self.post.clone())
    }

    async fn knows(&self, of: PeerKey, at: &str) {
        let mut changes = self.known.changes();
        let knows = async {
            while self.known.addresses(&of).iter().all(|address| address.to_string() != at) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(NEVER, knows).await.unwrap_or_else(|_| panic!("{of} is not known at {at}"));
    }
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = futures::future::join(
        tokio::net::TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept(),
    )
    .await;
    (TcpStream(one.unwrap()), TcpStream(other.unwrap().0))
}

/// Connects two nodes, with a stream each way.
async fn connect(one: &Node, other: &Node) -> Vec<tokio::task::JoinHandle<ExchangeError>> {
    let ends = [one.link(other.key()), other.link(one.key())];
    let mut tasks = Vec::new();
    for (speaker, listener) in [(0, 1), (1, 0)] {
        let (near, far) = sockets().await;
        let (speaker, listener) = (ends[speaker].clone(), ends[listener].clone());
        tasks.push(tokio::spawn(async move { speak(near, speaker, &mut false).await }));
        tasks.push(tokio::spawn(serve(far, listener)));
    }
    tasks
}

/// What `serve` says of a peer that sends these messages and then is silent.
async fn served(node: &Node, peer: PeerKey, messages: &[Message]) -> Option<ExchangeError> {
    let (mut near, far) = sockets().await;
    let server = tokio::spawn(serve(far, node.link(peer)));
    for message in messages {
        if write(&mut near, message).await.is_err() {
            break;
        }
    }
    futures::AsyncWriteExt::close(&mut near).await.ok();
    let error = tokio::time::timeout(NEVER, server).await.unwrap().unwrap();
    error.is_violation().then_some(error)
}

/// What `speak` says of a peer that answers its first question so.
async fn answered(node: &Node, peer: PeerKey, answer: impl FnOnce(Request) -> Message) -> ExchangeError {
    answered_over(node.link(peer), answer).await
}

async fn answered_over(link: Link, answer: impl FnOnce(Request) -> Message) -> ExchangeError {
    let (near, mut far) = sockets().await;
    let asker = tokio::spawn(async move { speak(near, link, &mut false).await });
    let (Message::Request(request), _) = Message::read(&mut far).await.unwrap() else { panic!("a request") };
    write(&mut far, &answer(request)).await.unwrap();
    // Until the answer was taken, and with it perhaps the next question asked.
    let next = Message::read(&mut far).await;
    drop((next, far));
    tokio::time::timeout(NEVER, asker).await.unwrap().unwrap()
}

fn response(request: &Request, records: Vec<Arc<[u8]>>, more: bool) -> Message {
    let version = request.after + records.len() as u64;
    Message::Response(Response { number: request.number, session: 7, version, more, records })
}

fn request(number: u32) -> Message {
    Message::Request(Request { number, reach: Reach::Host, session: 0, after: 0, digests: vec![[0; 16]] })
}

#[tokio::test]
async fn who_was_refused_for_want_of_room_is_asked_for_again_when_there_is_some() {
    let [one, other] = [Node::new(), Node::new()];
    one.known.bound().set(0);
    let _streams = connect(&one, &other).await;
    let asked = async {
        while one.known.figures().asked() < 2 {
            // A counter, which wakes nobody.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(NEVER, asked).await.unwrap();
    assert!(one.known.addresses(&other.key()).is_empty());
    one.known.bound().set(1);
    one.knows(other.key(), "/ip4/127.0.0.1/tcp/1").await;
}

#[tokio::test]
async fn a_chain_of_nodes_learns_of_all_and_of_every_move() {
    let nodes: Vec<_> = (0..4).map(|_| Node::new()).collect();
    let mut tasks = Vec::new();
    for pair in nodes.windows(2) {
        tasks.extend(connect(&pair[0], &pair[1]).await);
    }
    for one in &nodes {
        for other in nodes.iter().filter(|other| other.key() != one.key()) {
            one.knows(other.key(), "/ip4/127.0.0.1/tcp/1").await;
        }
    }
    nodes[0].moves("/ip4/127.0.0.1/tcp/2", 1);
    nodes[3].knows(nodes[0].key(), "/ip4/127.0.0.1/tcp/2").await;
    nodes[3].moves("/ip4/127.0.0.1/tcp/3", 1);
    nodes[0].knows(nodes[3].key(), "/ip4/127.0.0.1/tcp/3").await;
    assert!(tasks.iter().all(|task| !task.is_finished()));
}

#[tokio::test]
async fn a_move_is_announced_and_told_of_without_waiting_for_the_interval() {
    let nodes: Vec<_> = (0..3).map(|_| Node::new()).collect();
    let mut tasks = Vec::new();
    for pair in nodes.windows(2) {
        tasks.extend(connect(&pair[0], &pair[1]).await);
    }
    nodes[2].knows(nodes[0].key(), "/ip4/127.0.0.1/tcp/1").await;
    nodes[0].knows(nodes[2].key(), "/ip4/127.0.0.1/tcp/1").await;
    for node in &nodes {
        let day = Duration::from_secs(24 * 60 * 60);
        node.post.set(Settings { exchange_interval: day, ..node.post.settings() });
    }
    nodes[0].moves("/ip4/127.0.0.1/tcp/2", 1);
    nodes[2].knows(nodes[0].key(), "/ip4/127.0.0.1/tcp/2").await;
    drop(tasks);
}

#[tokio::test]
async fn another_interval_counts_at_once() {
    let (one, other) = (Node::new(), Node::new());
    let day = Duration::from_secs(24 * 60 * 60);
    one.post.set(Settings { exchange_interval: day, ..one.post.settings() });
    let (near, far) = sockets().await;
    let link = one.link(other.key());
    let asker = tokio::spawn(async move { speak(near, link, &mut false).await });
    let server = tokio::spawn(serve(far, other.link(one.key())));
    one.knows(other.key(), "/ip4/127.0.0.1/tcp/1").await;
    one.post.set(Settings { exchange_interval: Duration::from_millis(100), ..one.post.settings() });
    let again = async {
        while one.known.figures().asked() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(NEVER, again).await.unwrap();
    assert!(!asker.is_finished() && !server.is_finished());
}

#[tokio::test]
async fn two_that_know_the_same_say_little() {
    let (one, other) = (Node::new(), Node::new());
    let tasks = connect(&one, &other).await;
    one.knows(other.key(), "/ip4/127.0.0.1/tcp/1").await;
    other.knows(one.key(), "/ip4/127.0.0.1/tcp/1").await;
    let sum = |node: &Node| node.known.figures().traffic().iter().map(|kind| kind.sent).sum::<u64>();
    let (asked, before) = (one.known.figures().asked(), sum(&one));
    let more = async {
        while one.known.figures().asked() < asked + 10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(NEVER, more).await.unwrap();
    let figures = one.known.figures();
    let exchanges = figures.asked() - asked + 10 + 2;
    // A request and a response without records; 70 bytes for both ends' questions.
    assert!(sum(&one) - before <= exchanges * 2 * 75 + 200, "{} bytes", sum(&one) - before);
    drop(tasks);
}

#[tokio::test]
async fn a_forged_record_costs_the_stream_and_teaches_nothing() {
    let (node, liar, victim) = (Node::new(), Node::new(), Node::new());
    let mut forged = victim.record("/ip4/127.0.0.1/tcp/666", 0).bytes.to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let forged: Arc<[u8]> = forged.into();
    let error = answered(&node, liar.key(), |request| response(&request, vec![forged.clone()], false)).await;
    assert!(matches!(error, ExchangeError::Record(RecordError::Signature)), "{error}");
    let error = served(&node, liar.key(), &[Message::Announcement(vec![forged])]).await.unwrap();
    assert!(matches!(error, ExchangeError::Record(RecordError::Signature)), "{error}");
    assert_eq!(node.known.count(), 0);
}

#[tokio::test]
async fn of_others_nobody_speaks_unasked() {
    let (node, liar, victim) = (Node::new(), Node::new(), Node::new());
    let honest = victim.record("/ip4/127.0.0.1/tcp/1", 0);
    let error = served(&node, liar.key(), &[Message::Announcement(vec![honest.bytes])]).await.unwrap();
    assert!(matches!(error, ExchangeError::Record(RecordError::Foreign)), "{error}");
    let answer = Response { number: 1, session: 1, version: 1, more: false, records: vec![] };
    let error = served(&node, liar.key(), &[Message::Response(answer)]).await.unwrap();
    assert!(matches!(error, ExchangeError::OutOfTurn), "{error}");
    assert_eq!(node.known.count(), 0);
}

#[tokio::test]
async fn a_replay_moves_nobody_back() {
    let (node, liar, victim) = (Node::new(), Node::new(), Node::new());
    let (old, new) = (victim.record("/ip4/127.0.0.1/tcp/1", 0), victim.record("/ip4/127.0.0.1/tcp/2", 1));
    for record in [new, old] {
        answered(&node, liar.key(), |request| response(&request, vec![record.bytes], false)).await;
    }
    let addresses = node.known.addresses(&victim.key());
    assert_eq!(addresses, ["/ip4/127.0.0.1/tcp/2".parse().unwrap()]);
}

#[tokio::test]
async fn an_answer_must_be_to_the_question() {
    let (node, liar) = (Node::new(), Node::new());
    let wrong =
        |request: Request| response(&Request { number: request.number + 1, ..request }, vec![], false);
    assert!(matches!(answered(&node, liar.key(), wrong).await, ExchangeError::OutOfTurn));
    // One that goes on and on without an end, or for ever at the same place.
    let circle = |request: Request| response(&request, vec![], true);
    assert!(matches!(answered(&node, liar.key(), circle).await, ExchangeError::Circle));
}

#[tokio::test]
async fn addresses_that_mean_another_place_are_not_taken_from_afar() {
    let (node, liar, other) = (Node::new(), Node::new(), Node::new());
    for (address, reach, taken) in [
        ("/ip4/127.0.0.1/tcp/22", Reach::World, 0),
        ("/ip4/10.0.0.1/tcp/22", Reach::World, 0),
        ("/ip4/127.0.0.1/tcp/22", Reach::Site, 0),
        ("/ip4/10.0.0.1/tcp/22", Reach::Site, 1),
    ] {
        let record = other.record(address, 0);
        let link = node.link_of(liar.key(), reach);
        answered_over(link, |request| response(&request, vec![record.bytes], false)).await;
        assert_eq!(node.known.count(), taken, "{address} over {reach:?}");
    }
}

#[tokio::test]
async fn whoever_asks_or_announces_without_end_is_cut_off() {
    let (node, liar) = (Node::new(), Node::new());
    // All that can be written before the stream is cut; nobody reads the answers until then.
    let (near, far) = sockets().await;
    let server = tokio::spawn(serve(far, node.link(liar.key())));
    let (mut read, mut write) = futures::AsyncReadExt::split(near);
    let reader = tokio::spawn(async move { while Message::read(&mut read).await.is_ok() {} });
    for number in 0..u32::MAX {
        if super::wire::write(&mut write, &request(number)).await.is_err() || server.is_finished() {
            break;
        }
    }
    let error = tokio::time::timeout(NEVER, server).await.unwrap().unwrap();
    assert!(matches!(error, ExchangeError::TooOften | ExchangeError::Io(_)), "{error}");
    reader.await.unwrap();
    // A new stream begins where the old one ended; another peer does not notice.
    let error = served(&node, liar.key(), &vec![request(1); 200]).await.expect("a violation");
    assert!(matches!(error, ExchangeError::TooOften), "{error}");
    assert!(served(&node, Node::new().key(), &[request(1)]).await.is_none());
}

#[tokio::test]
async fn under_members_addresses_come_and_never_a_member() {
    let (node, teller, friend, stranger) = (Node::new(), Node::new(), Node::new(), Node::new());
    let members = [&teller, &friend].map(|node| (node.key(), member(node.key(), &[])));
    node.known.set_members(&Arc::new(members.into()), true);
    let records: Vec<_> =
        [&friend, &stranger].map(|node| node.record("/ip4/127.0.0.1/tcp/1", 0).bytes).into();
    answered(&node, teller.key(), |request| response(&request, records, false)).await;
    assert_eq!(node.known.list().iter().map(|peer| peer.public_key).collect::<Vec<_>>(), [friend.key()]);
    assert_eq!(node.known.next_news(), Some(friend.key()));
    assert_eq!(node.known.next_news(), None);
}

#[tokio::test]
async fn thousands_of_peers_go_from_one_to_the_other_and_over_a_restart() {
    // As many as make several full messages; their number is tried in the book's own test, without signatures.
    const MANY: usize = 2000;
    let (one, other) = (Node::new(), Node::new());
    let kept = (0..MANY).map(|_| {
        let peer = Identity::generate();
        let at = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
        let record = Record::sign(&peer, super::super::known::unix_ms(), at).unwrap();
        assert!(record.bytes.len() <= MAX_RECORD);
        KnownEntry {
            public_key: record.key,
            addresses: Vec::new(),
            source: "exchange".to_owned(),
            first_seen: 7,
            last_seen: 9,
            failures: 3,
            records: vec![STANDARD.encode(&record.bytes)],
        }
    });
    assert_eq!(one.known.load(kept, Hand::Person), MANY);
    let tasks = connect(&one, &other).await;
    let mut changes = other.known.changes();
    let all = async {
        while other.known.count() < MANY + 1 {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(NEVER, all).await.unwrap();
    let sent = one.known.figures().traffic()[1].sent;
    assert!(sent < (MANY * 250 + 2 * MAX_MESSAGE) as u64, "{sent} bytes: each once");
    drop(tasks);
    // What is kept and read again is the same; what is damaged is passed over.
    let mut kept = one.known.snapshot();
    assert!(kept.iter().filter(|peer| peer.failures == 3 && peer.first_seen == 7).count() == MANY);
    for hand in [Hand::Node, Hand::Person] {
        let again = Known::default();
        assert_eq!(again.load(kept.clone(), hand), MANY + 1);
        assert_eq!(again.snapshot(), kept);
    }
    // One that is damaged, and one that stands under another's name.
    kept[0].records[0].replace_range(40..41, "!");
    kept[1].public_key = kept[2].public_key;
    for hand in [Hand::Node, Hand::Person] {
        assert_eq!(Known::default().load(kept.clone(), hand), MANY - 1);
    }
}

/// A file that a person wrote is as little believed as a peer; one that this node wrote, it has judged before.
#[test]
fn a_wrong_signature_is_found_in_whatever_a_person_wrote() {
    let peer = Identity::generate();
    let at = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
    let mut bytes = Record::sign(&peer, super::super::known::unix_ms(), at).unwrap().bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let entry = KnownEntry {
        public_key: peer.public_key(),
        addresses: Vec::new(),
        source: "exchange".to_owned(),
        first_seen: 7,
        last_seen: u64::MAX,
        failures: 3,
        records: vec![STANDARD.encode(&bytes)],
    };
    assert_eq!(Known::default().load([entry.clone()], Hand::Person), 0);
    let known = Known::default();
    assert_eq!(known.load([entry], Hand::Node), 1);
    let last_seen = known.list()[0].last_seen;
    assert!(last_seen <= super::super::known::unix_ms() / 1000, "{last_seen}: nobody was seen in the future");
}

#[test]
fn what_a_person_writes_of_one_who_is_known_counts() {
    let peer = Identity::generate();
    let record = Record::sign(&peer, super::super::known::unix_ms(), Vec::new()).unwrap();
    let known = Known::default();
    known.take(&record.bytes, Teller::Itself(record.key), Reach::Host).unwrap();
    let mut entry = known.snapshot().remove(0);
    entry.failures = 5;
    known.load([entry.clone()], Hand::Person);
    assert_eq!(known.snapshot(), [entry]);
}

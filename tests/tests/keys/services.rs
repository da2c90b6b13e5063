//! Services: which there are, where they lead, and to whom. In each test a stream is open that began under what was before, and
//! goes on.

use std::io;

use fednode_tests::Port;
use fednode_tests::hum::HUM;
use fednode_tests::wait::PATIENCE;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::Key;
use crate::scene::{FROM_LIVE, LIVE, Scene, TO_LIVE};

/// A local service that says its name, one letter, and sends back what comes; it ends with the test.
async fn service(name: u8) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.split();
                writer.write_all(&[name]).await?;
                tokio::io::copy(&mut reader, &mut writer).await?;
                writer.shutdown().await
            });
        }
    });
    address.to_string()
}

/// A stream to whoever says this name.
struct Call(TcpStream);

// === impl Call ===

impl Call {
    async fn to(port: &Port, name: u8) -> Self {
        let mut socket = TcpStream::connect(port.address()).await.expect("the node listens");
        let mut said = [0];
        let read = timeout(PATIENCE, socket.read_exact(&mut said)).await.expect("an answer");
        read.expect("it is led somewhere");
        assert_eq!(char::from(said[0]), char::from(name), "it is led elsewhere");
        Self(socket)
    }

    /// It goes on.
    async fn goes_on(&mut self) {
        self.0.write_all(b"still there?").await.expect("it is open");
        let mut back = [0; 12];
        timeout(PATIENCE, self.0.read_exact(&mut back)).await.expect("an echo").expect("it is open");
        assert_eq!(&back, b"still there?");
    }

    /// And comes to an end when its client ends it.
    async fn ends(mut self) -> io::Result<()> {
        self.goes_on().await;
        self.0.shutdown().await?;
        assert_eq!(timeout(PATIENCE, self.0.read(&mut [0])).await.expect("an end")?, 0);
        Ok(())
    }
}

/// Closed cleanly, without a byte.
async fn is_turned_away(port: &Port) {
    let mut socket = TcpStream::connect(port.address()).await.expect("the node listens");
    let read = timeout(PATIENCE, socket.read(&mut [0])).await.expect("an answer");
    assert_eq!(read.expect("no reset"), 0, "nobody is there");
}

/// The live node exposes services to the third, which connects to `a` and `b`.
struct Exposing {
    scene: Scene,
    a: Port,
    b: Port,
    key: Key,
}

// === impl Exposing ===

impl Exposing {
    async fn start(key: Key, services: Value) -> Self {
        let (a, b) = (Port::free(), Port::free());
        let scene = Scene::busy(TO_LIVE, |specs| {
            let peer = specs[LIVE].keys.public_key.clone();
            let row = |name: &str, port: &Port| {
                json!({"name": name, "peer": peer, "listen": port.address().to_string()})
            };
            specs[2].conf["protocol"]["services"]["connect"] = json!([row("a", &a), row("b", &b)]);
            beside_the_hum(&mut specs[LIVE].conf["protocol"]["services"]["expose"], services);
        })
        .await;
        Self { scene, a, b, key }
    }

    async fn expose(&mut self, services: Value) {
        let edit = |conf: &mut Value| beside_the_hum(&mut conf["protocol"]["services"]["expose"], services);
        self.scene.change_at(LIVE, self.key, edit).await;
    }

    async fn finish(self, open: Vec<Call>) {
        for call in open {
            call.ends().await.expect("it holds");
        }
        self.scene.finish().await;
    }
}

/// The tunnel's own entry stays as it is.
fn beside_the_hum(list: &mut Value, others: Value) {
    let list = list.as_array_mut().expect("a list");
    list.retain(|row| row["name"] == HUM);
    assert_eq!(list.len(), 1);
    list.extend(others.as_array().expect("a list").iter().cloned());
}

pub async fn expose(key: Key) {
    let target = service(b'1').await;
    let mut at = Exposing::start(key, json!([])).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        is_turned_away(&at.a).await;
        at.expose(json!([{"name": "a", "target": target}])).await;
        open.push(Call::to(&at.a, b'1').await);
        at.expose(json!([])).await;
        for call in &mut open {
            call.goes_on().await;
        }
    }
    is_turned_away(&at.a).await;
    at.finish(open).await;
}

pub async fn exposed_name(key: Key) {
    let target = service(b'1').await;
    let of = |name: &str| json!([{"name": name, "target": target}]);
    let mut at = Exposing::start(key, of("a")).await;
    let mut open = vec![Call::to(&at.a, b'1').await];
    at.expose(of("b")).await;
    is_turned_away(&at.a).await;
    open.push(Call::to(&at.b, b'1').await);
    at.expose(of("a")).await;
    is_turned_away(&at.b).await;
    open.push(Call::to(&at.a, b'1').await);
    at.finish(open).await;
}

pub async fn exposed_target(key: Key) {
    let targets = [service(b'1').await, service(b'2').await];
    let of = |at: usize| json!([{"name": "a", "target": targets[at]}]);
    let mut at = Exposing::start(key, of(0)).await;
    let mut open = vec![Call::to(&at.a, b'1').await];
    at.expose(of(1)).await;
    open.push(Call::to(&at.a, b'2').await);
    open[0].goes_on().await;
    at.expose(of(0)).await;
    open.push(Call::to(&at.a, b'1').await);
    at.finish(open).await;
}

pub async fn exposed_allow(key: Key) {
    let target = service(b'1').await;
    let everybody = json!([{"name": "a", "target": target}]);
    let mut at = Exposing::start(key, everybody.clone()).await;
    let keys = [0, 2].map(|index| at.scene.nodes[index].key().to_owned());
    let mut open = vec![Call::to(&at.a, b'1').await];
    for (allow, is_allowed) in
        [(json!([]), false), (json!([keys[1]]), true), (json!([keys[0]]), false), (json!(keys), true)]
    {
        at.expose(json!([{"name": "a", "target": target, "allow": allow}])).await;
        if is_allowed {
            open.push(Call::to(&at.a, b'1').await);
        } else {
            is_turned_away(&at.a).await;
        }
        open[0].goes_on().await;
    }
    at.expose(json!([{"name": "a", "target": target, "allow": []}])).await;
    is_turned_away(&at.a).await;
    at.expose(everybody).await;
    open.push(Call::to(&at.a, b'1').await);
    at.finish(open).await;
}

/// The live node connects to `a` (1) and `b` (2) of the third node, and to `a` (3) of the first.
struct Connecting {
    scene: Scene,
    ports: [Port; 2],
    key: Key,
}

// === impl Connecting ===

impl Connecting {
    async fn start(key: Key) -> Self {
        let (one, two, three) = (service(b'1').await, service(b'2').await, service(b'3').await);
        let scene = Scene::busy(FROM_LIVE, |specs| {
            let third = &mut specs[2].conf["protocol"]["services"]["expose"];
            *third = json!([{"name": "a", "target": one}, {"name": "b", "target": two}]);
            let first = &mut specs[0].conf["protocol"]["services"]["expose"];
            beside_the_hum(first, json!([{"name": "a", "target": three}]));
        })
        .await;
        Self { scene, ports: [Port::free(), Port::free()], key }
    }

    fn row(&self, name: &str, node: usize, port: usize) -> Value {
        let (peer, listen) = (self.scene.nodes[node].key(), self.ports[port].address().to_string());
        json!([{"name": name, "peer": peer, "listen": listen}])
    }

    /// What was not there before, and puts it into force beforehand where it is to be changed.
    async fn given(key: Key, name: &str, node: usize, port: usize) -> Self {
        let mut at = Self::start(key).await;
        let row = at.row(name, node, port);
        at.connect(row).await;
        at
    }

    async fn connect(&mut self, services: Value) {
        let edit = |conf: &mut Value| beside_the_hum(&mut conf["protocol"]["services"]["connect"], services);
        self.scene.change_at(LIVE, self.key, edit).await;
    }

    async fn finish(self, open: Vec<Call>) {
        for call in open {
            call.ends().await.expect("it holds");
        }
        self.scene.finish().await;
    }
}

pub async fn connect(key: Key) {
    let mut at = Connecting::start(key).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        assert!(!at.ports[0].accepts());
        let row = at.row("a", 2, 0);
        at.connect(row).await;
        open.push(Call::to(&at.ports[0], b'1').await);
        at.connect(json!([])).await;
        for call in &mut open {
            call.goes_on().await;
        }
    }
    assert!(!at.ports[0].accepts());
    at.finish(open).await;
}

pub async fn connected_name(key: Key) {
    let mut at = Connecting::given(key, "a", 2, 0).await;
    let mut open = vec![Call::to(&at.ports[0], b'1').await];
    for (name, said) in [("b", b'2'), ("nobodys", 0), ("a", b'1')] {
        let row = at.row(name, 2, 0);
        at.connect(row).await;
        if said == 0 {
            is_turned_away(&at.ports[0]).await;
        } else {
            open.push(Call::to(&at.ports[0], said).await);
        }
        open[0].goes_on().await;
    }
    at.finish(open).await;
}

pub async fn connected_peer(key: Key) {
    let mut at = Connecting::given(key, "a", 2, 0).await;
    let mut open = vec![Call::to(&at.ports[0], b'1').await];
    for (node, said) in [(0, b'3'), (2, b'1')] {
        let row = at.row("a", node, 0);
        at.connect(row).await;
        open.push(Call::to(&at.ports[0], said).await);
        open[0].goes_on().await;
    }
    at.finish(open).await;
}

pub async fn connected_listen(key: Key) {
    let mut at = Connecting::given(key, "a", 2, 0).await;
    let mut open = vec![Call::to(&at.ports[0], b'1').await];
    for (port, before) in [(1, 0), (0, 1)] {
        let row = at.row("a", 2, port);
        at.connect(row).await;
        assert!(!at.ports[before].accepts(), "it is given back");
        open.push(Call::to(&at.ports[port], b'1').await);
        open[0].goes_on().await;
    }
    at.finish(open).await;
}

//! Two nodes, of which the first exposes services and the second connects to them; and local services of a few kinds.

use std::io;
use std::net::SocketAddr;

use fednode_tests::wait::PATIENCE;
use fednode_tests::{Node, Port, Spec, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// See the module.
pub struct Scene {
    pub nodes: Vec<Node>,
    /// Where the second node listens for the service `it`.
    pub port: Port,
}

/// Which node exposes.
pub const THERE: usize = 0;
/// Which node connects.
pub const HERE: usize = 1;

// === impl Scene ===

impl Scene {
    /// With one service, `it`.
    pub async fn with(target: SocketAddr) -> Self {
        Self::of(Spec::federation(2), target).await
    }

    pub async fn of(mut specs: Vec<Spec>, target: SocketAddr) -> Self {
        let port = Port::free();
        specs[THERE].conf["protocol"]["services"]["expose"] =
            json!([{"name": "it", "target": target.to_string()}]);
        let peer = specs[THERE].keys.public_key.clone();
        specs[HERE].conf["protocol"]["services"]["connect"] = json!([connection("it", &peer, &port)]);
        let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
        for node in &mut nodes {
            node.wait_until_it_serves().await;
        }
        let others = nodes.len() - 1;
        for node in &nodes {
            node.wait_for_connections(others).await;
        }
        Self { nodes, port }
    }

    /// An entry of `connect` to the first node.
    pub fn connection(&self, name: &str, port: &Port) -> Value {
        connection(name, self.nodes[THERE].key(), port)
    }

    /// Changes what the first node exposes.
    pub async fn expose(&mut self, services: Value) -> Value {
        let outcome =
            self.nodes[THERE].reload_with(|conf| conf["protocol"]["services"]["expose"] = services).await;
        committed(&outcome);
        outcome
    }

    /// Changes what the second node connects to.
    pub async fn connect(&mut self, services: Value) -> Value {
        let outcome =
            self.nodes[HERE].reload_with(|conf| conf["protocol"]["services"]["connect"] = services).await;
        committed(&outcome);
        outcome
    }

    pub async fn connections(&self) -> Vec<Vec<(String, String)>> {
        let mut all = Vec::new();
        for node in &self.nodes {
            all.push(node.connections().await);
        }
        all
    }

    /// Waits until so many streams of `it` are open, at both ends.
    pub async fn wait_for_streams(&self, count: u64) {
        for (node, key) in [(THERE, "expose"), (HERE, "connect")] {
            eventually(&format!("{count} streams at node {node}"), async || {
                let open: u64 =
                    services(&self.nodes[node]).await[key].as_array()?.iter().map(open_streams).sum();
                (open == count).then_some(())
            })
            .await;
        }
    }
}

fn connection(name: &str, peer: &str, port: &Port) -> Value {
    json!({"name": name, "peer": peer, "listen": port.address().to_string()})
}

fn open_streams(row: &Value) -> u64 {
    row["open_streams"].as_u64().expect("a number")
}

/// `GET /admin/services`.
pub async fn services(node: &Node) -> Value {
    node.client().get("/admin/services").await.expect("it answers").json().expect("JSON")
}

pub fn committed(outcome: &Value) {
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
}

/// A local service that does this with each connection; it ends with the test.
pub async fn serve<F>(attend: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // What becomes of a connection shows at its other end.
            drop(tokio::spawn(attend(socket)));
        }
    });
    address
}

/// Sends back what comes, then ends.
pub async fn echo() -> SocketAddr {
    serve(|mut socket| async move {
        let (mut reader, mut writer) = socket.split();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buffer).await? {
                0 => return writer.shutdown().await,
                read => writer.write_all(&buffer[..read]).await?,
            }
        }
    })
    .await
}

/// Says its name, then ends.
pub async fn named(name: &'static str) -> SocketAddr {
    serve(move |mut socket| async move {
        socket.write_all(name.as_bytes()).await?;
        socket.shutdown().await?;
        while socket.read(&mut [0; 1024]).await? > 0 {}
        Ok(())
    })
    .await
}

pub async fn dial(port: &Port) -> TcpStream {
    TcpStream::connect(port.address()).await.expect("the node listens")
}

/// What comes until the end.
pub async fn read_all(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut all)).await;
    read.expect("the connection ends").map(|_| all)
}

/// What is said on a new connection.
pub async fn hears(port: &Port) -> String {
    String::from_utf8(read_all(&mut dial(port).await).await.expect("no reset")).expect("a text")
}

/// Exchanges something with an echo.
pub async fn is_alive(socket: &mut TcpStream) {
    socket.write_all(b"still there?").await.expect("it is open");
    let mut answer = [0; 12];
    let read = tokio::time::timeout(PATIENCE, socket.read_exact(&mut answer)).await;
    read.expect("an echo").expect("it is open");
    assert_eq!(&answer, b"still there?");
}

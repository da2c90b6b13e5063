//! A real program behind a service: nginx, where it is installed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fednode_tests::{Port, eventually};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::scene::*;

/// A page that does not fit into a window.
const PAGE: usize = 3 << 20;

/// nginx in a folder of its own; ended when dropped.
struct Nginx {
    child: Child,
    port: Port,
    _folder: tempfile::TempDir,
}

// === impl Nginx ===

impl Nginx {
    /// `None`, with the reason printed, where it is not installed.
    async fn start(greeting: &str) -> Option<Self> {
        // Debian puts it where not everybody looks.
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
        let Some(program) = program.into_iter().find(|path| Path::new(path).exists()) else {
            println!("skipped: nginx is not installed (apt-get install nginx-light)");
            return None;
        };
        let (folder, port) = (tempfile::tempdir().expect("a folder"), Port::free());
        let root = folder.path().display();
        fs::write(folder.path().join("greeting"), greeting).expect("a file");
        fs::write(folder.path().join("page"), page()).expect("a file");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {root}/{what};"));
        let conf = format!(
            "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;\n\
             events {{}}\n\
             http {{ access_log off; {} server {{ listen 127.0.0.1:{}; root {root}; }} }}\n",
            temporary.join(" "),
            port.number()
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, conf).expect("a file");
        let child = Command::new(program)
            .args(["-p", &root.to_string(), "-c", &path.display().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let nginx = Self { child, port, _folder: folder };
        eventually("nginx serves", async || nginx.port.accepts().then_some(())).await;
        Some(nginx)
    }

    fn target(&self) -> String {
        self.port.address().to_string()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It is gone already if it could not start; then the test has said so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn page() -> Vec<u8> {
    (0..PAGE).map(|place| (place / 251) as u8).collect()
}

/// The body that a path has, at a local port.
async fn get(port: &Port, path: &str) -> Vec<u8> {
    let mut socket = dial(port).await;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: there\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("it takes a request");
    let answer = read_all(&mut socket).await.expect("a clean end");
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..head]));
    answer[head + 4..].to_vec()
}

#[tokio::test]
async fn nginx_serves_through_reloads() {
    let Some(first) = Nginx::start("first").await else { return };
    let Some(second) = Nginx::start("second").await else { return };
    let mut scene = Scene::with(first.port.address()).await;
    let before = scene.connections().await;
    let mut is_first = true;
    for round in 0..20 {
        let greeting: &[u8] = if is_first { b"first" } else { b"second" };
        assert_eq!(get(&scene.port, "greeting").await, greeting, "round {round}");
        // A page is on its way while the target changes.
        let port = scene.port.address();
        let fetch = tokio::spawn(async move {
            let mut socket = tokio::net::TcpStream::connect(port).await.expect("the node listens");
            socket.write_all(b"GET /page HTTP/1.0\r\n\r\n").await.expect("it takes a request");
            read_all(&mut socket).await.expect("a clean end")
        });
        is_first = !is_first;
        let target = if is_first { first.target() } else { second.target() };
        scene.expose(json!([{"name": "it", "target": target}])).await;
        let level = if is_first { "info" } else { "debug" };
        committed(&scene.nodes[HERE].reload_with(|conf| conf["logging"]["level"] = json!(level)).await);
        let answer = fetch.await.expect("it ends");
        assert!(answer.ends_with(&page()), "round {round}: {} bytes", answer.len());
    }
    assert_eq!(scene.connections().await, before);
}

//! A node whose API is open to the world.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use fednode_tests::web::{Authority, Pair, Way};
use fednode_tests::{Arms, Node, Port, Spec};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// What tokens are signed with unless a test has something else in mind.
pub const SECRET: &str = "thirty-two bytes of a shared one";

/// A node, its port, who signs its certificate, and faults on command.
pub struct Scene {
    pub node: Node,
    pub port: Port,
    pub authority: Authority,
    pub arms: Arms,
}

// === impl Scene ===

impl Scene {
    /// A node that serves TCP as `admin` says, with the port filled in, and the files `cert.pem`, `key.pem` and `ca.pem` beside it.
    pub async fn with(admin: Value) -> Self {
        let port = Port::free();
        let authority = Authority::new("fednode-test");
        let mut spec = Spec::new();
        let arms = Arms::beside(spec.folder());
        spec = spec.env(Arms::VARIABLE, &arms.folder().display().to_string());
        spec.conf["admin"] = admin;
        spec.conf["admin"]["listen"] = json!(port.address());
        put(&spec, &authority.pair());
        fs::write(spec.folder().join("ca.pem"), authority.pem()).expect("the folder can be written");
        let node = spec.start().await;
        Self { node, port, authority, arms }
    }

    /// With TLS and tokens.
    pub async fn secured() -> Self {
        Self::with(json!({"tls": tls(), "jwt": jwt()})).await
    }

    /// With tokens.
    pub async fn plain() -> Self {
        Self::with(json!({"jwt": jwt()})).await
    }

    pub fn plainly(&self) -> Way {
        Way::Plain(self.port.address())
    }

    pub fn by_tls(&self) -> Way {
        Way::Tls(self.port.address(), self.authority.client(None))
    }

    pub fn socket(&self) -> Way {
        Way::Socket(self.node.data_dir().join("admin.sock"))
    }

    /// Changes `admin`, reloads, and expects this outcome.
    pub async fn reload(&mut self, outcome: &str, edit: impl FnOnce(&mut Value)) -> Value {
        let told = self.node.reload_with(|conf| edit(&mut conf["admin"])).await;
        assert_eq!(told["outcome"], outcome, "{told:#}");
        told
    }
}

/// Puts a certificate and its key in place.
pub fn put(spec: &Spec, pair: &Pair) {
    for (name, text) in [("cert.pem", &pair.certificate), ("key.pem", &pair.key)] {
        let (path, beside) = (spec.folder().join(name), spec.folder().join(format!("{name}.new")));
        fs::write(&beside, text).expect("the folder can be written");
        fs::rename(beside, path).expect("a file can be renamed");
    }
}

pub fn tls() -> Value {
    json!({"certificate": "cert.pem", "private_key": "key.pem"})
}

pub fn jwt() -> Value {
    json!({"algorithm": "HS256", "secret": SECRET})
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

/// A token of the usual kind that says this.
pub fn says(claims: &Value) -> String {
    signed(Algorithm::HS256, SECRET.as_bytes(), claims)
}

/// A token with a shared secret.
pub fn signed(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).expect("it can be signed")
}

/// A good token.
pub fn good() -> String {
    says(&json!({"exp": now() + 600, "sub": "ann"}))
}

/// The header for a token.
pub fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

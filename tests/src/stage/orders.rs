//! Orders that change `peers.yaml`.

use serde_json::{Value, json};

use super::Stage;

/// A key of nobody who runs, and who is a member on neither side: a public key from RFC 8032's test vectors.
const STRANGER: &str = "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";

impl Stage {
    /// Orders the stranger in; returns the outcome, or nothing where there is none.
    ///
    /// # Panics
    /// If the node does not answer.
    pub async fn order(&mut self) -> Value {
        let body = json!({"public_key": STRANGER, "addresses": []}).to_string().into_bytes();
        let answer = self.client(self.side).post("/admin/peers", &[], body).await;
        outcome(answer.unwrap_or_else(|error| panic!("{}: {error}", self.doing)).json().unwrap_or_default())
    }

    /// Orders the stranger out again, if he is there; returns the outcome, or nothing where there is none.
    ///
    /// # Panics
    /// If the node does not answer.
    pub async fn take_back(&mut self) -> Value {
        let path = format!("/admin/peers/{STRANGER}");
        let answer = self.client(self.side).delete(&path, &[]).await;
        outcome(answer.unwrap_or_else(|error| panic!("{}: {error}", self.doing)).json().unwrap_or_default())
    }
}

fn outcome(answer: Value) -> Value {
    if answer.get("outcome").is_some() { answer } else { Value::Null }
}

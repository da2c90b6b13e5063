//! `/v1/events`: what happens to this node, as server-sent events. `docs/api.md` lists them.

use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::HttpResponse;
use actix_web::web::{self, Data, ServiceConfig};
use net::{Happenings, Heard};
use serde_json::{Value, json};

use super::{AdminState, only, sse};
use crate::reloads::Listening;

type State = Data<AdminState>;

pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/v1/events").get(events).default_service(only("GET")));
}

async fn events(state: State) -> HttpResponse {
    let sources = (state.view.happenings(), state.reloads.listen());
    let events = futures::stream::unfold(sources, |mut sources| async move {
        let event = stamped(next(&mut sources).await?);
        let name = event["event"].as_str().unwrap_or_default();
        Some((sse::named(name, &event), sources))
    });
    sse::respond(&state, events)
}

/// Of two sources, each in its own order.
async fn next((happenings, reloads): &mut (Happenings, Listening)) -> Option<Value> {
    tokio::select! {
        heard = happenings.next() => match heard? {
            Heard::Happening(happening) => serde_json::to_value(&happening).ok(),
            Heard::Missed(count) => Some(missed(count)),
        },
        reload = reloads.next() => Some(reload?.unwrap_or_else(missed)),
    }
}

/// The listener was too slow.
fn missed(count: u64) -> Value {
    json!({"event": "missed", "count": count})
}

/// With the time of day, in seconds since 1970: what it is when the event is written, which is when it happened for whoever keeps up.
fn stamped(mut event: Value) -> Value {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    event["time"] = json!((since.as_secs_f64() * 1e3).round() / 1e3);
    event
}

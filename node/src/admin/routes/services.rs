//! `GET /admin/services`: what is exposed and connected, what goes through it, and what goes on of services that were removed.

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use net::{ConnectedService, Metered};
use serde_json::{Value, json};

use super::{READ, State, only, read};
use crate::admin::AdminState;

/// Adds the route.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/admin/services").route(read().to(list)).default_service(only(READ)));
}

async fn list(state: State) -> HttpResponse {
    HttpResponse::Ok().json(show(&state))
}

fn show(state: &AdminState) -> Value {
    let config = state.current.load_full();
    let members = state.view.members();
    let exposed = config.protocol.expose.iter().map(|service| {
        let row = json!({"name": service.name, "target": service.target, "allow": service.allow});
        with_flow(row, false, state.services.exposed(service))
    });
    let connection = |service: &ConnectedService| {
        // By key, and their keys are in order.
        let member = members.binary_search_by_key(&service.peer, |member| member.public_key);
        let member = member.ok().and_then(|index| members.get(index));
        json!({
            "name": service.name,
            "peer": service.peer,
            "peer_name": member.and_then(|member| member.name.as_deref()),
            "peer_state": member.map(|member| member.state),
            "listen": service.listen,
        })
    };
    let connected = config.protocol.connect.iter().map(|service| {
        let metered = state.services.connected(service);
        with_flow(connection(service), false, metered)
    });
    let removed = state.services.removed(&config.protocol);
    // Where their streams lead, and who might open one, is no more to be said.
    let exposed_before =
        removed.expose.iter().map(|(name, metered)| with_flow(json!({"name": name}), true, *metered));
    let connected_before =
        removed.connect.iter().map(|(service, metered)| with_flow(connection(service), true, *metered));
    json!({
        "expose": exposed.chain(exposed_before).collect::<Vec<_>>(),
        "connect": connected.chain(connected_before).collect::<Vec<_>>(),
    })
}

/// A service's row, with its figures and whether it is one of those that only open streams still have.
fn with_flow(mut row: Value, removed: bool, metered: Metered) -> Value {
    row["removed"] = json!(removed);
    row["open_streams"] = json!(metered.open);
    row["bytes_sent"] = json!(metered.sent);
    row["bytes_received"] = json!(metered.received);
    row
}

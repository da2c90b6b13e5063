//! `GET /admin/services`: what is exposed and connected, and what goes through it.

use actix_web::HttpResponse;
use actix_web::web::{self, ServiceConfig};
use serde_json::{Value, json};

use super::{State, only};
use crate::admin::AdminState;

/// Adds the route.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.service(web::resource("/admin/services").get(list).default_service(only("GET")));
}

async fn list(state: State) -> HttpResponse {
    HttpResponse::Ok().json(show(&state))
}

fn show(state: &AdminState) -> Value {
    let config = state.current.load_full();
    let members = state.view.members();
    let exposed = config.protocol.expose.iter().map(|service| {
        let metered = state.services.exposed(service);
        json!({
            "name": service.name,
            "target": service.target,
            "allow": service.allow,
            "open_streams": metered.open,
            "bytes_sent": metered.sent,
            "bytes_received": metered.received,
        })
    });
    let connected = config.protocol.connect.iter().map(|service| {
        let metered = state.services.connected(service);
        // By key, and their keys are in order.
        let member = members.binary_search_by_key(&service.peer, |member| member.public_key);
        let member = member.ok().and_then(|index| members.get(index));
        json!({
            "name": service.name,
            "peer": service.peer,
            "peer_name": member.and_then(|member| member.name.as_deref()),
            "peer_state": member.map(|member| member.state),
            "listen": service.listen,
            "open_streams": metered.open,
            "bytes_sent": metered.sent,
            "bytes_received": metered.received,
        })
    });
    json!({"expose": exposed.collect::<Vec<_>>(), "connect": connected.collect::<Vec<_>>()})
}

//! What the protocol actor does with services at each step of a reload.
//!
//! Listeners are reserved in prepare, opened in commit, shut in finish: new before old. What is exposed is one value, swapped in
//! commit and back in restore. An actor that was given up on has lost its office: what it may still do changes nothing.

use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};

use reload::StepError;

use super::door::{Door, Reserved};
use super::exposed::Offers;
use super::line::Route;
use super::meter::Role;
use super::{Ordering, Services};
use crate::reserve::overlap;
use crate::{ConnectedService, ProtocolSection};

/// The right to change what is in force; lost when another one takes it.
#[derive(Debug)]
pub(crate) struct Office {
    services: Services,
    term: u64,
}

/// What a preparation has reserved; given back when dropped. The sockets are not in here: an actor that is stuck with this in its hands
/// must not keep its successor from a port.
#[derive(Debug)]
pub(crate) struct Ticket {
    services: Services,
    number: u64,
}

/// The listeners, and who may change them.
#[derive(Debug, Default)]
pub(super) struct Desk {
    term: u64,
    doors: Vec<Door>,
    /// For the ticket of this number.
    reserved: (u64, Vec<Reserved>),
}

/// The key that a listener's address stands in.
fn key(index: usize) -> String {
    format!("protocol.services.connect[{index}].listen")
}

fn retired() -> StepError {
    StepError::component("a successor is in office")
}

// === impl Ticket ===

impl Ticket {
    /// What was reserved, if it still is.
    fn redeem(&self, desk: &mut Desk) -> Vec<Reserved> {
        let (number, reserved) = &mut desk.reserved;
        if *number == self.number { std::mem::take(reserved) } else { Vec::new() }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        drop(self.redeem(&mut self.services.desk()));
    }
}

// === impl Desk ===

impl Desk {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.doors.iter().map(|door| door.listen).collect()
    }

    fn door(&self, listen: SocketAddr) -> Option<&Door> {
        self.doors.iter().find(|door| door.listen == listen && door.is_open())
    }

    /// Reserves what these want and is not open.
    fn reserve(&self, wanted: &[ConnectedService]) -> Result<Vec<Reserved>, StepError> {
        let mut ours = self.addresses();
        let mut reserved = Vec::new();
        for (index, service) in wanted.iter().enumerate() {
            if self.door(service.listen).is_none() {
                reserved.push(Reserved::new(service.listen, &ours).map_err(|error| error.key(key(index)))?);
                ours.push(service.listen);
            }
        }
        Ok(reserved)
    }

    /// Shuts the doors that these do not want. Who waits there is led to the door that takes the place, where one does.
    fn shut_others(&mut self, wanted: &[ConnectedService]) -> impl Future<Output = ()> + Send + use<> {
        let is_wanted = |door: &Door| wanted.iter().any(|service| service.listen == door.listen);
        let (kept, others) = std::mem::take(&mut self.doors).into_iter().partition::<Vec<_>, _>(is_wanted);
        let heir = |door: &Door| kept.iter().find(|kept| overlap(kept.listen, door.listen))?.route();
        let shut: Vec<_> = others
            .into_iter()
            .map(|door| {
                let heir = heir(&door);
                door.shut(heir)
            })
            .collect();
        self.doors = kept;
        async move {
            futures::future::join_all(shut).await;
        }
    }
}

// === impl Services ===

impl Services {
    /// Opens the listeners of the section that the node starts with, and puts it into force.
    ///
    /// # Errors
    /// If an address cannot be had.
    pub fn open(&self, section: &ProtocolSection) -> Result<(), StepError> {
        self.take_office().establish(section).map(drop)
    }

    /// From here on, whoever was in office before is not.
    pub(crate) fn take_office(&self) -> Office {
        let mut desk = self.desk();
        desk.term = desk.term.saturating_add(1);
        desk.reserved.1.clear();
        Office { services: self.clone(), term: desk.term }
    }

    pub(super) async fn close_doors(&self) {
        let shut = self.desk().shut_others(&[]);
        shut.await;
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn route(&self, service: &ConnectedService) -> Arc<Route> {
        let ConnectedService { name, peer, listen } = service.clone();
        let meter = self.0.ledger.meter(Role::Connected(listen, name.clone(), peer));
        Arc::new(Route { listen, service: name, peer, meter })
    }
}

// === impl Office ===

impl Office {
    /// The desk, while the office lasts and the node does not stop.
    fn desk(&self) -> Result<MutexGuard<'_, Desk>, StepError> {
        let desk = self.services.desk();
        if self.services.0.stopping.load(Ordering::SeqCst) {
            return Err(StepError::component("the node stops"));
        }
        if desk.term == self.term { Ok(desk) } else { Err(retired()) }
    }

    /// Whether whatever belongs to the office, here or elsewhere, may be changed.
    ///
    /// # Errors
    /// If a successor is in office, or the node stops.
    pub(crate) fn holds(&self) -> Result<(), StepError> {
        self.desk().map(drop)
    }

    /// Reserves the addresses that are new in this section.
    ///
    /// # Errors
    /// If one cannot be had: with the key that it stands in, and what to do.
    pub(crate) fn prepare(&self, next: &ProtocolSection) -> Result<Ticket, StepError> {
        let mut desk = self.desk()?;
        // Of a preparation before, which has not been dropped yet, if it had any.
        desk.reserved.1.clear();
        let reserved = desk.reserve(&next.connect)?;
        let number = desk.reserved.0.saturating_add(1);
        desk.reserved = (number, reserved);
        Ok(Ticket { services: self.services.clone(), number })
    }

    /// Puts the section into force that the ticket was given for. Doors that it does not have let their callers wait.
    ///
    /// # Errors
    /// If a successor is in office, or the machine refuses to listen on what it let bind.
    pub(crate) fn commit(&self, ticket: &Ticket, next: &ProtocolSection) -> Result<(), StepError> {
        let reserved = ticket.redeem(&mut *self.desk()?);
        self.put_into_force(reserved, next)
    }

    fn put_into_force(&self, reserved: Vec<Reserved>, next: &ProtocolSection) -> Result<(), StepError> {
        let mut desk = self.desk()?;
        if let Some(pool) = self.services.0.ground.get().map(|ground| &ground.pool) {
            // A door whose listener has come to an end makes room for its successor.
            desk.doors.retain(Door::is_open);
            for reserved in reserved {
                let index = next.connect.iter().position(|service| service.listen == reserved.listen);
                let opened = reserved.open(&self.services, pool);
                desk.doors.push(opened.map_err(|error| error.key(key(index.unwrap_or_default())))?);
            }
        }
        for door in &desk.doors {
            let service = next.connect.iter().find(|service| service.listen == door.listen);
            door.lead(service.map(|service| self.services.route(service)));
        }
        let offers = Offers::new(&next.expose, &self.services.0.ledger);
        self.services.0.offers.store(Arc::new(offers));
        Ok(())
    }

    /// Makes the section the one in force, from whatever was before: at the start, for a successor, for a way back. Listeners
    /// that are missing are opened, others are shut by the future.
    ///
    /// # Errors
    /// If an address cannot be had; everything else is in force then.
    pub(crate) fn establish(
        &self,
        section: &ProtocolSection,
    ) -> Result<impl Future<Output = ()> + Send + use<>, StepError> {
        // Bound first: the guard of the desk must not live into the next step.
        let reserved = self.desk()?.reserve(&section.connect);
        let (reserved, missing) = match reserved {
            Ok(reserved) => (reserved, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        self.put_into_force(reserved, section)?;
        match missing {
            Some(error) => Err(error),
            None => Ok(self.shut_others(section)?),
        }
    }

    /// Shuts the doors that the section does not have. The future ends when their sockets are closed.
    ///
    /// # Errors
    /// If a successor is in office.
    pub(crate) fn shut_others(
        &self,
        section: &ProtocolSection,
    ) -> Result<impl Future<Output = ()> + Send + use<>, StepError> {
        Ok(self.desk()?.shut_others(&section.connect))
    }

    /// Whether this section is in force.
    ///
    /// # Errors
    /// If it is not: with the key.
    pub(crate) fn probe(&self, section: &ProtocolSection) -> Result<(), StepError> {
        let desk = self.desk()?;
        for (index, service) in section.connect.iter().enumerate() {
            let route = desk.door(service.listen).and_then(Door::route);
            let leads = route.is_some_and(|r| r.service == service.name && r.peer == service.peer);
            if !leads {
                let message = format!("{} does not accept for service '{}'", service.listen, service.name);
                return Err(StepError::component(message).key(key(index)));
            }
        }
        if self.services.0.offers.load().are(&section.expose) {
            Ok(())
        } else {
            Err(StepError::component("other services are exposed than the section says")
                .key("protocol.services.expose"))
        }
    }
}

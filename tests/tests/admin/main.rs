//! The admin API on the socket, on TCP and through TLS: every route, every key of `admin`, and everybody who should stay out (O2).

#![allow(unreachable_pub, reason = "a module of a test is not seen from outside")]

mod attackers;
mod bounds;
mod live;
mod rotation;
mod routes;
mod scene;
mod socket;

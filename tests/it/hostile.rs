//! Clients that no good client is: what they do harms nobody but themselves.

use std::io::{Read, Write};

use crate::harness::ftp::{Ftp, connect};
use crate::harness::gateway::Gateway;
use crate::harness::scripted::{Cut, ScriptedServer};

#[test]
fn a_client_that_gets_no_session_is_told_why_although_it_spoke_first() {
    let server = ScriptedServer::start(Cut::ResetData);
    let gateway =
        Gateway::to_address(server.address()).set("limits", "sessions_per_client = 1").start();
    let _first = Ftp::connect(gateway.address);
    for speaks in [false, true].repeat(50) {
        let mut refused = connect(gateway.address, None).unwrap();
        if speaks {
            refused.write_all(b"USER ann\r\n").unwrap();
        }
        let mut told = String::new();
        refused.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("421 "), "told {told:?}");
    }
}

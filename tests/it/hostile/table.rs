//! Every hostile input with what is answered and what it costs, and nothing of it is left over.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::thread;

use super::case::{Case, Row, resting};
use super::{from_clients, from_servers};
use crate::harness::canned::CannedServer;
use crate::harness::gateway::Gateway;
use crate::operate::SPECIAL;

/// Cases with a gateway of their own that run at once.
const AT_ONCE: usize = 3;

#[test]
fn every_hostile_input_is_answered_and_leaves_nothing() {
    let parts = [
        ("what clients send, one after the other to one gateway", together(from_clients::cases())),
        (
            "what clients send, each to a gateway of its own",
            each_alone(from_clients::cases_alone()),
        ),
        ("what servers send, each to a gateway of its own", each_alone(from_servers::cases())),
    ];
    let mut table = String::new();
    for (title, rows) in &parts {
        let lines: Vec<String> = rows.iter().map(Row::line).collect();
        table += &format!("{title}\n{}\n{}\n\n", Row::heading(), lines.join("\n"));
    }
    table +=
        "bytes: from and to the client, to and from the server; peak: memory above that before\n";
    println!("{table}");
    // tests/run shows it at the end.
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/target/hostile.txt"), &table).unwrap();
    let bad = parts.iter().flat_map(|(_, rows)| rows).filter(|row| !row.is_good());
    let bad: Vec<&str> = bad.map(|row| row.name.as_str()).collect();
    assert_eq!(bad, Vec::<&str>::new(), "\n{table}");
}

/// Before one gateway, which must be the same after each as it was before the first.
fn together(cases: Vec<Case>) -> Vec<Row> {
    let server = CannedServer::script().start();
    let mut options = Gateway::to_address(server.address);
    for (section, line) in from_clients::SETTINGS {
        options = options.set(section, line);
    }
    let gateway = options.start();
    let descriptors = resting(&gateway);
    let rows = cases.into_iter().map(|case| case.run(&gateway, &server, descriptors)).collect();
    for line in [gateway.log(), gateway.audit_text()].iter().flat_map(|text| text.lines()) {
        assert!(!line.contains(SPECIAL), "{}", line.escape_debug());
    }
    rows
}

/// Some at once, in whatever order; their rows in that of the cases.
fn each_alone(cases: Vec<Case>) -> Vec<Row> {
    let waiting = Mutex::new(cases.into_iter().enumerate());
    let rows = Mutex::new(BTreeMap::new());
    let next = || waiting.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((place, case)) = next() {
                    let row = case.run_alone();
                    rows.lock().unwrap().insert(place, row);
                }
            });
        }
    });
    rows.into_inner().unwrap().into_values().collect()
}

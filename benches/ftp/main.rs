//! What the protocol costs without I/O: the codec by itself, and a session's dialogue.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros make what has no docs")]

#[path = "../common/session.rs"]
mod session;

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ftpgate::ftp::Command;
use ftpgate::ftp::hostport::{parse_227, reply_227};
use ftpgate::ftp::line::Lines;
use ftpgate::ftp::reply::Replies;

use session::{LINE_LIMIT, REPLY_LIMIT, Session};

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let mut lines = Lines::new(LINE_LIMIT);
    group.bench_function("command", |bencher| {
        bencher.iter(|| {
            lines.push(black_box(b"RETR reports/2026-11.csv\r\n"));
            lines.next_line().map(|line| line.map(Command::parse))
        });
    });
    let mut replies = Replies::new(REPLY_LIMIT);
    let mut read = |bytes: &[u8]| {
        replies.push(black_box(bytes));
        replies.next_reply().unwrap().unwrap()
    };
    group.bench_function("reply", |bencher| {
        bencher.iter(|| read(b"250 CWD command successful.\r\n"));
    });
    group.bench_function("rewrite of a 227", |bencher| {
        bencher.iter(|| {
            let reply = read(b"227 Entering Passive Mode (10,2,3,10,32,1).\r\n");
            let target = parse_227(&reply).unwrap();
            reply_227(black_box(SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), target.port())))
        });
    });
    let listing = listing();
    group.throughput(Throughput::Bytes(u64::try_from(listing.len()).unwrap()));
    group.bench_function("reply of 100 lines", |bencher| bencher.iter(|| read(&listing)));
    group.finish();
}

fn dialogue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dialogue");
    let mut session = Session::logged_in();
    group.bench_function("NOOP", |bencher| bencher.iter(|| session.noop()));
    group.bench_function("download", |bencher| bencher.iter(|| session.download()));
    group.bench_function("upload", |bencher| bencher.iter(|| session.upload()));
    assert!(session.is_idle(), "the session has lost its way");
    group.bench_function("login", |bencher| bencher.iter(Session::logged_in));
    group.finish();
}

/// STAT of a directory with 98 files.
fn listing() -> Vec<u8> {
    let files = (0..98).map(|file| {
        format!("-rw-r--r--   1 ann      users     1048576 Nov 28 02:51 2026-11-{file:03}.csv\r\n")
    });
    let listing: String = files.collect();
    format!("213-Status of reports:\r\n{listing}213 End of status.\r\n").into_bytes()
}

criterion_group!(benches, codec, dialogue);
criterion_main!(benches);

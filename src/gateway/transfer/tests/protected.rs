//! What TLS must not let through: strangers, and ends that are none.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::super::*;
use super::stand::*;
use crate::gateway::protection::Protection;

const DIRECTIONS: [Direction; 2] = [Direction::Upload, Direction::Download];

/// The upstream's side of a transfer that must not begin.
async fn sees_nothing(mut upstream: Peer) {
    let (bytes, last) = upstream.read_to_end().await;
    assert_eq!((bytes.len(), last), (0, Last::Reset));
}

#[tokio::test]
async fn a_foreign_session_is_refused() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        for direction in DIRECTIONS {
            let (session, other) = (authority.begun(version), authority.begun(version));
            let mut line = Line::running(direction, false, Some(&session), None).await;
            line.client.tls = Some(other.client());
            let Line { mut data, mut client, mut upstream } = line;
            // Not passed on, however early it comes.
            upstream.stream.write_all(b"secret").await.unwrap();
            let tls = client.tls.as_mut().unwrap();
            let (event, shaken) =
                tokio::join!(next(&mut data), crate::tls::handshake(&client.stream, tls));
            assert_eq!(event, DataEvent::Failed(DataFailure::NotResumed));
            // Before there is a ticket by which it could come again.
            assert_eq!(shaken.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(data.client_tls(), None);
            sees_nothing(upstream).await;
        }
    }
}

#[test]
fn a_client_that_uses_each_ticket_once_has_eight_for_uploads_with_tls_1_3() {
    for (version, enough) in [(&TLS12, 20), (&TLS13, 8)] {
        let session = Authority::new().begun(version);
        let resumed = |_: &usize| {
            let mut server = session.server.connection_without_tickets().unwrap();
            let (mut client, mut none) = (session.client(), Vec::new());
            for _ in 0..4 {
                let (mut up, mut down) = (Vec::new(), Vec::new());
                client.output(&mut up);
                server.open(&up, &mut none).unwrap();
                server.output(&mut down);
                client.open(&down, &mut none).unwrap();
            }
            server.is_resumed()
        };
        assert_eq!((0..20).take_while(resumed).count(), enough);
    }
}

#[tokio::test]
async fn a_new_session_will_do_where_none_needs_to_be_resumed() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let session = authority.session(version);
        let mut line = Line::open(None).await;
        line.client.tls = Some(session.client());
        let protection = Protection { require_resumption: false, ..session.protection() };
        let (direction, protection) = (Direction::Upload, Some(protection));
        line.relay(Course { direction, ascii: false, protection, rate: None }, LONG);
        line.shake_hands().await;
        line.client.end().await;
        assert_eq!(next(&mut line.data).await, DataEvent::Ended);
    }
}

#[tokio::test]
async fn a_client_without_tls_is_refused() {
    let authority = Authority::new();
    for (direction, said) in [
        (Direction::Upload, "plain text, and more of it than a record's header has"),
        (Direction::Upload, "hi"),
        (Direction::Download, "hi"),
    ] {
        let session = authority.begun(&TLS13);
        let mut line = Line::running(direction, false, Some(&session), None).await;
        line.client.tls = None;
        let Line { mut data, mut client, upstream } = line;
        client.send(said.as_bytes(), 100).await;
        client.end().await;
        assert_eq!(next(&mut data).await, DataEvent::Failed(DataFailure::NoTls));
        assert_eq!(data.client_tls(), None);
        sees_nothing(upstream).await;
    }
}

#[tokio::test]
async fn a_silent_client_is_not_waited_for_for_long() {
    let authority = Authority::new();
    for direction in DIRECTIONS {
        let session = authority.begun(&TLS13);
        let mut line = Line::open(None).await;
        let protection = Some(Protection { handshake: SHORT, ..session.protection() });
        line.relay(Course { direction, ascii: false, protection, rate: None }, LONG);
        let Line { mut data, client: _client, upstream } = line;
        assert_eq!(next(&mut data).await, DataEvent::Failed(DataFailure::NoTls));
        sees_nothing(upstream).await;
    }
}

#[tokio::test]
async fn whoever_leaves_during_the_handshake_is_noticed() {
    let authority = Authority::new();
    for clients in [true, false] {
        for covered in [true, false] {
            let session = authority.begun(&TLS13);
            let (mine, other) =
                if covered { (Some(&session), None) } else { (None, Some(&session)) };
            let (client, upstream) = if clients { (mine, other) } else { (other, mine) };
            let line = Line::running(Direction::Upload, false, client, upstream).await;
            let Line { mut data, client, upstream } = line;
            let (leaves, _stays) = if clients { (client, upstream) } else { (upstream, client) };
            leaves.reset();
            let fault = if clients { DataFailure::Client } else { DataFailure::Upstream };
            assert_eq!(next(&mut data).await, DataEvent::Failed(fault), "{clients} {covered}");
        }
    }
}

#[tokio::test]
async fn an_upstream_without_tls_is_a_failure() {
    let authority = Authority::new();
    let session = authority.begun(&TLS13);
    let mut line = Line::running(Direction::Download, false, None, Some(&session)).await;
    line.upstream.tls = None;
    line.upstream.send(b"226 plain text", 100).await;
    assert_eq!(next(&mut line.data).await, DataEvent::Failed(DataFailure::Upstream));
    let (bytes, last) = line.client.read_to_end().await;
    assert_eq!((bytes.len(), last), (0, Last::Reset));
}

#[tokio::test]
async fn neither_handshake_waits_for_the_other() {
    let authority = Authority::new();
    let (mine, theirs) = (authority.begun(&TLS13), authority.begun(&TLS13));
    let mut line = Line::running(Direction::Download, false, Some(&mine), Some(&theirs)).await;
    tokio::select! {
        () = line.upstream.shake_hands() => {}
        event = next(&mut line.data) => panic!("{event:?}"),
    }
    tokio::select! {
        () = line.client.shake_hands() => {}
        event = next(&mut line.data) => panic!("{event:?}"),
    }
}

#[tokio::test]
async fn what_comes_in_one_segment_with_the_handshake_is_not_lost() {
    let authority = Authority::new();
    for said in ["", "early"] {
        let session = authority.begun(&TLS13);
        let line = Line::running(Direction::Upload, false, Some(&session), None).await;
        let Line { mut data, mut client, mut upstream } = line;
        let mut out = Vec::new();
        let tls = client.tls.as_mut().unwrap();
        tls.output(&mut out);
        client.stream.write_all(&out).await.unwrap();
        // The server's flight.
        let mut flight = [0; 4096];
        while tls.is_handshaking() {
            tokio::select! {
                ready = client.stream.readable() => ready.unwrap(),
                event = data.next() => panic!("{event:?}"),
            }
            let count = client.stream.try_read(&mut flight).unwrap_or_default();
            tls.feed(&flight[..count]).unwrap();
        }
        out.clear();
        tls.output(&mut out);
        tls.seal(said.as_bytes(), &mut out);
        tls.close(&mut out);
        client.stream.write_all(&out).await.unwrap();
        client.stream.shutdown().await.unwrap();
        assert_eq!(next(&mut data).await, DataEvent::Ended);
        data.finish();
        assert_eq!(upstream.read_to_end().await, (said.into(), Last::Fin));
    }
}

#[tokio::test]
async fn a_reset_sender_resets_the_receiver() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        for direction in DIRECTIONS {
            for ascii in [false, true] {
                let sessions = (authority.begun(version), authority.begun(version));
                let (client, upstream) = (Some(&sessions.0), Some(&sessions.1));
                let mut line = Line::running(direction, ascii, client, upstream).await;
                line.shake_hands().await;
                let Line { mut data, client, upstream } = line;
                let (mut sender, mut receiver, failure) = match direction {
                    Direction::Upload => (client, upstream, DataFailure::Client),
                    _ => (upstream, client, DataFailure::Upstream),
                };
                let cut = async {
                    sender.send(&content(300_000), 20_000).await;
                    sender.reset();
                };
                let read = receiver.read_to_end();
                let ((), event, (_, last)) = tokio::join!(cut, next(&mut data), read);
                assert_eq!(event, DataEvent::Failed(failure));
                assert_eq!(last, Last::Reset);
                assert!(!receiver.tls.as_mut().unwrap().peer_closed());
            }
        }
    }
}

#[tokio::test]
async fn a_reset_receiver_resets_the_silent_sender() {
    let authority = Authority::new();
    for direction in DIRECTIONS {
        let sessions = (authority.begun(&TLS13), authority.begun(&TLS13));
        let mut line = Line::running(direction, false, Some(&sessions.0), Some(&sessions.1)).await;
        line.shake_hands().await;
        let Line { mut data, client, upstream } = line;
        let (mut sender, receiver, failure) = match direction {
            Direction::Upload => (client, upstream, DataFailure::Upstream),
            _ => (upstream, client, DataFailure::Client),
        };
        receiver.reset();
        assert_eq!(next(&mut data).await, DataEvent::Failed(failure));
        assert_eq!(sender.read_to_end().await, (Vec::new(), Last::Reset));
    }
}

#[tokio::test]
async fn fin_without_close_notify_is_no_end() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        for direction in DIRECTIONS {
            for size in [0, 1, 300_000] {
                let sessions = (authority.begun(version), authority.begun(version));
                let (client, upstream) = (Some(&sessions.0), Some(&sessions.1));
                let mut line = Line::running(direction, false, client, upstream).await;
                line.shake_hands().await;
                let (data, sender, receiver) = line.ends(direction);
                let failure = match direction {
                    Direction::Upload => DataFailure::Truncated,
                    _ => DataFailure::Upstream,
                };
                let cut = async {
                    sender.send(&content(size), 20_000).await;
                    sender.stream.shutdown().await.unwrap();
                };
                let ((), event, (_, last)) = tokio::join!(cut, next(data), receiver.read_to_end());
                assert_eq!(event, DataEvent::Failed(failure), "{direction:?}, {size}");
                assert_eq!(last, Last::Reset);
                assert!(!receiver.tls.as_mut().unwrap().peer_closed());
            }
        }
    }
}

#[tokio::test]
async fn bytes_that_do_not_keep_to_tls_are_no_end_either() {
    let authority = Authority::new();
    let session = authority.begun(&TLS13);
    let mut line = Line::running(Direction::Upload, false, Some(&session), None).await;
    line.shake_hands().await;
    let Line { mut data, mut client, mut upstream } = line;
    let mut sealed = client.sealed(&content(10_000));
    sealed[9_000] ^= 1;
    client.stream.write_all(&sealed).await.unwrap();
    assert_eq!(next(&mut data).await, DataEvent::Failed(DataFailure::Client));
    assert_eq!(upstream.read_to_end().await, (Vec::new(), Last::Reset));
}

#[tokio::test]
async fn a_receiver_that_does_not_keep_to_tls_is_a_failure() {
    let authority = Authority::new();
    let session = authority.begun(&TLS13);
    let mut line = Line::running(Direction::Download, false, Some(&session), None).await;
    line.shake_hands().await;
    let Line { mut data, mut client, mut upstream } = line;
    // The gateway's handshake is done, too.
    assert!(timeout(SHORT, data.next()).await.is_err());
    client.stream.write_all(b"plain text, and more of it than a record's header").await.unwrap();
    let send = async {
        loop {
            upstream.send(b"x", 1).await;
            sleep(SHORT / 10).await;
        }
    };
    tokio::select! {
        () = send => {}
        event = next(&mut data) => assert_eq!(event, DataEvent::Failed(DataFailure::Client)),
    }
}

#[tokio::test]
async fn what_follows_a_close_notify_is_not_part_of_the_file() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let session = authority.begun(version);
        let mut line = Line::running(Direction::Upload, false, Some(&session), None).await;
        line.shake_hands().await;
        let Line { mut data, mut client, mut upstream } = line;
        let mut bytes = client.sealed(b"the file");
        client.tls.as_mut().unwrap().close(&mut bytes);
        bytes.extend(b"plain text that anybody may have put there");
        client.stream.write_all(&bytes).await.unwrap();
        assert_eq!(next(&mut data).await, DataEvent::Ended);
        data.finish();
        assert_eq!(upstream.read_to_end().await, (b"the file".into(), Last::Fin));
    }
}

/// Python's unwrap() waits for our close_notify before it looks at the reply.
#[tokio::test]
async fn an_uploads_close_notify_is_answered_at_once_but_fin_waits_for_the_reply() {
    let authority = Authority::new();
    let session = authority.begun(&TLS13);
    let mut line = Line::running(Direction::Upload, false, Some(&session), None).await;
    line.shake_hands().await;
    let Line { mut data, mut client, mut upstream } = line;
    client.send(b"whole", 5).await;
    client.notify().await;
    assert_eq!(next(&mut data).await, DataEvent::Ended);
    let mut answer = vec![0; 1000];
    let read = async {
        while !client.tls.as_mut().unwrap().peer_closed() {
            client.stream.readable().await.unwrap();
            let count = client.stream.try_read(&mut answer).unwrap_or_default();
            client.tls.as_mut().unwrap().feed(&answer[..count]).unwrap();
        }
    };
    timeout(LONG, read).await.unwrap();
    data.finish();
    assert_eq!(upstream.read_to_end().await, (b"whole".into(), Last::Fin));
    let early = timeout(SHORT, client.stream.read(&mut answer)).await;
    assert!(early.is_err(), "FIN came before the reply");
    data.release();
    assert_eq!(client.read_to_end().await, (Vec::new(), Last::Notified));
}

#[tokio::test]
async fn a_delivered_transfer_that_is_dropped_is_a_reset_without_close_notify() {
    let authority = Authority::new();
    for direction in DIRECTIONS {
        let sessions = (authority.begun(&TLS13), authority.begun(&TLS13));
        let mut line = Line::running(direction, false, Some(&sessions.0), Some(&sessions.1)).await;
        line.shake_hands().await;
        let (data, sender, receiver) = line.ends(direction);
        sender.send(b"whole, but nobody says so", 100).await;
        sender.end().await;
        assert_eq!(next(data).await, DataEvent::Ended);
        data.reset();
        assert_eq!(receiver.read_to_end().await.1, Last::Reset);
        assert!(!receiver.tls.as_mut().unwrap().peer_closed());
    }
}

#[tokio::test]
async fn silence_and_a_receiver_that_takes_nothing_are_idle() {
    let authority = Authority::new();
    for direction in DIRECTIONS {
        for flood in [0, FLOOD] {
            let session = authority.begun(&TLS13);
            let mut line = Line::open(None).await;
            line.client.tls = Some(session.client());
            let protection = Some(session.protection());
            line.relay(Course { direction, ascii: false, protection, rate: None }, SHORT * 3);
            line.shake_hands().await;
            let (data, sender, _receiver) = line.ends(direction);
            let bytes = vec![b'\n'; flood];
            let send = async {
                sender.send(&bytes, 100_000).await;
                pending().await
            };
            tokio::select! {
                () = send => {}
                event = next(data) => assert_eq!(event, DataEvent::Failed(DataFailure::Idle)),
            }
        }
    }
}

/// A closed download's connection is there for the client's close_notify, but not for ever.
#[tokio::test]
async fn a_clients_late_close_notify_is_not_answered_by_a_reset() {
    let authority = Authority::new();
    let session = authority.begun(&TLS13);
    let mut line = Line::running(Direction::Download, false, Some(&session), None).await;
    line.shake_hands().await;
    let Line { mut data, mut client, mut upstream } = line;
    upstream.send(b"whole", 5).await;
    upstream.end().await;
    assert_eq!(next(&mut data).await, DataEvent::Ended);
    data.finish();
    sleep(SHORT).await;
    client.notify().await;
    sleep(SHORT).await;
    assert_eq!(client.read_to_end().await, (b"whole".into(), Last::Notified));
    client.notify().await;
}

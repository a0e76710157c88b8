//! Whole files through TLS, on either side, on both, and with ASCII type.

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::super::*;
use super::stand::*;
use crate::gateway::data_connection::send_now;
use crate::gateway::relay::BULK;

const DIRECTIONS: [Direction; 2] = [Direction::Upload, Direction::Download];

fn translated(direction: Direction, bytes: &[u8]) -> Vec<u8> {
    let mut translator = crate::ftp::ascii::Translator::new(direction);
    let mut out = Vec::new();
    translator.translate(bytes, &mut out);
    translator.finish(&mut out);
    out
}

/// Moves a file and looks at all that there is to see.
async fn moves(
    direction: Direction,
    ascii: bool,
    client: Option<&TlsSession>,
    upstream: Option<&TlsSession>,
    (size, most): (usize, usize),
) {
    let what = format!("{direction:?}, ascii {ascii}, {size} by {most}");
    let sent = content(size);
    let expected = if ascii { translated(direction, &sent) } else { sent.clone() };
    let mut line = Line::running(direction, ascii, client, upstream).await;
    line.shake_hands().await;
    let (data, sender, receiver) = line.ends(direction);
    let covered = receiver.tls.is_some();
    let send = async {
        sender.send(&sent, most).await;
        sender.end().await;
    };
    let watch = async {
        let event = next(data).await;
        assert_eq!(event, DataEvent::Ended, "{what}");
        assert_eq!((data.received(), data.bytes()), (size as u64, expected.len() as u64), "{what}");
        data.finish();
    };
    let ((), (), (received, last)) = tokio::join!(send, watch, receiver.read_to_end());
    assert!(received == expected, "{what}");
    assert_eq!(last, if covered { Last::Notified } else { Last::Fin }, "{what}");
    if covered {
        receiver.end().await;
    }
    data.release();
    // The other end of the sender's connection is an orderly one, too.
    let sender_covered = sender.tls.is_some();
    let (received, last) = sender.read_to_end().await;
    assert!(received.is_empty());
    assert_eq!(last, if sender_covered { Last::Notified } else { Last::Fin }, "{what}");
    assert_eq!(data.client_tls().is_some(), client.is_some());
    if let Some((version, resumed)) = data.client_tls() {
        assert!(resumed && (version == "1.2" || version == "1.3"));
    }
}

#[tokio::test]
async fn every_byte_arrives_and_then_the_end() {
    let authority = Authority::new();
    let sizes = [0, 1, 16_383, 16_384, 16_385, 131_073, 1_000_001];
    for version in [&TLS12, &TLS13] {
        for direction in DIRECTIONS {
            for ascii in [false, true] {
                for (client, upstream) in [(true, false), (false, true), (true, true)] {
                    for size in sizes {
                        // New ones: tickets are good for one connection only.
                        let [client, upstream] =
                            [client, upstream].map(|has| has.then(|| authority.begun(version)));
                        let (client, upstream) = (client.as_ref(), upstream.as_ref());
                        moves(direction, ascii, client, upstream, (size, 50_000)).await;
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn tiny_records_arrive_too() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        for direction in DIRECTIONS {
            let session = authority.begun(version);
            moves(direction, true, Some(&session), None, (5000, 1)).await;
            let session = authority.begun(version);
            moves(direction, true, None, Some(&session), (5000, 1)).await;
        }
    }
}

#[tokio::test]
async fn a_receiver_that_reads_byte_by_byte_gets_all() {
    let authority = Authority::new();
    let sent = content(300_000);
    for direction in DIRECTIONS {
        let session = authority.begun(&TLS13);
        let (client, upstream) = match direction {
            Direction::Upload => (None, Some(&session)),
            _ => (Some(&session), None),
        };
        let mut line = Line::running(direction, false, client, upstream).await;
        line.shake_hands().await;
        let (data, sender, receiver) = line.ends(direction);
        let send = async {
            sender.send(&sent, 40_000).await;
            sender.end().await;
        };
        let watch = async {
            assert_eq!(next(data).await, DataEvent::Ended);
            data.finish();
        };
        let ((), (), (received, last)) = tokio::join!(send, watch, receiver.read_by(1));
        assert!(received == sent);
        assert_eq!(last, Last::Notified);
    }
}

/// A receiver whose socket is full to the brim when the last byte goes.
#[tokio::test]
async fn the_end_waits_for_room() {
    let authority = Authority::new();
    let session = authority.begun(&TLS13);
    let mut line = Line::running(Direction::Download, false, Some(&session), None).await;
    line.shake_hands().await;
    let Line { mut data, mut client, mut upstream } = line;
    let sent = content(FLOOD);
    let send = async {
        upstream.send(&sent, 200_000).await;
        upstream.end().await;
    };
    let watch = async {
        assert_eq!(next(&mut data).await, DataEvent::Ended);
        data.finish();
    };
    let read = async {
        // Until nothing moves any more.
        tokio::time::sleep(SHORT).await;
        client.read_by(1000).await
    };
    let ((), (), (received, last)) = tokio::join!(send, watch, read);
    assert!(received == sent);
    assert_eq!(last, Last::Notified);
}

#[tokio::test]
async fn keys_may_change_on_the_way() {
    let authority = Authority::new();
    let (client, upstream) = (authority.begun(&TLS13), authority.begun(&TLS13));
    let sent = content(BULK as usize * 4);
    for direction in DIRECTIONS {
        let mut line = Line::running(direction, false, Some(&client), Some(&upstream)).await;
        line.shake_hands().await;
        let (data, sender, receiver) = line.ends(direction);
        let change = |peer: &mut Peer| {
            let mut out = Vec::new();
            peer.tls.as_mut().unwrap().change_keys(&mut out).unwrap();
            assert_eq!(peer.stream.try_write(&out).unwrap(), out.len());
        };
        change(receiver);
        let send = async {
            for piece in sent.chunks(30_000) {
                sender.send(piece, 30_000).await;
                change(sender);
            }
            sender.end().await;
        };
        let watch = async {
            assert_eq!(next(data).await, DataEvent::Ended);
            data.finish();
        };
        let ((), (), (received, last)) = tokio::join!(send, watch, receiver.read_to_end());
        assert!(received == sent);
        assert_eq!(last, Last::Notified);
        receiver.end().await;
        data.release();
        // Its answers are in the right order and in the right keys.
        assert_eq!(sender.read_to_end().await, (Vec::new(), Last::Notified));
    }
}

/// Each ticket is used once, so they last only if those of the data connections are taken.
#[tokio::test]
async fn the_upstreams_session_is_resumed_again_and_again() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let session = authority.begun(version);
        for _ in 0..8 {
            let mut line = Line::running(Direction::Upload, false, None, Some(&session)).await;
            line.shake_hands().await;
            let Line { mut data, mut client, mut upstream } = line;
            assert!(upstream.tls.as_ref().unwrap().is_resumed());
            client.send(b"short", 5).await;
            client.end().await;
            assert_eq!(next(&mut data).await, DataEvent::Ended);
            data.finish();
            assert_eq!(upstream.read_to_end().await, (b"short".to_vec(), Last::Notified));
            upstream.end().await;
            data.release();
            tokio::task::yield_now().await;
        }
    }
}

/// Its tickets must be found, and what it says last must not be a record short.
#[tokio::test]
async fn all_that_an_upstream_says_aside_goes_through_its_tls() {
    let authority = Authority::new();
    let session = authority.begun(&TLS13);
    let mut line = Line::running(Direction::Upload, false, None, Some(&session)).await;
    line.shake_hands().await;
    let Line { mut data, mut client, mut upstream } = line;
    client.end().await;
    assert_eq!(next(&mut data).await, DataEvent::Ended);
    // More than is heard of it at once.
    let (mut aside, mut waiting) = (upstream.sealed(&vec![0; FLOOD]), 0);
    while let Ok(sent) = upstream.stream.try_write(&aside[waiting..]) {
        waiting += sent;
    }
    assert!(waiting > 1 << 20, "{waiting}");
    data.finish();
    upstream.tls.as_mut().unwrap().close(&mut aside);
    let Stage::Delivered { pair, .. } = &mut data.stage else { panic!("not delivered") };
    let hear = async {
        while !pair.upstream.tls.as_mut().unwrap().peer_closed() {
            pair.upstream.finish();
            tokio::task::yield_now().await;
        }
    };
    let say = async { upstream.stream.write_all(&aside[waiting..]).await.unwrap() };
    timeout(LONG, async { tokio::join!(say, hear) }).await.unwrap();
}

#[tokio::test]
async fn a_client_that_uploads_and_never_reads_is_not_reset() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        let session = authority.begun(version);
        let mut line = Line::running(Direction::Upload, false, Some(&session), None).await;
        line.shake_hands().await;
        let Line { mut data, mut client, mut upstream } = line;
        let sent = content(2_000_000);
        let send = async {
            client.send(&sent, 100_000).await;
            client.notify().await;
            // With anything unread in its socket this is a reset.
            SockRef::from(&client.stream).set_linger(None).unwrap();
            drop(client.stream);
        };
        let watch = async {
            assert_eq!(next(&mut data).await, DataEvent::Ended);
            data.finish();
        };
        let ((), (), (received, last)) = tokio::join!(send, watch, upstream.read_to_end());
        assert!(received == sent);
        assert_eq!(last, Last::Fin);
    }
}

/// A client that leaves our close_notify unread resets its connection by closing it.
#[tokio::test]
async fn a_reset_after_close_notify_does_not_cut_what_came_before_it() {
    let authority = Authority::new();
    let session = authority.begun(&TLS13);
    let mut line = Line::open(None).await;
    line.client.tls = Some(session.client());
    let mut before = 0;
    if let Stage::Open { pair } = &line.data.stage {
        pair.upstream.stream.writable().await.unwrap();
        while let Ok(sent) = pair.upstream.stream.try_write(&[1; 65_536]) {
            before += sent;
        }
    }
    assert!(before > 0);
    let (direction, protection) = (Direction::Upload, Some(session.protection()));
    line.relay(Course { direction, ascii: false, protection, rate: None }, LONG);
    line.shake_hands().await;
    let Line { mut data, mut client, mut upstream } = line;
    client.send(&[2; 1000], 1000).await;
    client.notify().await;
    assert!(timeout(SHORT, data.next()).await.is_err());
    SockRef::from(&client.stream).set_linger(None).unwrap();
    drop(client);
    assert!(timeout(SHORT, data.next()).await.is_err());
    let watch = async {
        assert_eq!(next(&mut data).await, DataEvent::Ended);
        data.finish();
    };
    let ((), (received, last)) = tokio::join!(watch, upstream.read_to_end());
    assert_eq!((received.len(), last), (before + 1000, Last::Fin));
}

/// The relay leaves room for it; if there should be none all the same, FIN waits with it.
#[tokio::test]
async fn fin_never_overtakes_a_close_notify_that_has_to_wait() {
    let authority = Authority::new();
    for direction in DIRECTIONS {
        let sessions = (authority.begun(&TLS13), authority.begun(&TLS13));
        let mut line = Line::running(direction, false, Some(&sessions.0), Some(&sessions.1)).await;
        line.shake_hands().await;
        let (data, sender, receiver) = line.ends(direction);
        sender.end().await;
        assert_eq!(next(data).await, DataEvent::Ended);
        let mut before = 0;
        if let Stage::Delivered { pair, .. } = &mut data.stage {
            let (_, to) = pair.in_order(direction);
            while to.unsent.is_empty() {
                to.tls.as_mut().unwrap().seal(&[0; 65_536], &mut to.unsent);
                send_now(&to.stream, &mut to.unsent).unwrap();
                before += 65_536;
            }
        }
        data.finish();
        tokio::select! {
            event = data.next() => panic!("{event:?}"),
            (received, last) = receiver.read_to_end() => {
                assert_eq!((received.len(), last), (before, Last::Notified), "{direction:?}");
            }
        }
    }
}

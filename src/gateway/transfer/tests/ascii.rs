//! ASCII type, over plain sockets.

use super::super::*;
use super::stand::*;

#[tokio::test]
async fn line_ends_are_translated_and_both_sides_bytes_counted() {
    for (direction, sent, expected) in [
        (Direction::Upload, "a\r\nb\rc\nd\r\r\n\r", "a\nb\rc\nd\r\n\r"),
        (Direction::Download, "a\nb\r\nc\r", "a\r\nb\r\nc\r"),
        (Direction::Upload, "\r", "\r"),
        (Direction::Upload, "", ""),
        (Direction::Download, "", ""),
    ] {
        for most in [1, 1000] {
            let mut line = Line::running(direction, true, None, None).await;
            let (data, sender, receiver) = line.ends(direction);
            let send = async {
                sender.send(sent.as_bytes(), most).await;
                sender.end().await;
            };
            let ((), event) = tokio::join!(send, next(data));
            assert_eq!(event, DataEvent::Ended, "{sent:?}");
            assert_eq!(data.received(), sent.len() as u64);
            assert_eq!(data.bytes(), expected.len() as u64);
            data.finish();
            assert_eq!(receiver.read_to_end().await, (expected.into(), Last::Fin), "{sent:?}");
        }
    }
}

#[tokio::test]
async fn a_cut_transfer_is_reset() {
    for direction in [Direction::Upload, Direction::Download] {
        let Line { mut data, client, upstream } = Line::running(direction, true, None, None).await;
        let (mut sender, mut receiver, failure) = match direction {
            Direction::Upload => (client, upstream, DataFailure::Client),
            _ => (upstream, client, DataFailure::Upstream),
        };
        let cut = async {
            sender.send(&content(500_000), 10_000).await;
            sender.reset();
        };
        let ((), event, (_, last)) = tokio::join!(cut, next(&mut data), receiver.read_to_end());
        assert_eq!(event, DataEvent::Failed(failure));
        assert_eq!(last, Last::Reset);
    }
}

#[tokio::test]
async fn silence_and_a_receiver_that_takes_nothing_are_idle() {
    for direction in [Direction::Upload, Direction::Download] {
        for flood in [0, FLOOD] {
            let mut line = Line::open(None).await;
            line.relay(Course { direction, ascii: true, protection: None, rate: None }, SHORT);
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

//! Clients in active mode.

use tokio::time::timeout;

use super::super::*;
use super::stand::*;

#[tokio::test]
async fn nothing_is_connected_before_the_transfer_and_then_the_client_first() {
    let [client, upstream] = [listen(), listen()];
    let mut data = DataConnections::new();
    data.await_transfer(callback(&client), dial(&upstream));
    assert!(timeout(SHORT, data.next()).await.is_err());
    assert!(timeout(Duration::ZERO, client.accept()).await.is_err());
    data.call_back();
    assert_eq!(next(&mut data).await, DataEvent::Opened);
    let (_, from) = client.accept().await.unwrap();
    assert_eq!(from.ip(), LOCALHOST);
    upstream.accept().await.unwrap();
}

#[tokio::test]
async fn the_client_is_called_from_the_port_that_it_expects() {
    let from: IpAddr = "127.3.2.5".parse().unwrap();
    let spare = data_socket::listen(from, 0, 1).unwrap().local_addr().unwrap().port();
    let mut open = Vec::new();
    for _ in 0..2 {
        let [client, upstream] = [listen(), listen()];
        let mut data = DataConnections::new();
        let callback = Callback { from, source_port: spare, ..callback(&client) };
        data.await_transfer(callback, dial(&upstream));
        data.call_back();
        assert_eq!(next(&mut data).await, DataEvent::Opened);
        let (stream, peer) = client.accept().await.unwrap();
        assert_eq!(peer, SocketAddr::new(from, spare));
        open.push((stream, data));
    }
}

#[tokio::test]
async fn the_upstream_is_left_alone_when_the_client_cannot_be_reached() {
    let [client, upstream] = [listen(), listen()];
    let mut data = DataConnections::new();
    data.await_transfer(callback(&client), dial(&upstream));
    drop(client);
    data.call_back();
    assert_eq!(next(&mut data).await, DataEvent::ClientUnreachable);
    data.refuse();
    assert!(timeout(SHORT, data.next()).await.is_err());
    assert!(timeout(Duration::ZERO, upstream.accept()).await.is_err());
}

#[tokio::test]
async fn a_client_that_does_not_answer_is_given_up_in_time() {
    // One connection fills a backlog of 0; the kernel drops the SYN of further ones.
    let (client, upstream) = (data_socket::listen(LOCALHOST, 0, 0).unwrap(), listen());
    let to = client.local_addr().unwrap();
    let _first = data_socket::dial(to, LOCALHOST, 0, LONG).await.unwrap();
    let mut data = DataConnections::new();
    data.await_transfer(callback(&client), Dial { timeout: SHORT, ..dial(&upstream) });
    data.call_back();
    assert_eq!(next(&mut data).await, DataEvent::ClientUnreachable);
}

#[tokio::test]
async fn a_client_that_was_not_called_yet_is_never_called_once_that_is_taken_back() {
    for called in [false, true] {
        let [client, upstream] = [listen(), listen()];
        let mut data = DataConnections::new();
        data.await_transfer(callback(&client), dial(&upstream));
        if called {
            data.call_back();
        }
        data.reset();
        assert!(timeout(SHORT, data.next()).await.is_err());
        for listener in [client, upstream] {
            assert!(timeout(Duration::ZERO, listener.accept()).await.is_err());
        }
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_failed_dial() {
    let [client, upstream] = [listen(), listen()];
    let mut data = DataConnections::new();
    data.await_transfer(callback(&client), dial(&upstream));
    drop(upstream);
    data.call_back();
    assert_eq!(next(&mut data).await, DataEvent::DialFailed);
    let mut client = Peer { stream: client.accept().await.unwrap().0, tls: None };
    assert_eq!(client.read_to_end().await, (Vec::new(), Last::Reset));
}

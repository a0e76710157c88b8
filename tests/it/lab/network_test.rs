//! The lab's network is what it says it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::OVERLAY;
use super::client::Client;
use super::follow::Router;
use super::load::Load;
use super::moto;
use super::network::{LabNetwork, Place};
use crate::harness::aws::Moto;
use crate::harness::eventually;
use crate::harness::servers::{Kind, Server};

const MOMENT: Duration = Duration::from_secs(1);

#[test]
fn packets_of_a_host_that_is_cut_vanish_until_it_is_mended() {
    let network = LabNetwork::new();
    let options = Server::options(Kind::ApacheFtpServer).inside(network.host(Place::EndpointA));
    let _server = options.port(21).passive("8192-8200").start();
    let address = Place::EndpointA.address();
    let client = Client::of_address(network.host(Place::Client), address);
    let patience = Duration::from_secs(20);
    client.transfer_once(patience).unwrap();
    let vanishes = || {
        let error = client.transfer_once(patience).unwrap_err();
        assert!(error.contains("connect: connection timed out"), "{error}");
    };
    network.cut(Place::EndpointA);
    vanishes();
    network.mend(Place::EndpointA);
    client.transfer_once(patience).unwrap();
    network.cut_between(Place::Client, Place::EndpointA);
    vanishes();
    // Others still reach it.
    Client::of_address(network.host(Place::GatewayC), address).transfer_once(patience).unwrap();
    network.mend_between(Place::Client, Place::EndpointA);
    client.transfer_once(patience).unwrap();
    // And a load counts both kinds.
    let load = Load::start(&Arc::new(client), 10);
    eventually("five transfers", || (load.done() >= 5).then_some(()));
    network.cut(Place::EndpointA);
    eventually("a failure", || (load.failed() > 0).then_some(()));
    network.mend(Place::EndpointA);
    let outcome = load.stop();
    assert!(outcome.times.len() >= 5 && !outcome.failures.is_empty(), "{outcome:?}");
}

#[test]
fn an_overlay_address_is_where_the_route_table_says() {
    let network = LabNetwork::new();
    let aws = network.host(Place::Aws);
    let _moto = Moto::inside(aws);
    let vpc = aws.inside(|| moto::create_vpc(OVERLAY));
    let [a, c] = Place::GATEWAYS.map(|place| {
        let host = network.host(place);
        host.run(&["ip", "address", "add", &format!("{OVERLAY}/32"), "dev", "lo"]);
        let listener = host.inside(|| std::net::TcpListener::bind((OVERLAY, 21)).unwrap());
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let _router = Router::start(aws, vpc.clone(), network.routes(), OVERLAY);
    let client = network.host(Place::Client);
    let knock = || {
        let address = SocketAddr::from((OVERLAY, 21));
        client.inside(|| std::net::TcpStream::connect_timeout(&address, MOMENT))
    };
    let arrives = |at: &std::net::TcpListener| {
        eventually("a connection", || {
            let _ = knock();
            at.accept().ok()
        });
    };
    arrives(&a);
    aws.inside(|| vpc.replace(OVERLAY, Place::GatewayC));
    arrives(&c);
}

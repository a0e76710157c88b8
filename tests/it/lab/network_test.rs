//! The lab's network is what it says it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::follow::Router;
use super::load::Load;
use super::moto;
use super::network::{LabNetwork, Place};
use super::{Lab, Mode, OVERLAY};
use crate::harness::aws::Moto;
use crate::harness::eventually;
use crate::harness::servers::{Kind, Server};

const MOMENT: Duration = Duration::from_secs(1);
/// Longer than a transfer takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn packets_of_a_host_that_is_cut_vanish_until_it_is_mended() {
    let network = LabNetwork::new();
    let options = Server::options(Kind::ApacheFtpServer).inside(network.host(Place::EndpointA));
    let _server = options.port(21).passive("8192-8200").start();
    let address = Place::EndpointA.address();
    let client = Client::of_address(network.host(Place::Client), address);
    client.transfer_once(LIMIT).unwrap();
    let vanishes = || {
        let error = client.transfer_once(LIMIT).unwrap_err();
        assert!(error.contains("connect: connection timed out"), "{error}");
    };
    network.cut(Place::EndpointA);
    vanishes();
    network.mend(Place::EndpointA);
    client.transfer_once(LIMIT).unwrap();
    network.cut_between(Place::Client, Place::EndpointA);
    vanishes();
    // Others still reach it.
    Client::of_address(network.host(Place::GatewayC), address).transfer_once(LIMIT).unwrap();
    network.mend_between(Place::Client, Place::EndpointA);
    client.transfer_once(LIMIT).unwrap();
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

#[test]
fn in_every_mode_clients_are_served_by_both_gateways() {
    for mode in [Mode::Dns, Mode::LeaseRecord, Mode::LeaseOverlay] {
        let lab = Lab::start(mode);
        let client = lab.host(Place::Client);
        for place in Place::GATEWAYS {
            let client = Client::of_address(client, place.address());
            eventually("a ready gateway", || lab.node(place).is_ready().then_some(()));
            client.transfer_once(LIMIT).unwrap_or_else(|error| panic!("{mode:?}: {error}"));
        }
        eventually("a transfer by what clients know", || lab.transfer_once(LIMIT).ok());
    }
}

//! What a session's connections to the upstream resume, and whom they trust; both ends in memory.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{CertificateError, Error, ServerConfig};
use tempfile::NamedTempFile;

use super::*;
use crate::config;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 3, 10));

/// A server whose certificate is for these names, and a file with the authority that issued it.
pub(crate) fn server(names: &[&str], tickets: usize) -> (Arc<ServerConfig>, NamedTempFile) {
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut file = NamedTempFile::new().unwrap();
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    file.write_all(pem.as_bytes()).unwrap();
    let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &Issuer::new(authority, authority_key))
        .unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.send_tls13_tickets = tickets;
    (Arc::new(config), file)
}

/// What a gateway is told that trusts this authority.
pub(crate) fn settings(authority: &NamedTempFile) -> config::UpstreamTls {
    config::UpstreamTls {
        implicit: false,
        ca: Some(authority.path().into()),
        server_name: None,
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
    }
}

fn connector(authority: &NamedTempFile, newest: TlsVersion, name: Option<&str>) -> Connector {
    Connector::load(&config::UpstreamTls {
        server_name: name.map(str::to_owned),
        max_version: newest,
        ..settings(authority)
    })
    .unwrap()
}

/// Shakes hands, and carries on until nobody has anything to say.
fn shake_hands(client: &mut Tls, server: &mut Tls) -> Result<(), Error> {
    loop {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        client.output(&mut to_server);
        server.feed(&to_server)?;
        server.output(&mut to_client);
        client.feed(&to_client)?;
        if to_server.is_empty() && to_client.is_empty() {
            return Ok(());
        }
    }
}

#[test]
fn every_data_connection_of_a_session_resumes_and_no_other_sessions() {
    let (server, authority) = server(&["10.2.3.10"], 2);
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let connector = connector(&authority, version, None);
        let session = connector.session(None, ADDRESS);
        for number in 0..30 {
            let mut client = session.clone().connection().unwrap();
            let mut server = Tls::server(Arc::clone(&server)).unwrap();
            shake_hands(&mut client, &mut server).unwrap();
            assert_eq!(client.is_resumed(), number > 0, "{version:?}, connection {number}");
            let spoken = if version == TlsVersion::Tls12 { "1.2" } else { "1.3" };
            assert_eq!(client.version(), spoken);
        }
        let mut other = connector.session(None, ADDRESS).connection().unwrap();
        shake_hands(&mut other, &mut Tls::server(Arc::clone(&server)).unwrap()).unwrap();
        assert!(!other.is_resumed());
    }
}

#[test]
fn tickets_of_tls_1_3_run_out_with_a_server_that_sends_none_and_sessions_of_1_2_do_not() {
    let (server, authority) = server(&["10.2.3.10"], 0);
    for (version, resumed) in [(TlsVersion::Tls13, false), (TlsVersion::Tls12, true)] {
        let session = connector(&authority, version, None).session(None, ADDRESS);
        for number in 0..3 {
            let mut client = session.connection().unwrap();
            shake_hands(&mut client, &mut Tls::server(Arc::clone(&server)).unwrap()).unwrap();
            assert_eq!(client.is_resumed(), resumed && number > 0);
        }
    }
}

#[test]
fn a_certificate_must_have_the_name_that_is_told_or_led_there_or_the_address() {
    let (server, authority) = server(&["ftp.example.com", "10.2.3.10"], 2);
    let other = Ipv4Addr::new(10, 2, 3, 11).into();
    for (configured, name, address, good) in [
        (None, None, ADDRESS, true),
        (None, None, other, false),
        (None, Some("ftp.example.com"), other, true),
        (None, Some("vpce-1.example.com"), ADDRESS, false),
        (Some("ftp.example.com"), Some("vpce-1.example.com"), other, true),
        (Some("10.2.3.10"), Some("vpce-1.example.com"), other, true),
        (Some("other.example.com"), Some("ftp.example.com"), ADDRESS, false),
    ] {
        let connector = connector(&authority, TlsVersion::Tls13, configured);
        let mut client = connector.session(name, address).connection().unwrap();
        let outcome = shake_hands(&mut client, &mut Tls::server(Arc::clone(&server)).unwrap());
        match outcome {
            Ok(()) => assert!(good, "{configured:?} {name:?} {address}"),
            Err(error) => {
                assert!(!good, "{configured:?} {name:?} {address}: {error}");
                assert!(explain(&error, "x").contains("upstream.tls.server_name"), "{error}");
            }
        }
    }
}

#[test]
fn nobody_else_is_trusted() {
    let (server, _) = server(&["10.2.3.10"], 2);
    let (_, stranger) = self::server(&["10.2.3.10"], 2);
    let connector = connector(&stranger, TlsVersion::Tls13, None);
    let mut client = connector.session(None, ADDRESS).connection().unwrap();
    let error = shake_hands(&mut client, &mut Tls::server(server).unwrap()).unwrap_err();
    // Two authorities of one name: it is the signature that is wrong.
    assert!(
        matches!(
            error,
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature
            )
        ),
        "{error}"
    );
}

#[test]
fn a_file_of_authorities_that_cannot_be_used_is_told_with_its_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let load = |content: Option<&str>| {
        let path = directory.path().join("ca.pem");
        let _ = std::fs::remove_file(&path);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let tls = config::UpstreamTls {
            implicit: false,
            ca: Some(path),
            server_name: None,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
        };
        Connector::load(&tls).unwrap_err().to_string()
    };
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (content, told) in [
        (None, "No such file"),
        (Some(""), "no certificate in it"),
        (Some("-----BEGIN CERTIFICATE-----\nAAAA"), "write the path of a PEM file"),
        (Some(broken), "certificate 1: "),
    ] {
        let error = load(content);
        assert!(error.contains(told) && error.contains("ca.pem"), "{told}: {error}");
    }
}

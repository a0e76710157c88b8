//! What is said before a session begins, with an endpoint in this process.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::config;
use crate::tls::tests::{server, settings};
use crate::tls::{Connector, handshake, send};

/// What the endpoint says.
#[derive(Debug, Clone, Copy)]
struct Script {
    implicit: bool,
    auth: &'static str,
    pbsz: &'static str,
    prot: &'static str,
}

const GOOD: Script =
    Script { implicit: false, auth: "234 go\r\n", pbsz: "200 0\r\n", prot: "200 P\r\n" };

/// Tries an endpoint like that once; the attempt's outcome, and what the endpoint has heard.
async fn attempt(script: Script) -> (Result<Greeted, Failure>, Vec<String>, Arc<ServerConfig>) {
    let (server, authority) = server(&["127.0.0.1"], 2);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = serve(listener, Arc::clone(&server), script);
    let settings = config::UpstreamTls { implicit: script.implicit, ..settings(&authority) };
    let tls = Connector::load(&settings).unwrap().session(None, address.ip());
    let limits = Limits {
        connect: Duration::from_secs(10),
        banner: Duration::from_secs(10),
        handshake: Duration::from_secs(10),
        reply_size: 4096,
        deadline: Instant::now() + Duration::from_secs(30),
    };
    let outcome = greet(address, None, Some(tls), limits).await;
    if outcome.is_err() {
        return (outcome, heard.await.unwrap(), server);
    }
    heard.abort();
    (outcome, Vec::new(), server)
}

/// Serves one connection until it ends, and gives the lines that came.
fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    script: Script,
) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut endpoint = Endpoint { stream, tls: None, heard: Vec::new() };
        let _ = endpoint.converse(config, script).await;
        endpoint.heard
    })
}

struct Endpoint {
    stream: TcpStream,
    tls: Option<Tls>,
    heard: Vec<String>,
}

impl Endpoint {
    async fn converse(&mut self, config: Arc<ServerConfig>, script: Script) -> io::Result<()> {
        if script.implicit {
            self.encrypt(config).await?;
            self.say("120 soon\r\n220 ready\r\n").await?;
        } else {
            self.say("220 ready\r\n").await?;
            self.hear().await?;
            self.say(script.auth).await?;
            self.encrypt(config).await?;
        }
        for answer in [script.pbsz, script.prot] {
            self.hear().await?;
            self.say(answer).await?;
        }
        self.hear().await
    }

    async fn encrypt(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let mut tls = Tls::server(config).unwrap();
        handshake(&self.stream, &mut tls).await?;
        self.tls = Some(tls);
        Ok(())
    }

    /// Nothing at all is a farewell.
    async fn say(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut out = Vec::new();
        match &mut self.tls {
            Some(tls) => tls.seal(text.as_bytes(), &mut out),
            None => out.extend_from_slice(text.as_bytes()),
        }
        send(&self.stream, &mut out).await
    }

    /// One line, as nobody sends the next before this one's answer.
    async fn hear(&mut self) -> io::Result<()> {
        let mut plain = Vec::new();
        while !plain.ends_with(b"\r\n") {
            self.stream.readable().await?;
            let mut bytes = [0; 1024];
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => match &mut self.tls {
                    Some(tls) => tls.open(&bytes[..count], &mut plain).unwrap(),
                    None => plain.extend_from_slice(&bytes[..count]),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        self.heard.push(String::from_utf8(plain).unwrap());
        Ok(())
    }
}

#[tokio::test]
async fn an_endpoint_with_tls_is_greeted_and_its_data_connections_resume() {
    for script in [GOOD, Script { implicit: true, ..GOOD }] {
        let (greeted, _, server) = attempt(script).await;
        let greeted = greeted.unwrap();
        assert_eq!(greeted.banner.bytes(), b"220 ready\r\n");
        assert!(greeted.replies.is_empty());
        let tls = greeted.tls.unwrap();
        assert!(!tls.control.is_handshaking() && !tls.control.is_resumed());

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let data = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (peer, _) = listener.accept().await.unwrap();
        let (mut ours, mut theirs) = (tls.data.connection().unwrap(), Tls::server(server).unwrap());
        tokio::try_join!(handshake(&data, &mut ours), handshake(&peer, &mut theirs)).unwrap();
        assert!(ours.is_resumed() && theirs.is_resumed());
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_encrypt_everything_has_failed() {
    let auth = ["AUTH TLS\r\n"].as_slice();
    let pbsz = ["AUTH TLS\r\n", "PBSZ 0\r\n"].as_slice();
    let prot = ["AUTH TLS\r\n", "PBSZ 0\r\n", "PROT P\r\n"].as_slice();
    for (script, result, heard, told) in [
        (Script { auth: "502 no\r\n", ..GOOD }, ConnectResult::TlsRefused, auth, "502 no"),
        (Script { auth: "200 ok\r\n", ..GOOD }, ConnectResult::TlsRefused, auth, "200 ok"),
        (Script { auth: "", ..GOOD }, ConnectResult::TlsRefused, auth, "closed"),
        (
            Script { auth: "234 go\r\n230 in\r\n", ..GOOD },
            ConnectResult::TlsInjected,
            auth,
            "plain text",
        ),
        // Not even the beginning of a reply.
        (Script { auth: "234 go\r\n2", ..GOOD }, ConnectResult::TlsInjected, auth, "plain text"),
        (Script { pbsz: "503 no\r\n", ..GOOD }, ConnectResult::TlsUnprotected, pbsz, "PBSZ 0"),
        (Script { prot: "534 no\r\n", ..GOOD }, ConnectResult::TlsUnprotected, prot, "534 no"),
        (Script { prot: "", ..GOOD }, ConnectResult::TlsError, prot, "closed"),
    ] {
        let (outcome, lines, _) = attempt(script).await;
        let failure = outcome.unwrap_err();
        assert_eq!(failure.result, result, "{script:?}: {failure:?}");
        assert_eq!(lines, heard, "{script:?}");
        let why = failure.why.unwrap();
        assert!(why.contains(told), "{told} is missing in {why}");
    }
}

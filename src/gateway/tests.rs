//! A whole gateway within this process, for what cannot be brought about from outside.

use std::net::Ipv4Addr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::prelude::*;

use super::*;

/// Nobody else's in this process.
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 83, 12, 1));
const UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 83, 12, 2));

/// A bug: the first session whose data connections are open panics when it says so to the log.
#[derive(Default)]
struct Bug {
    met: AtomicBool,
}

impl<S: Subscriber> Layer<S> for Bug {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        if said.0 == "dataOpened" && !self.met.swap(true, Ordering::Relaxed) {
            panic!("by order of a test");
        }
    }
}

#[derive(Default)]
struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{value:?}");
    }
}

/// One that takes uploads to `data`, and agrees to all else.
async fn answer(control: TcpStream, data: u16) {
    let (read, mut write) = control.into_split();
    write.write_all(b"220 ready\r\n").await.unwrap();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let reply = match &line[..4] {
            "USER" => "331 password\r\n".into(),
            "PASS" => "230 in\r\n".into(),
            "EPSV" => format!("229 (|||{data}|)\r\n"),
            "STOR" => "150 go\r\n".into(),
            _ => "200 ok\r\n".to_owned(),
        };
        write.write_all(reply.as_bytes()).await.unwrap();
    }
}

struct Client {
    replies: Lines<BufReader<TcpStream>>,
}

impl Client {
    async fn log_in(gateway: SocketAddr) -> Self {
        let stream = TcpStream::connect(gateway).await.unwrap();
        let mut client = Self { replies: BufReader::new(stream).lines() };
        client.expect("220").await;
        client.say("USER ann", "331").await;
        client.say("PASS x", "230").await;
        client
    }

    async fn say(&mut self, line: &str, code: &str) -> String {
        let line = format!("{line}\r\n");
        self.replies.get_mut().write_all(line.as_bytes()).await.unwrap();
        self.expect(code).await
    }

    async fn expect(&mut self, code: &str) -> String {
        let reply = self.replies.next_line().await.unwrap().unwrap_or_default();
        assert!(reply.starts_with(code), "{reply}");
        reply
    }
}

#[tokio::test]
async fn a_panic_resets_the_transfer_of_its_own_session_and_ends_no_other() {
    let _bug =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(Bug::default()));
    let control = TcpListener::bind((UPSTREAM, 0)).await.unwrap();
    let data = TcpListener::bind((UPSTREAM, 0)).await.unwrap();
    let (upstream, port) = (control.local_addr().unwrap(), data.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((control, _)) = control.accept().await {
            tokio::spawn(answer(control, port));
        }
    });
    let config = format!(
        r#"
            listener = [{{ address = "{GATEWAY}:2121" }}]
            upstream.endpoint = [{{ address = "{upstream}" }}]
            probe.depth = "off"
            admin.enabled = false
            http.enabled = false
        "#
    );
    let config = Config::parse(&config, "test").unwrap();
    let metrics = Metrics::new().unwrap();
    let audit = AuditLog::disabled(metrics.clone());
    let gateway =
        Gateway::bind(&config, &mut Inherited::default(), metrics.clone(), audit, Threads::here())
            .unwrap();
    let (address, sessions) = (gateway.addresses()[0], gateway.sessions());
    tokio::spawn(gateway.run(CancellationToken::new()));

    let (mut one, mut other) = (Client::log_in(address).await, Client::log_in(address).await);
    let passive = one.say("PASV", "227").await;
    let port: Vec<u16> = passive
        .trim_end_matches(')')
        .rsplit(',')
        .take(2)
        .map(|number| number.parse().unwrap())
        .collect();
    one.say("STOR f", "150").await;
    let mut from = TcpStream::connect((GATEWAY, port[1] * 256 + port[0])).await.unwrap();
    let (mut to, _) = data.accept().await.unwrap();
    one.expect("421").await;
    // It never looks complete.
    for stream in [&mut from, &mut to] {
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    assert_eq!(one.replies.next_line().await.unwrap(), None);
    other.say("NOOP", "200").await;
    assert_eq!(sessions.count(), (1, 0));
    let text = String::from_utf8(metrics.render().unwrap()).unwrap();
    for series in [
        "ftpgate_sessions 1",
        "ftpgate_session_ends_total{reason=\"panicked\"} 1",
        "ftpgate_transfers 0",
        "ftpgate_transfers_total{direction=\"upload\",outcome=\"gateway-failed\"} 1",
    ] {
        assert!(text.lines().any(|line| line == series), "{series} is missing in\n{text}");
    }
}

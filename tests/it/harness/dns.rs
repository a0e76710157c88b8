//! A DNS server whose answers change at run time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::address;

/// A running server.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _running: DropGuard,
}

/// How it may misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// NOERROR and no record.
    Empty,
    /// There is no such name.
    NxDomain,
    /// The server is broken.
    ServFail,
    /// No answer at all.
    Silent,
    /// The right answer, so much later.
    Late(Duration),
    /// This address for every name, for a second.
    Elsewhere(IpAddr),
}

#[derive(Debug, Default)]
struct Zone {
    records: HashMap<String, (Vec<IpAddr>, u32)>,
    failure: Option<Failure>,
    /// Names asked for, address records only of IPv4, so that one lookup counts once.
    asked: Vec<String>,
}

impl Dns {
    /// A server that knows no name yet.
    pub(crate) fn start() -> Self {
        Self::start_at(address::unused().into())
    }

    /// The same where another network reaches it.
    pub(crate) fn start_at(ip: IpAddr) -> Self {
        let udp = UdpSocket::bind((ip, 0)).unwrap();
        let tcp = TcpListener::bind(udp.local_addr().unwrap()).unwrap();
        Self::serve(udp, tcp)
    }

    /// The same at sockets that may be of any network.
    pub(crate) fn serve(udp: UdpSocket, tcp: TcpListener) -> Self {
        let address = udp.local_addr().unwrap();
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        let handler = Handler(Arc::clone(&zone));
        let running = CancellationToken::new();
        let stopped = running.clone();
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut server = Server::new(handler);
                server.register_socket(tokio::net::UdpSocket::from_std(udp).unwrap());
                let tcp = tokio::net::TcpListener::from_std(tcp).unwrap();
                server.register_listener(tcp, Duration::from_secs(5), 16);
                stopped.cancelled().await;
            });
        });
        Self { address, zone, _running: running.drop_guard() }
    }

    /// Knows these names from now on, with their addresses and TTLs, and no others.
    pub(crate) fn replace(&self, records: HashMap<String, (Vec<IpAddr>, u32)>) {
        self.zone.lock().unwrap().records = records;
    }

    /// Lets a name resolve to these addresses from now on.
    pub(crate) fn set(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        let mut zone = self.zone.lock().unwrap();
        zone.records.insert(name.to_owned(), (addresses.to_vec(), ttl));
    }

    /// Fails from now on, or no longer.
    pub(crate) fn fail(&self, failure: Option<Failure>) {
        self.zone.lock().unwrap().failure = failure;
    }

    /// How often a name has been looked up.
    pub(crate) fn lookups(&self, name: &str) -> usize {
        self.zone.lock().unwrap().asked.iter().filter(|asked| *asked == name).count()
    }
}

struct Handler(Arc<Mutex<Zone>>);

impl Handler {
    fn failure(&self) -> Option<Failure> {
        self.0.lock().unwrap().failure
    }

    /// The answer, or how it fails.
    fn answer(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, Failure> {
        let mut zone = self.0.lock().unwrap();
        if kind == RecordType::A {
            zone.asked.push(name.to_owned());
        }
        let elsewhere;
        let (addresses, ttl) = match zone.failure {
            Some(Failure::Elsewhere(address)) => {
                elsewhere = (vec![address], 1);
                &elsewhere
            }
            None | Some(Failure::Late(_)) => zone.records.get(name).ok_or(Failure::NxDomain)?,
            Some(failure) => return Err(failure),
        };
        let owner = Name::from_ascii(format!("{name}.")).unwrap();
        let record = |address: &IpAddr| match (address, kind) {
            (IpAddr::V4(ip), RecordType::A) => Some(RData::A(A(*ip))),
            (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(AAAA(*ip))),
            _ => None,
        };
        let records = addresses.iter().filter_map(record);
        Ok(records.map(|data| Record::from_rdata(owner.clone(), *ttl, data)).collect())
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let asked = request.request_info().unwrap().query;
        let name = asked.name().to_string().trim_end_matches('.').to_owned();
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        if let Some(Failure::Late(time)) = self.failure() {
            tokio::time::sleep(time).await;
        }
        let records = match self.answer(&name, asked.query_type()) {
            Err(Failure::Silent) => {
                return ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
            }
            Err(Failure::ServFail) => {
                metadata.response_code = ResponseCode::ServFail;
                Vec::new()
            }
            Err(Failure::NxDomain) => {
                metadata.response_code = ResponseCode::NXDomain;
                Vec::new()
            }
            Err(Failure::Empty | Failure::Late(_) | Failure::Elsewhere(_)) => Vec::new(),
            Ok(records) => records,
        };
        let message = MessageResponseBuilder::from_message_request(request).build(
            metadata,
            &records,
            &[],
            &[],
            &[],
        );
        response.send_response(message).await.unwrap()
    }
}

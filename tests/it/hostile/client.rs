//! A client that does what it is told, step by step.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::harness::canned::CannedServer;
use crate::harness::counted::{Count, Counted};
use crate::harness::ftp::{End, Ftp, Wire, connect, fin, read_to_end, reset};
use crate::harness::{address, eventually};

/// Text of replies that is kept, to look at.
const KEPT: usize = 64 * 1024;

/// A step of a client's.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// The control connection is ended, by RST.
    Break,
    /// Each byte in a segment of its own.
    Drip(&'static [u8]),
    /// The control connection must have ended.
    End,
    /// The data connection is ended, by FIN.
    FinData,
    /// This line so many times, whose replies are read meanwhile: each has one of these codes.
    Flood(&'static [u8], usize, &'static [u16]),
    /// That comes on the data connection, and then FIN.
    Get(&'static [u8]),
    /// The next reply has this code.
    Hear(u16),
    /// The control connection is ended, by FIN.
    Leave,
    /// A data connection to where the latest 227 has said.
    Open,
    /// These bytes so many times, or until nobody takes them.
    Pour(&'static [u8], usize),
    /// The next reply is a 227.
    Promised,
    /// The same as [`Step::Pour`] on the data connection.
    Put(&'static [u8], usize),
    /// The upstream has received at least so much.
    Received(u64),
    /// The data connection is ended, by RST.
    ResetData,
    /// The data connection must be ended by RST, whatever came before.
    Robbed,
    /// All of this at once.
    Say(&'static [u8]),
    /// The upstream has sent at least so much.
    Sent(u64),
    /// The upstream sends no more, though it could, and has not sent that much.
    Stuck(u64),
    /// The same as [`Step::Say`] as urgent data.
    Urgent(&'static [u8]),
}

/// A client at work.
pub(super) struct Client {
    /// None once it is reset.
    control: Option<Ftp<Counted>>,
    pub(super) count: Count,
    promised: Option<SocketAddr>,
    data: Option<Counted>,
    /// Of the replies, and how the control connection ended.
    codes: Vec<String>,
    /// Of the replies, as far as it is kept.
    text: String,
}

// === impl Client ===

impl Client {
    /// From an address that has all nine ports to itself.
    pub(super) fn connect(to: SocketAddr) -> Self {
        let stream = connect(to, Some(address::unused().into())).unwrap();
        stream.set_nodelay(true).unwrap();
        let count = Count::default();
        let control = Some(Ftp::upon(count.of(stream)));
        Self { control, count, promised: None, data: None, codes: Vec::new(), text: String::new() }
    }

    pub(super) fn control(&mut self) -> &mut Ftp<Counted> {
        self.control.as_mut().unwrap()
    }

    fn data(&mut self) -> Counted {
        self.data.take().unwrap()
    }

    /// Takes one step; `before` is what the upstream had sent and received before the first.
    pub(super) fn take(&mut self, step: &Step, server: &CannedServer, before: [u64; 2]) {
        let [sent_before, received_before] = before;
        match *step {
            Step::Break => reset(self.control.take().unwrap().into_inner().into_inner()),
            Step::Drip(bytes) => bytes.chunks(1).for_each(|byte| {
                self.control().wire().write_all(byte).unwrap();
                // So that it arrives by itself, mostly.
                thread::sleep(Duration::from_micros(200));
            }),
            Step::End => {
                let error = self.control().try_reply().unwrap_err();
                self.codes.push(match error.kind() {
                    ErrorKind::UnexpectedEof => "end".into(),
                    // What was sent last may have met nobody.
                    ErrorKind::ConnectionReset => "reset".into(),
                    _ => panic!("no end: {error}"),
                });
            }
            Step::FinData => fin(self.data.as_ref().unwrap().socket()),
            Step::Flood(line, times, codes) => {
                let mut writer = self.control().wire().try_clone().unwrap();
                thread::scope(|scope| {
                    scope.spawn(move || writer.write_all(&line.repeat(times)).unwrap());
                    (0..times).for_each(|_| self.hear(codes));
                });
            }
            Step::Get(content) => {
                let mut data = self.data();
                let mut found = Vec::new();
                data.read_to_end(&mut found).unwrap();
                assert_eq!(found.escape_ascii().to_string(), content.escape_ascii().to_string());
            }
            Step::Hear(code) => self.hear(&[code]),
            Step::Leave => {
                self.control().stream().shutdown(Shutdown::Write).unwrap();
            }
            Step::Open => {
                let to = self.promised.take().unwrap();
                let data = self.control().open(to);
                data.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
                self.data = Some(self.count.of(data));
            }
            Step::Pour(bytes, times) => {
                let _ = (0..times).try_for_each(|_| self.control().wire().write_all(bytes));
            }
            Step::Promised => self.hear(&[227]),
            Step::Put(bytes, times) => {
                let data = self.data.as_mut().unwrap();
                let _ = (0..times).try_for_each(|_| data.write_all(bytes));
            }
            Step::Received(least) => eventually("the upstream to have received it", || {
                (server.count.received() - received_before >= least).then_some(())
            }),
            Step::ResetData => reset(self.data().into_inner()),
            Step::Robbed => assert_eq!(read_to_end(self.data().into_inner()).1, End::Reset),
            // It may be closed already, and the rest find nobody.
            Step::Say(bytes) => drop(self.control().wire().write_all(bytes)),
            Step::Sent(least) => eventually("the upstream to have sent it", || {
                (server.count.sent() - sent_before >= least).then_some(())
            }),
            Step::Stuck(most) => {
                let mut last = 0;
                let sent = || server.count.sent() - sent_before;
                eventually("the upstream to be held up", || {
                    thread::sleep(Duration::from_millis(200));
                    let before = std::mem::replace(&mut last, sent());
                    (before == last && last > 0).then_some(())
                });
                assert!(last < most, "{last} bytes were taken");
            }
            Step::Urgent(bytes) => {
                SockRef::from(self.control().stream()).send_out_of_band(bytes).unwrap();
            }
        }
    }

    /// Closes whatever is open; gives the codes and the text of the replies.
    pub(super) fn leave(self) -> (Vec<String>, String) {
        (self.codes, self.text)
    }

    fn hear(&mut self, codes: &[u16]) {
        let reply = self.control().reply().expect(codes);
        self.codes.push(reply.code.to_string());
        if reply.code == 227 {
            self.promised = address_of(&reply.text);
        }
        if self.text.len() < KEPT {
            self.text += &reply.text;
        }
    }
}

/// Where a 227 leads, if it does.
fn address_of(text: &str) -> Option<SocketAddr> {
    let numbers = text.split_once('(')?.1.split_once(')')?.0;
    let numbers: Vec<u8> = numbers.split(',').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [a, b, c, d, high, low]: [u8; 6] = numbers.try_into().ok()?;
    Some(([a, b, c, d], u16::from_be_bytes([high, low])).into())
}

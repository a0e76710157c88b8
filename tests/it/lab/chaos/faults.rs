//! Breaks things and mends them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use tempfile::TempDir;

use super::super::network::Place;
use super::super::{Lab, start_endpoint};
use super::PASSIVE;
use super::schedule::Fault;
use crate::harness::namespace::run;
use crate::harness::process::Process;
use crate::harness::servers::Server;

/// What an audit log may take. An hour takes a third of it.
const DISK: u64 = 96 << 20;
/// Descriptors that are left to a gateway when it has few.
const FEW: u64 = 6;

/// Faults that have begun and those that may.
pub(super) struct Faults<'a> {
    pub(super) lab: &'a mut Lab,
    /// Endpoints on their way up.
    starting: Vec<(Place, JoinHandle<Server>)>,
    /// Processes that have handed over and finish their sessions.
    older: Vec<Process>,
    /// The limits of gateways that have few descriptors.
    limits: Vec<(Place, Rlimit)>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(lab: &'a mut Lab) -> Self {
        Self { lab, starting: Vec::new(), older: Vec::new(), limits: Vec::new() }
    }

    pub(super) fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::KillGateway(place) => self.lab.kill_gateway(place),
            Fault::StopGateway(place) => self.lab.node(place).process().signal(Signal::STOP),
            Fault::HandOver(place) => {
                let before = self.lab.node_mut(place).hand_over();
                self.older.push(before);
                self.older.retain_mut(Process::is_running);
            }
            Fault::FewDescriptors(place) => {
                let process = self.lab.node(place).process();
                let before = limit_descriptors(process, |open, limit| Rlimit {
                    current: Some(open + FEW),
                    ..limit
                });
                self.limits.push((place, before));
            }
            Fault::FullDisk(place) => fill(self.lab.node(place).directory()),
            Fault::ClockJump(place, seconds) => {
                set_clock(self.lab.node(place).directory(), seconds.into());
            }
            Fault::KillEndpoint(place) => {
                self.endpoint(place).sigkill();
                *self.lab.endpoint_mut(place) = None;
            }
            Fault::StopEndpoint(place) => self.endpoint(place).process.signal(Signal::STOP),
            Fault::Cut(place) => self.lab.network.cut(place),
            Fault::CutBetween(one, other) => self.lab.network.cut_between(one, other),
            Fault::CutOneWay(from, to) => self.lab.network.cut_one_way(from, to),
            Fault::Dns(failure) => self.lab.resolver.dns.fail(Some(failure)),
            Fault::S3(None, failure) => self.lab.s3.fail(Some(failure)),
            Fault::S3(Some(place), failure) => {
                self.lab.s3.fail_for(place.address(), Some(failure));
            }
            Fault::CloudWatch => self.lab.cloudwatch.fail(true),
        }
    }

    pub(super) fn end(&mut self, fault: Fault) {
        match fault {
            Fault::KillGateway(place) => self.lab.restart_gateway(place),
            Fault::StopGateway(place) => self.lab.node(place).process().signal(Signal::CONT),
            Fault::HandOver(_) => {}
            Fault::FewDescriptors(place) => {
                let at = self.limits.iter().position(|(of, _)| *of == place).unwrap();
                let (_, limit) = self.limits.remove(at);
                limit_descriptors(self.lab.node(place).process(), |_, _| limit);
            }
            Fault::FullDisk(place) => {
                fs::remove_file(filler(self.lab.node(place).directory())).unwrap();
            }
            Fault::ClockJump(place, _) => set_clock(self.lab.node(place).directory(), 0),
            Fault::KillEndpoint(place) => {
                let (host, root) = (self.lab.host(place).clone(), self.lab.root());
                let start = move || start_endpoint(&host, PASSIVE, &root);
                self.starting.push((place, thread::spawn(start)));
            }
            Fault::StopEndpoint(place) => self.endpoint(place).process.signal(Signal::CONT),
            Fault::Cut(place) => self.lab.network.mend(place),
            Fault::CutBetween(one, other) => self.lab.network.mend_between(one, other),
            Fault::CutOneWay(from, to) => self.lab.network.mend_one_way(from, to),
            Fault::Dns(_) => self.lab.resolver.dns.fail(None),
            Fault::S3(None, _) => self.lab.s3.fail(None),
            Fault::S3(Some(place), _) => self.lab.s3.fail_for(place.address(), None),
            Fault::CloudWatch => self.lab.cloudwatch.fail(false),
        }
    }

    /// An endpoint's server, which may still be on its way up.
    fn endpoint(&mut self, place: Place) -> &mut Server {
        if let Some(at) = self.starting.iter().position(|(of, _)| *of == place) {
            let server = self.starting.remove(at).1.join().expect("it starts");
            *self.lab.endpoint_mut(place) = Some(server);
        }
        self.lab.endpoint_mut(place).as_mut().expect("it runs")
    }

    /// Waits for all that is on its way up or on its way out.
    pub(super) fn settle(&mut self) {
        for place in Place::GATEWAYS {
            self.endpoint(place.endpoint());
        }
        for mut process in self.older.drain(..) {
            assert!(process.wait().success(), "an older process: {}", process.output());
        }
    }
}

/// The disk of a gateway's audit log: so small that it can be full. Dropping it takes it away.
pub(super) struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Under the directory of a gateway that is yet to be started.
    pub(super) fn new(directory: &Path) -> Self {
        let path = directory.join("audit");
        fs::create_dir(&path).unwrap();
        let size = format!("size={DISK}");
        run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", path.to_str().unwrap()]);
        Self { path }
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("audit.jsonl")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A gateway may still have it open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

fn filler(directory: &Path) -> PathBuf {
    directory.join("audit/filler")
}

fn fill(directory: &Path) {
    let mut file = File::create(filler(directory)).unwrap();
    let zeros = vec![0; 1 << 20];
    let mut chunk = zeros.len();
    while chunk > 0 {
        // As much as there is room for, and then smaller pieces.
        match file.write(&zeros[..chunk]) {
            Ok(1..) => {}
            _ => chunk /= 2,
        }
    }
}

/// Sets the limit that `choose` makes of the number of open descriptors and the limit; the one before.
fn limit_descriptors(process: &Process, choose: impl Fn(u64, Rlimit) -> Rlimit) -> Rlimit {
    let pid = Pid::from_raw(process.id() as i32).unwrap();
    let limits = process.proc("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let before = Rlimit { current: numbers.first().copied(), maximum: numbers.get(1).copied() };
    prlimit(Some(pid), Resource::Nofile, choose(open_descriptors(process), before)).unwrap()
}

/// How many descriptors it has open.
pub(super) fn open_descriptors(process: &Process) -> u64 {
    fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count() as u64
}

// === clocks ===

/// What a gateway's wall clock goes by: a library that is loaded before all others.
///
/// Neither a namespace nor a time-out can set it for one process, and libfaketime also changes how
/// processes sleep: clock_nanosleep(2) then fails.
pub(super) struct Clock {
    directory: TempDir,
}

impl Clock {
    pub(super) fn build() -> Self {
        let directory = TempDir::with_prefix("ftpgate-clock-").unwrap();
        let library = directory.path().join("clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/lab/chaos/clock.c");
        run(&["cc", "-shared", "-fPIC", "-O2", "-o", library.to_str().unwrap(), source]);
        Self { directory }
    }

    /// The environment of a gateway that is yet to be started, whose clock is right at first.
    pub(super) fn environment(&self, directory: &Path) -> Vec<(String, String)> {
        fs::write(clock(directory), 0_i64.to_ne_bytes()).unwrap();
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        vec![
            ("LD_PRELOAD".into(), path(self.directory.path().join("clock.so"))),
            ("FTPGATE_CLOCK".into(), path(clock(directory))),
        ]
    }
}

fn clock(directory: &Path) -> PathBuf {
    directory.join("clock")
}

/// It is off by so many seconds from now on.
fn set_clock(directory: &Path, seconds: i64) {
    let file = File::options().write(true).open(clock(directory)).unwrap();
    // In its place: it is mapped.
    file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
}

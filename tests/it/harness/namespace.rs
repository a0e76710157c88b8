//! A network namespace that stands for another zone: what runs in it can be cut off, so that
//! packets vanish in both directions and nobody is told.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Every namespace of these tests is called so, followed by the test process and a number.
pub(crate) const PREFIX: &str = "ftpgate-";

/// A network that servers may be started in.
pub(crate) trait Network: Debug + Sync {
    /// Where servers in it listen.
    fn address(&self) -> Ipv4Addr;

    /// The same command, inside.
    fn wrap(&self, command: &Command) -> Command;

    /// A connection to a server in it.
    fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(to)
    }
}

/// A namespace with one wire to ours; dropping it takes both away.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    /// Our end of the wire.
    wire: String,
    /// Our address on the wire.
    pub(crate) ours: Ipv4Addr,
    /// Its address on the wire.
    pub(crate) address: Ipv4Addr,
    /// A second one.
    pub(crate) second: Ipv4Addr,
}

impl Namespace {
    /// A new one, which can be reached.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        if number == 0 {
            remove_left_behind();
        }
        let name = format!("{PREFIX}{process}-{number}");
        // The range for benchmarks of network devices (RFC 2544), eight addresses for each wire.
        let block = (process.wrapping_mul(64).wrapping_add(number) % 0x3fff) * 8;
        let [ours, theirs, second] = [1, 2, 3]
            .map(|end| Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + block + end));
        // A device's name has at most 15 characters.
        let (near, far) = (format!("fg{process}n{number}"), "wire");
        add(&name);
        let namespace = Self { name, wire: near, ours, address: theirs, second };
        let name = &*namespace.name;
        let near = &*namespace.wire;
        run(&["ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name]);
        run(&["ip", "address", "add", &format!("{ours}/29"), "dev", near]);
        run(&["ip", "link", "set", near, "up"]);
        for address in [theirs, second] {
            namespace.run(&["ip", "address", "add", &format!("{address}/29"), "dev", far]);
        }
        namespace.run(&["ip", "link", "set", far, "up"]);
        namespace
    }

    /// Runs something inside, to its end.
    pub(crate) fn run(&self, command: &[&str]) {
        run(&[&["ip", "netns", "exec", &self.name], command].concat());
    }

    /// From now on every packet vanishes.
    pub(crate) fn cut(&self) {
        self.run(&["nft", "add table inet cut"]);
        for hook in ["input", "output"] {
            let chain = format!(
                "add chain inet cut {hook} {{ type filter hook {hook} priority 0; policy drop; }}"
            );
            self.run(&["nft", &chain]);
        }
    }

    /// From now on no more.
    pub(crate) fn mend(&self) {
        self.run(&["nft", "delete table inet cut"]);
    }
}

impl Network for Namespace {
    fn address(&self) -> Ipv4Addr {
        self.address
    }

    fn wrap(&self, command: &Command) -> Command {
        wrap(&self.name, command)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Both ends of it: connections that are not over yet would keep the namespace's for a while.
        let _ = Command::new("ip").args(["link", "delete", &self.wire]).status();
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

/// A new namespace with nothing but its loopback device.
pub(crate) fn add(name: &str) {
    run(&["ip", "netns", "add", name]);
    run(&["ip", "-n", name, "link", "set", "lo", "up"]);
}

/// The file that stands for the namespace of that name.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Moves this thread there for the rest of its life.
pub(crate) fn enter(name: &str) {
    let link = File::open(path(name)).unwrap();
    move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Does something there, in a thread of its own.
pub(crate) fn inside<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let worker = || {
        enter(name);
        work()
    };
    thread::scope(|scope| match scope.spawn(worker).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The same command, inside the namespace of that name.
pub(crate) fn wrap(name: &str, command: &Command) -> Command {
    let mut wrapped = Command::new("ip");
    wrapped.args(["netns", "exec", name]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        value.map(|value| wrapped.env(name, value));
    }
    command.get_current_dir().map(|directory| wrapped.current_dir(directory));
    wrapped
}

/// Runs a command to its end, and panics unless it succeeds.
pub(crate) fn run(command: &[&str]) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; tests/run installs it"));
    assert!(
        output.status.success(),
        "{command:?} (these tests need root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What test processes that were killed could not take away.
pub(crate) fn remove_left_behind() {
    let left_behind = |directory: &str| {
        let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names = names.filter_map(|entry| entry.file_name().into_string().ok());
        let is_ownerless = |name: &String| {
            let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists())
        };
        names.filter(is_ownerless).collect::<Vec<_>>()
    };
    for name in left_behind("/run/netns") {
        let _ = Command::new("ip").args(["netns", "delete", &name]).status();
    }
    for name in left_behind("/etc/netns") {
        let _ = std::fs::remove_dir_all(Path::new("/etc/netns").join(name));
    }
}

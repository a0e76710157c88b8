//! Child processes that never outlive the tests, and whose output is shown when a test fails.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// A running server or gateway; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output going to `log`.
    pub(crate) fn start(name: &str, command: &Command, log: &Path) -> Self {
        let file = File::create(log).unwrap();
        let mut bound = bind_to_this_process(command);
        bound.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = spawn(bound)
            .unwrap_or_else(|error| panic!("{name}: {:?}: {error}", command.get_program()));
        Self { name: name.into(), child, log: log.into() }
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap()).into_owned()
    }

    /// A file of its own under /proc.
    pub(crate) fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it outright, and the processes that it has started.
    pub(crate) fn sigkill(&mut self) {
        let children = descendants(self.child.id());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        for child in children {
            // It may have ended with its parent.
            let _ = kill_process(Pid::from_raw(child).unwrap(), Signal::KILL);
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually(&format!("the end of {}", self.name), || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            eprintln!("--- {}: the end of its log", self.name);
            lines[lines.len().saturating_sub(60)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The children of a process, and theirs.
fn descendants(process: u32) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let children = children.unwrap_or_default();
    let children = children.split_whitespace().map(|child| child.parse::<i32>().unwrap());
    children.flat_map(|child| [vec![child], descendants(child as u32)].concat()).collect()
}

/// The same command, killed by the kernel when the test process dies in whatever way.
fn bind_to_this_process(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        value.map(|value| bound.env(name, value));
    }
    command.get_current_dir().map(|directory| bound.current_dir(directory));
    bound
}

/// Spawns from a thread that lives as long as the process does: the kernel's death signal is
/// about the thread that spawned, and a test's thread may end before its server is to.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, outcome) = channel();
    spawner.send((command, answer)).unwrap();
    outcome.recv().unwrap()
}

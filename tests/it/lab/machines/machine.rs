//! An instance: Debian with its systemd as process 1, booted by systemd-nspawn on a host of the lab.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::namespace::{PREFIX, run};
use crate::harness::process::Process;
use crate::harness::{eventually, stand_in};
use crate::lab::network::Host;

/// Hierarchies of control groups: both of a machine that has version 1 too, or the only one.
const HIERARCHIES: [&str; 3] =
    ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/// Runs systemd-nspawn in a control group of its own, or two systemds would take each other's
/// services for theirs.
const BOOT: &str = r#"
for group in $CGROUPS; do mkdir "$group" && echo $$ >"$group/cgroup.procs" || exit; done
exec systemd-nspawn --quiet --keep-unit --register=no --resolv-conf=off --link-journal=no \
    --directory="$ROOT" --machine="$NAME" --network-namespace-path="$NETWORK" --boot
"#;

/// A machine that runs, or is off.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) host: Host,
    /// Its files.
    root: PathBuf,
    groups: Vec<PathBuf>,
    /// systemd-nspawn.
    supervisor: Process,
    /// Its process 1, by its number here.
    first: i32,
}

impl Machine {
    /// Installs Debian under `directory`, boots it, and waits until it is up.
    pub(super) fn boot(host: &Host, directory: &Path) -> Self {
        static FIRST: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        FIRST.call_once(remove_left_behind);
        let name = host.place.name();
        let root = directory.join(format!("{name}-root"));
        let tree = stand_in("bookworm");
        run(&["cp", "--archive", &tree.to_string_lossy(), &root.to_string_lossy()]);
        fs::write(root.join("etc/hostname"), format!("{name}\n")).unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let machine = format!("{PREFIX}{}-{number}-{name}", std::process::id());
        let groups: Vec<_> = HIERARCHIES
            .iter()
            .map(Path::new)
            .filter(|hierarchy| hierarchy.join("cgroup.procs").exists())
            .map(|hierarchy| hierarchy.join(&machine))
            .collect();
        let all: Vec<_> = groups.iter().map(|group| group.display().to_string()).collect();
        let mut command = Command::new("sh");
        command.args(["-c", BOOT]).env("CGROUPS", all.join(" ")).env("ROOT", &root);
        command.env("NAME", &machine).env("NETWORK", host.path());
        let log = directory.join(format!("{name}-console"));
        let mut supervisor = Process::start(&machine, &command, &log);
        let first = eventually("a machine's process 1", || {
            assert!(supervisor.is_running(), "systemd-nspawn has ended: {}", supervisor.output());
            payload(&groups[0])
        });
        let machine = Self { host: host.clone(), root, groups, supervisor, first };
        eventually("a machine to be up", || {
            let state = machine.run("systemctl is-system-running");
            matches!(&*state.stdout, b"running\n" | b"degraded\n").then_some(())
        });
        machine
    }

    /// Where a file of its is.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file.trim_start_matches('/'))
    }

    /// Writes a file there.
    pub(super) fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs something as root there, with an administrator's environment, to its end.
    pub(super) fn run(&self, script: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.first)).args(["--all", "--wdns=/", "--"]);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin");
        command.env("LANG", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["sh", "-c", script]).output().unwrap()
    }

    /// The same, which has to succeed: what it prints.
    #[track_caller]
    pub(super) fn ok(&self, script: &str) -> String {
        let output = self.run(script);
        let (printed, complaints) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(
            output.status.success(),
            "{script}: {}\n{printed}{complaints}\n{}",
            output.status,
            self.journal()
        );
        printed.trim_end().into()
    }

    /// What the service has logged, and what systemd says of it.
    pub(super) fn journal(&self) -> String {
        let output = self.run("journalctl --no-pager --lines=60 --unit=ftpgate.service");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// One property of the service.
    pub(super) fn property(&self, name: &str) -> String {
        self.ok(&format!("systemctl show --value --property={name} ftpgate.service"))
    }

    /// Pulls the plug.
    pub(super) fn kill(&mut self) {
        // It may be off already.
        let _ = kill_process(Pid::from_raw(self.first).unwrap(), Signal::KILL);
        self.supervisor.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.run("ftpgate status --json");
            let status = String::from_utf8_lossy(&status.stdout);
            eprintln!("--- {:?}\n{status}\n{}", self.host.place, self.journal());
        }
        self.kill();
        self.groups.iter().for_each(|group| remove(group));
    }
}

/// The first process of a machine whose control group that is.
fn payload(group: &Path) -> Option<i32> {
    let processes = fs::read_to_string(group.join("payload/init.scope/cgroup.procs")).ok()?;
    processes.lines().next()?.parse().ok()
}

/// Ends all that is left in a control group, and removes it and those below.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for process in processes.lines().filter_map(|number| Pid::from_raw(number.parse().ok()?)) {
        let _ = kill_process(process, Signal::KILL);
    }
    for _ in 0..100 {
        if fs::remove_dir(group).is_ok() || !group.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What test processes that were killed could not take away: a machine outlives its supervisor.
fn remove_left_behind() {
    for hierarchy in HIERARCHIES {
        for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
                remove(&entry.path());
            }
        }
    }
}

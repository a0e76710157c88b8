//! The packages and the units: what is in them. `systemd/build-packages` makes them, twice for
//! `tests/run`, as an upgrade needs a second one; [`crate::lab::machines`] installs them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Of both package formats.
const FILES: [&str; 10] = [
    "/etc/ftpgate/ftpgate.toml",
    "/etc/logrotate.d/ftpgate",
    "/usr/bin/ftpgate",
    "/usr/share/bash-completion/completions/ftpgate",
    "/usr/share/doc/ftpgate/ftpgate.cdx.json",
    "/usr/share/doc/ftpgate/ftpgate.toml",
    "/usr/share/fish/vendor_completions.d/ftpgate.fish",
    "/usr/share/man/man1/ftpgate-serve.1.gz",
    "/usr/share/man/man1/ftpgate-upgrade.1.gz",
    "/usr/share/man/man1/ftpgate.1.gz",
];
/// What an installation by the administrator may change.
const CONFIGURATION: [&str; 2] = ["/etc/ftpgate/ftpgate.toml", "/etc/logrotate.d/ftpgate"];
/// glibc's version in Amazon Linux 2023, the oldest system that the packages are for.
const GLIBC: (u32, u32) = (2, 34);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The only file in target/packages whose name ends so.
fn package(ending: &str) -> PathBuf {
    let directory = root().join("target/packages");
    let files = std::fs::read_dir(&directory).into_iter().flatten().flatten();
    let mut files = files.map(|entry| entry.path());
    let found = files.find(|file| file.to_string_lossy().ends_with(ending));
    found.unwrap_or_else(|| {
        panic!(
            "no {ending} in {}: REVISION=... systemd/build-packages makes it",
            directory.display()
        )
    })
}

/// The .deb of that revision.
pub(crate) fn deb(revision: u32) -> PathBuf {
    package(&format!("-{revision}_{}.deb", run("dpkg", &["--print-architecture"]).trim()))
}

/// The .rpm of that revision.
pub(crate) fn rpm(revision: u32) -> PathBuf {
    package(&format!("-{revision}.{}.rpm", std::env::consts::ARCH))
}

/// What the program of that revision calls itself.
pub(crate) fn version(revision: u32) -> String {
    format!("{}-{revision}", env!("CARGO_PKG_VERSION"))
}

/// What a command prints that has to succeed.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {complaints}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn expect_files(listed: &str, package_specific: &[&str]) {
    let files: Vec<&str> = listed.lines().collect();
    for file in FILES.iter().chain(package_specific) {
        assert!(files.contains(file), "no {file} in {listed}");
    }
}

#[test]
fn the_service_is_exposed_no_more_than_it_must_be() {
    let unit = root().join("systemd/ftpgate.service");
    let unit = unit.to_string_lossy();
    let told = run("systemd-analyze", &["security", "--offline=yes", "--no-pager", &unit]);
    let level = told.split("Overall exposure level for ftpgate.service: ").nth(1).unwrap();
    let level: f64 = level.split_whitespace().next().unwrap().parse().unwrap();
    assert!(level <= 1.5, "{told}");
}

#[test]
fn the_deb_holds_what_it_should_and_starts_nothing() {
    let deb = deb(1);
    let deb = deb.to_string_lossy();
    let contents = run("dpkg-deb", &["--contents", &deb]);
    let files: String = contents
        .lines()
        .filter(|line| !line.ends_with('/'))
        .map(|line| line.rsplit(' ').next().unwrap().trim_start_matches('.').to_owned() + "\n")
        .collect();
    let of_debian = [
        "/usr/lib/systemd/system/ftpgate.service",
        "/usr/lib/systemd/system/ftpgate.socket",
        "/usr/share/doc/ftpgate/copyright",
        "/usr/share/zsh/vendor-completions/_ftpgate",
    ];
    expect_files(&files, &of_debian);
    assert!(contents.lines().all(|line| line.contains(" root/root ") || line.contains(" 0/0 ")));
    let depends = run("dpkg-deb", &["--field", &deb, "Depends"]);
    let depends: Vec<&str> = depends.split([',', '\n']).map(str::trim).collect();
    let known =
        |on: &&str| on.is_empty() || on.starts_with("libc6 ") || on.starts_with("libgcc-s1 ");
    assert!(depends.iter().all(known), "{depends:?}");
    let unpacked = tempfile::tempdir().unwrap();
    run("dpkg-deb", &["--control", &deb, &unpacked.path().to_string_lossy()]);
    let control = |file| std::fs::read_to_string(unpacked.path().join(file)).unwrap();
    assert_eq!(control("conffiles").split_whitespace().collect::<Vec<_>>(), CONFIGURATION);
    let scripts = ["postinst", "prerm", "postrm"].map(control);
    for script in &scripts {
        assert!(!script.contains("#DEBHELPER#"), "{script}");
    }
    assert!(!scripts[0].contains("deb-systemd-invoke"), "starts something: {}", scripts[0]);
}

#[test]
fn lintian_has_nothing_to_say_of_the_deb() {
    // That one is about uploads to Debian itself.
    let suppressed = "--suppress-tags=initial-upload-closes-no-bugs";
    let output = Command::new("lintian")
        .args(["--fail-on=error,warning", suppressed])
        .args(["--tag-display-limit", "0"])
        .arg(deb(1))
        .output()
        .expect("tests/run installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_rpm_holds_what_it_should_and_its_scriptlets_can_be_run() {
    let rpm = rpm(1);
    let rpm = rpm.to_string_lossy();
    let query = |what: &str| run("rpm", &["--query", "--package", what, &rpm]);
    let of_rpm = [
        "/usr/lib/systemd/system/ftpgate.service",
        "/usr/lib/systemd/system/ftpgate.socket",
        "/usr/share/licenses/ftpgate/LICENSE",
        "/usr/share/zsh/site-functions/_ftpgate",
    ];
    expect_files(&query("--list"), &of_rpm);
    assert_eq!(query("--configfiles").split_whitespace().collect::<Vec<_>>(), CONFIGURATION);
    let kinds = query("--queryformat=[%{FILENAMES} %{FILEFLAGS:fflags}\\n]");
    assert!(kinds.contains("/etc/ftpgate/ftpgate.toml cn"), "may be replaced: {kinds}");
    for needed in query("--requires").lines() {
        let known = [
            "/bin/sh",
            "config(",
            "libc.so.6",
            "libgcc_s.so.1",
            "libm.so.6",
            "ld-linux",
            "rpmlib(",
            "systemd",
            "rtld(",
        ];
        assert!(known.iter().any(|known| needed.starts_with(known)), "needs {needed}");
    }
    for (scriptlet, says) in
        [("POSTIN", "ftpgate upgrade"), ("PREUN", "disable --now"), ("POSTUN", "daemon-reload")]
    {
        let script = query(&format!("--queryformat=%{{{scriptlet}}}"));
        assert!(script.contains(says), "{scriptlet}: {script}");
        run("sh", &["-n", "-c", &script]);
    }
}

#[test]
fn the_program_needs_no_library_but_the_c_library_of_amazon_linux_2023() {
    let unpacked = tempfile::tempdir().unwrap();
    run("dpkg-deb", &["--extract", &deb(1).to_string_lossy(), &unpacked.path().to_string_lossy()]);
    let program = unpacked.path().join("usr/bin/ftpgate");
    let program = program.to_string_lossy();
    let told = run("readelf", &["--wide", "--dynamic", "--version-info", &program]);
    let between = |text: &str, from: &str, to: &str| {
        text.split_once(from)?.1.split_once(to).map(|(found, _)| found.to_owned())
    };
    let needed = told.lines().filter(|line| line.contains("(NEEDED)"));
    for library in needed.map(|line| between(line, "[", "]").unwrap()) {
        let known = ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-"];
        assert!(known.iter().any(|known| library.starts_with(known)), "needs {library}");
    }
    let versions = told.split("Name: GLIBC_").skip(1).map(|rest| {
        let version = rest.split_whitespace().next().unwrap();
        let mut numbers = version.split('.').map(|number| number.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    });
    let newest: (u32, u32) = versions.max().unwrap();
    assert!(newest <= GLIBC, "needs glibc {newest:?}");
}

#[test]
fn the_bill_of_materials_tells_what_is_in_the_program() {
    let unpacked = tempfile::tempdir().unwrap();
    run("dpkg-deb", &["--extract", &deb(1).to_string_lossy(), &unpacked.path().to_string_lossy()]);
    let sha256 = |file: &Path| {
        let bytes = std::fs::read(file).unwrap();
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let path = unpacked.path().join("usr/share/doc/ftpgate/ftpgate.cdx.json");
    let program = unpacked.path().join("usr/bin/ftpgate");
    let text = std::fs::read_to_string(&path).unwrap();
    let bill: Value = serde_json::from_str(&text).unwrap();

    // By the schema that the format's own library brings.
    let python = root().join("target/stand-ins/cyclonedx-python-lib/bin/python");
    let valid = "import sys; from cyclonedx.schema import SchemaVersion; \
        from cyclonedx.validation.json import JsonStrictValidator; \
        error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read()); \
        sys.exit(error and str(error))";
    run(&python.to_string_lossy(), &["-c", valid, &path.to_string_lossy()]);

    let itself = &bill["metadata"]["component"];
    assert_eq!(itself["version"], version(1));
    assert_eq!(itself["hashes"][0]["content"], sha256(&program));
    let components = bill["components"].as_array().unwrap();
    let told = |scope: &str| -> BTreeSet<String> {
        let of_scope = components.iter().filter(|component| component["scope"] == scope);
        let text = |field: &Value| field.as_str().unwrap().to_owned();
        of_scope.map(|it| text(&it["name"]) + " v" + &text(&it["version"])).collect()
    };
    let (linked, excluded) = (told("required"), told("excluded"));
    assert_eq!(linked.len() + excluded.len(), components.len(), "told twice");
    // Everything that the program is built of, without the demo and the tests; and the library of
    // the language, which cargo does not tell.
    let cargo = std::env::var("CARGO").unwrap();
    let tree = run(
        &cargo,
        &["tree", "--locked", "-e", "normal", "--no-default-features", "--prefix=none"],
    );
    let tree = tree.lines().map(|line| {
        let mut words = line.split(' ');
        [words.next().unwrap(), words.next().unwrap()].join(" ")
    });
    let expected: BTreeSet<String> =
        tree.filter(|it| *it != format!("ftpgate v{}", env!("CARGO_PKG_VERSION"))).collect();
    let mut all: BTreeSet<String> = linked.union(&excluded).cloned().collect();
    all.retain(|it| !it.starts_with("rust-std "));
    assert_eq!(all, expected);
    for (name, is_linked) in
        [("tokio", true), ("aws-lc-sys", true), ("rust-std", true), ("syn", false)]
    {
        let tells =
            |crates: &BTreeSet<String>| crates.iter().any(|it| it.starts_with(&format!("{name} ")));
        assert_eq!((tells(&linked), tells(&excluded)), (is_linked, !is_linked), "{name}");
    }
    for component in components {
        let is_crate = component["purl"].as_str().unwrap().starts_with("pkg:cargo/");
        assert!(component["licenses"][0]["expression"].is_string(), "no licence: {component}");
        assert!(!is_crate || component["hashes"][0]["content"].is_string(), "no hash: {component}");
    }

    // Once more it is the same, and the .rpm holds the very same bill and program.
    let toolchain = Path::new(&cargo).parent().unwrap().display();
    let again = Command::new(root().join("systemd/sbom"))
        // Root may have no cargo of its own.
        .env("PATH", format!("{toolchain}:{}", std::env::var("PATH").unwrap()))
        .env("FTPGATE_VERSION", version(1))
        .arg(&program)
        .arg(bill["metadata"]["properties"][0]["value"].as_str().unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), text);
    let digests = "--queryformat=[%{FILENAMES} %{FILEDIGESTS}\\n]";
    let digests = run("rpm", &["--query", "--package", digests, &rpm(1).to_string_lossy()]);
    for (file, unpacked) in
        [("/usr/share/doc/ftpgate/ftpgate.cdx.json", &path), ("/usr/bin/ftpgate", &program)]
    {
        let line = format!("{file} {}", sha256(unpacked));
        assert!(digests.contains(&line), "not {line} in\n{digests}");
    }
}

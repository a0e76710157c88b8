//! The configuration as an operator meets it: the reference file, and every kind of mistake.

use super::*;

const REFERENCE: &str = include_str!("../../config/ftpgate.toml");
const ENDPOINT: &str = "[[upstream.endpoint]]\naddress = \"10.2.3.10:21\"\n";

fn error(text: &str) -> String {
    Config::parse(text, "ftpgate.toml").unwrap_err().to_string()
}

#[test]
fn the_reference_file_loads_and_shows_the_defaults() {
    let reference = Config::parse(REFERENCE, "reference").unwrap();
    let set = uncommented("0.0.0.0:21");
    let everything = Config::parse(&set, "reference with every key set").unwrap();
    let mut defaults = Config::parse(ENDPOINT, "smallest").unwrap();
    defaults.upstream.endpoints = reference.upstream.endpoints.clone();
    assert_eq!(format!("{reference:?}"), format!("{defaults:?}"));
    // With every key set to the default that it shows, only what has no default differs.
    defaults.node = everything.node.clone();
    defaults.access = everything.access.clone();
    defaults.passive.overrides = everything.passive.overrides.clone();
    defaults.audit = everything.audit.clone();
    defaults.verify = everything.verify.clone();
    defaults.tls = everything.tls.clone();
    defaults.upstream.tls = everything.upstream.tls.clone();
    defaults.probe.user = everything.probe.user.clone();
    defaults.probe.password = everything.probe.password.clone();
    defaults.probe.bucket = everything.probe.bucket.clone();
    defaults.ha = everything.ha.clone();
    defaults.cloudwatch = everything.cloudwatch.clone();
    defaults.http = everything.http.clone();
    assert_eq!(format!("{everything:?}"), format!("{defaults:?}"));
    assert!(everything.audit.is_some_and(|audit| audit.archive.is_some()));
    assert!(everything.verify.is_some() && !everything.passive.overrides.is_empty());
    assert!(everything.ha.peer.is_some() && everything.cloudwatch.is_some());
    let tls = everything.upstream.tls.unwrap();
    assert!(tls.ca.is_some() && tls.server_name.is_some() && !tls.implicit);
    assert!(everything.probe.password.is_some() && everything.probe.bucket.is_some());
}

/// The reference with every key that it shows commented out put to use.
fn uncommented(listener: &str) -> String {
    let key = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| {
                rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '[')
            })
            .map(str::to_owned)
    };
    let lines: Vec<String> =
        REFERENCE.lines().map(|line| key(line).unwrap_or_else(|| line.to_owned())).collect();
    // Its [ha] tables are for a pair, and its [upstream.tls] is for TLS.
    let pair = [
        ("mode = \"none\"", "mode = \"lease\""),
        ("127.0.0.1:9121", "0.0.0.0:9121"),
        ("mode = \"off\"", "mode = \"explicit\""),
    ];
    let text = lines.join("\n").replace("0.0.0.0:21", listener);
    pair.iter().fold(text, |text, (default, paired)| text.replace(default, paired))
}

#[test]
fn every_key_of_the_schema_is_in_the_reference() {
    // serde names the keys that a table knows when it meets one that it does not.
    for table in [
        "node",
        "listener",
        "tls",
        "passive",
        "passive.override",
        "active",
        "proxy_protocol",
        "access",
        "access.rule",
        "access.bans",
        "upstream",
        "upstream.endpoint",
        "upstream.tls",
        "dns",
        "probe",
        "probe.password",
        "timeouts",
        "limits",
        "drain",
        "audit",
        "audit.archive",
        "verify",
        "verify.directory",
        "ha",
        "ha.lease",
        "ha.route53",
        "ha.route",
        "cloudwatch",
        "admin",
        "http",
        "log",
    ] {
        let (open, close) = if matches!(
            table,
            "listener"
                | "passive.override"
                | "access.rule"
                | "upstream.endpoint"
                | "verify.directory"
        ) {
            ("[[", "]]")
        } else {
            ("[", "]")
        };
        let header = format!("{open}{table}{close}");
        let toml_error = error(&format!("{header}\nno_such_key = 1\n"));
        // What cannot be there together is shown with a space behind the "#".
        let reference = uncommented("0.0.0.0:21").replace("\n# ", "\n");
        let section = reference
            .split(&format!("{header}\n"))
            .nth(1)
            .unwrap_or_else(|| panic!("{header} is not in the reference"));
        let section = section.split("\n[").next().unwrap();
        let known = toml_error.split("expected").nth(1).unwrap().split('\n').next().unwrap();
        for key in known.split('`').skip(1).step_by(2) {
            // A table of its own.
            if reference.contains(&format!("[{table}.{key}]")) {
                continue;
            }
            assert!(
                section.contains(&format!("{key} = ")),
                "{table}.{key} is not in the reference"
            );
        }
    }
}

#[test]
fn each_mistake_names_its_file_line_key_and_remedy() {
    let cases = [
        (
            "[timeouts]\nidel = \"30s\"\n",
            "error: unknown field `idel`, expected one of `login`, `idle`, `data_connect`, `data_idle`, `reply`, `tls_handshake`\n --> ftpgate.toml:2, key timeouts.idel\n  |\n2 | idel = \"30s\"\n  | ^^^^\nhint: did you mean `idle`?\n",
        ),
        (
            "[timeouts]\nidle = 30\n",
            "error: a duration without a unit\n --> ftpgate.toml:2, key timeouts.idle\n  |\n2 | idle = 30\n  |        ^^\nhint: write a number and a unit in quotes, such as \"500ms\", \"30s\", \"5m\" or \"1h\"\n",
        ),
        (
            "[passive]\nports = \"8200-8192\"\n",
            "error: `8200-8192` is no port range\n --> ftpgate.toml:2, key passive.ports\n  |\n2 | ports = \"8200-8192\"\n  |         ^^^^^^^^^^^\nhint: write \"8192-8200\", the lower port first, from 1 to 65535\n",
        ),
        (
            "[passive]\naddress = \"0.0.0.0\"\n",
            "error: `0.0.0.0` is no address that a client can connect to\n --> ftpgate.toml:2, key passive.address\n  |\n2 | address = \"0.0.0.0\"\n  |           ^^^^^^^^^\nhint: write the address under which clients reach this node, or \"auto\"\n",
        ),
        (
            "[proxy_protocol]\ntrusted = [\"10.0.0.5\", \"10.0.0.0/33\"]\n",
            "error: `10.0.0.0/33` is no network\n --> ftpgate.toml:2, key proxy_protocol.trusted\n  |\n2 | trusted = [\"10.0.0.5\", \"10.0.0.0/33\"]\n  |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^\nhint: write an address and the length of its prefix, such as \"10.0.0.0/24\"\n",
        ),
        (
            "[log]\nformat = \"xml\"\n",
            "error: unknown variant `xml`, expected one of `journald`, `json`, `text`\n --> ftpgate.toml:2, key log.format\n  |\n2 | format = \"xml\"\n  |          ^^^^^\nhint: write one of: journald, json, text\n",
        ),
        (
            "[log]\nlevel = \"inof\"\n",
            "error: `inof` is no log level\n --> ftpgate.toml:2, key log.level\n  |\n2 | level = \"inof\"\n  |         ^^^^^^\nhint: write error, warn, info, debug or trace, or one for a part, such as \"info,ftpgate=debug\"\n",
        ),
        (
            "[log]\nlevel =\n",
            "error: string values must be quoted, expected literal string\n --> ftpgate.toml:2, key log.level\n  |\n2 | level =\n  |        ^\nhint: config/ftpgate.toml is a file that loads; compare with it\n",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(&format!("{text}{ENDPOINT}")), expected);
    }
    assert_eq!(
        error("[node]\nname = \"a\"\n"),
        "error: missing field `upstream`\n --> ftpgate.toml\nhint: add an [[upstream.endpoint]] with the address of the FTP server\n"
    );
    let missing = Config::load(Path::new("/nonexistent/ftpgate.toml")).unwrap_err().to_string();
    assert!(
        missing.contains("--config") && missing.contains("/nonexistent/ftpgate.toml"),
        "{missing}"
    );
}

#[test]
fn faults_between_values_are_told_all_at_once() {
    let text = "[[listener]]\naddress = \"127.0.0.1:8195\"\n[[listener]]\naddress = \"127.0.0.1:21\"\n\
        [[upstream.endpoint]]\naddress = \"127.0.0.1:21\"\n[limits]\nsessions = 0\nline_length = 10\n[http]\naddress = \"127.0.0.1:21\"\n";
    let told = error(text);
    for part in [
        "ftpgate.toml:2, key listener.address",
        "one of passive.ports",
        "ftpgate.toml:6, key upstream.endpoint.address",
        "own listeners",
        "ftpgate.toml:8, key limits.sessions",
        "ftpgate.toml:9, key limits.line_length",
        "ftpgate.toml:11, key http.address",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    assert_eq!(told.matches("hint: ").count(), 5);
}

#[test]
fn what_stands_behind_is_checked_as_a_whole() {
    let text = "[upstream]\nsource_addresses = [\"10.0.0.1\", \"10.0.0.1\"]\n\
        [[upstream.endpoint]]\naddress = \"ftp.example.internal\"\n\
        [[upstream.endpoint]]\naddress = \"FTP.example.internal.:21\"\n\
        [dns]\nmin_ttl = \"10s\"\nmax_ttl = \"5s\"\n\
        [probe]\ndepth = \"round-trip\"\nrise = 0\nuser = \"a\\r\\nDELE b\"\nprefix = \"/home\"\n\
        [probe.password]\nfile = \"a\"\nsecret = \"b\"\n";
    let told = error(text);
    for part in [
        "ftpgate.toml:2, key upstream.source_addresses",
        "ftpgate.toml:6, key upstream.endpoint.address",
        "there twice",
        "ftpgate.toml:9, key dns.max_ttl",
        "ftpgate.toml:11, key probe.depth",
        "add probe.bucket",
        "ftpgate.toml:12, key probe.rise",
        "ftpgate.toml:13, key probe.user",
        "ftpgate.toml:14, key probe.prefix",
        "exactly one of file, environment, credential and secret",
    ] {
        assert!(told.contains(part), "{part} is missing in\n{told}");
    }
    let needs_login = error(&format!("{ENDPOINT}[probe]\ndepth = \"login\"\n"));
    assert!(needs_login.contains("add probe.user and a [probe.password]"), "{needs_login}");
}

#[test]
fn tls_with_the_upstream_is_on_or_off_and_never_half() {
    let tls = |lines: &str| format!("{ENDPOINT}[upstream.tls]\n{lines}");
    for (lines, told) in [
        ("ca = \"/ca.pem\"", "ftpgate.toml:4, key upstream.tls.ca"),
        ("server_name = \"a.example\"", "this is for TLS with the upstream, which is off"),
        ("mode = \"off\"\nmin_version = \"1.3\"", "add mode = \"explicit\""),
        ("max_version = \"1.2\"", "ftpgate.toml:4, key upstream.tls.max_version"),
        ("mode = \"explicit\"\nca = \"\"", "an empty path"),
        ("mode = \"explicit\"\nserver_name = \"a b\"", "`a b` is no name"),
        ("mode = \"implicit\"\nserver_name = \"a.example:990\"", "without a port"),
        ("mode = \"starttls\"", "write one of: explicit, implicit, off"),
        (
            "mode = \"explicit\"\nmax_version = \"1.2\"\nmin_version = \"1.3\"",
            "older than upstream.tls.min_version",
        ),
    ] {
        let error = error(&tls(lines));
        assert!(error.contains(told), "{told} is missing in\n{error}");
    }
    let upstream = |lines: &str| Config::parse(&tls(lines), "ftpgate.toml").unwrap().upstream.tls;
    assert!(upstream("").is_none() && upstream("mode = \"off\"").is_none());
    let implicit = upstream("mode = \"implicit\"\nserver_name = \"10.2.3.10\"").unwrap();
    assert!(implicit.implicit && implicit.ca.is_none());
    assert_eq!(implicit.max_version, TlsVersion::Tls12);
}

/// A pair, with these lines in `[ha]`, and more tables.
fn pair(ha: &str, tables: &str) -> String {
    let http = "[http]\naddress = \"0.0.0.0:9121\"\n";
    format!("{ENDPOINT}{http}[ha]\npeer = \"10.2.2.10:9121\"\n{ha}\n{tables}")
}

#[test]
fn a_pair_is_checked_as_a_whole() {
    let lease = "[ha.lease]\nbucket = \"gateways\"\n";
    let record = "[ha.route53]\nzone_id = \"Z1\"\naddresses = [\"10.2.1.10\"]\n";
    let route = "[ha.route]\naddress = \"10.99.0.1\"\nroute_tables = [\"rtb-1\"]\n";
    for (ha, tables) in [
        ("mode = \"lease\"", lease.to_owned()),
        ("mode = \"lease\"", format!("{lease}{route}")),
        ("mode = \"lease\"\nname = \"gw.example.internal\"", format!("{lease}{record}")),
        ("mode = \"dns\"\nname = \"gw.example.internal\"", "[cloudwatch]\n".into()),
        ("mode = \"dns\"\nname = \"gw.example.internal\"", String::new()),
    ] {
        let text = pair(ha, &tables);
        Config::parse(&text, "ftpgate.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
    for (text, told) in [
        (pair("mode = \"lease\"", ""), "add [ha.lease] with the bucket"),
        (pair("mode = \"dns\"", ""), "add ha.name"),
        (pair("", lease), "[ha.lease] is only for mode = \"lease\""),
        (pair("mode = \"lease\"", &format!("{lease}{record}")), "the record has no name"),
        (
            pair("mode = \"lease\"\nname = \"gw.a\"", &format!("{lease}{record}{route}")),
            "remove [ha.route53] or [ha.route]",
        ),
        (
            pair("mode = \"lease\"", "[ha.lease]\nbucket = \"s3://gateways\"\n"),
            "no name of an S3 bucket",
        ),
        (
            pair("mode = \"lease\"", "[ha.lease]\nbucket = \"gateways\"\nttl = \"100ms\"\n"),
            "too short for S3",
        ),
        (
            pair(
                "mode = \"lease\"",
                &format!("{lease}[ha.route]\naddress = \"10.99.0.1\"\nroute_tables = [\"main\"]\n"),
            ),
            "write the IDs of the clients' route tables",
        ),
        (pair("mode = \"lease\"", lease).replace("peer = \"10.2.2.10:9121\"\n", ""), "add ha.peer"),
        (
            pair("mode = \"lease\"", lease).replace("0.0.0.0:9121", "127.0.0.1:9121"),
            "the peer cannot ask this node",
        ),
        (
            format!("{ENDPOINT}[cloudwatch]\nnamespace = \"AWS/NetworkELB\"\n"),
            "AWS keeps namespaces",
        ),
        (format!("{ENDPOINT}[cloudwatch]\ninterval = \"10ms\"\n"), "called too often"),
        (
            format!("{ENDPOINT}[ha]\npeer = \"10.2.2.10\"\n"),
            "write the address and port of its [http]",
        ),
        (format!("{ENDPOINT}[ha]\nname = \"a b\"\n"), "write the name that clients connect to"),
    ] {
        let error = error(&text);
        assert!(error.contains(told), "{told} is missing in\n{error}\n{text}");
    }
}

#[test]
fn a_change_that_takes_a_restart_is_known_from_one_that_does_not() {
    let certificate = "[tls]\ncertificate = \"a\"\nkey = \"b\"\n";
    let listener = "[[listener]]\naddress = \"0.0.0.0:21\"\n";
    let two = &*format!("{listener}[[listener]]\naddress = \"0.0.0.0:990\"\n");
    let tls = &*format!("{listener}tls = \"required\"\n{certificate}");
    for (now, new, expected) in [
        ("", "", &[][..]),
        ("", "[timeouts]\nidle = \"1m\"\n[limits]\nsessions = 5\n[log]\nlevel = \"debug\"\n", &[]),
        ("", "[passive]\naddress = \"10.0.0.1\"\nwait = \"1s\"\n[drain]\nidle = \"1s\"\n", &[]),
        ("", &format!("{listener}active = false\nascii = \"pass-through\"\n"), &[]),
        ("", "[active]\nsource_port = 20\n", &[]),
        ("", "[access]\ndefault = \"deny\"\n[[access.rule]]\nname = \"r\"\n[access.bans]\n", &[]),
        ("", "[passive]\nports = \"9000-9008\"\nwait = \"1s\"\n", &["passive"]),
        ("", "[[listener]]\naddress = \"0.0.0.0:2121\"\nactive = false\n", &["listener"]),
        ("", two, &["listener"]),
        (two, "", &["listener"]),
        ("", "[node]\nname = \"other\"\n[probe]\nrise = 9\n", &["node", "probe"]),
        (
            "",
            "[log]\nformat = \"json\"\nlevel = \"debug\"\n[http]\nenabled = false\n",
            &["http", "log"],
        ),
        ("", "[[upstream.endpoint]]\naddress = \"ftp.internal\"\n", &[]),
        ("", certificate, &["tls"]),
        ("", tls, &["listener", "tls"]),
        (tls, "", &["tls"]),
        (tls, &tls.replace("\"a\"", "\"c\"").replace("required", "optional"), &[]),
    ] {
        let [now, new] = [now, new].map(|tables| format!("{ENDPOINT}{tables}"));
        let [now, new] = [now, new].map(|text| Config::parse(&text, "file").unwrap());
        let taken = now.taking_up(&new);
        assert_eq!(taken.differences(&new), expected, "{now:?} {new:?}");
        assert_eq!(taken == new, expected.is_empty(), "every table is compared");
        assert_eq!(taken.taking_up(&new), taken, "all that can be taken up was");
    }
    let now = Config::parse(ENDPOINT, "now").unwrap();
    for (key, expected) in [
        ("choice = \"source-hash\"", &[][..]),
        ("[upstream.tls]\nmode = \"explicit\"", &["upstream"]),
    ] {
        let new = Config::parse(&format!("[upstream]\n{key}\n{ENDPOINT}"), "new").unwrap();
        assert_eq!(now.taking_up(&new).differences(&new), expected, "{key}");
    }
}

#[test]
fn an_endpoint_is_an_address_or_a_name_with_or_without_its_port() {
    let cases = [
        ("10.2.3.10", Some("10.2.3.10:21")),
        ("10.2.3.10:2121", Some("10.2.3.10:2121")),
        ("2001:db8::10", Some("[2001:db8::10]:21")),
        ("[2001:db8::10]:2121", Some("[2001:db8::10]:2121")),
        ("ftp.Example.internal.", Some("ftp.example.internal:21")),
        ("ftp:2121", Some("ftp:2121")),
        ("10.2.3", None),
        ("10.2.3.10:port", None),
        ("ftp:0", None),
        ("ftp://example.com", None),
        ("a..b", None),
        ("", None),
    ];
    for (text, expected) in cases {
        let file = format!("[[upstream.endpoint]]\naddress = \"{text}\"\n");
        let address = Config::parse(&file, "ftpgate.toml")
            .ok()
            .map(|config| config.upstream.endpoints.first().unwrap().address.to_string());
        assert_eq!(address.as_deref(), expected, "{text}");
    }
}

//! What comes along for those who watch a pair: rules and boards name what nodes have, promtool and
//! a real Prometheus take them, and an alert fires when a node dies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::canned::CannedServer;
use crate::harness::certificates::Authority;
use crate::harness::dns::Dns;
use crate::harness::eventually;
use crate::harness::gateway::Gateway;
use crate::harness::prometheus::{Prometheus, hasty_rules, promtool, shipped};

/// Labels that Prometheus adds, or the scrape configuration.
const ADDED: [&str; 5] = ["alertname", "alertstate", "instance", "job", "pair"];
/// Labels all of whose values a node shows from its start.
const CLOSED: [&str; 9] = [
    "connection",
    "direction",
    "operation",
    "outcome",
    "reason",
    "result",
    "resumed",
    "role",
    "side",
];

/// The values of each label of each metric.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// A metric that is named somewhere, with its matchers: label, operator, value.
#[derive(Debug)]
struct Selector {
    name: String,
    matchers: Vec<[String; 3]>,
}

#[test]
fn promtool_takes_what_comes_along() {
    promtool(&["check", "rules", "ftpgate.rules.yml"], "");
    promtool(&["check", "config", "prometheus.yml"], "");
    promtool(&["test", "rules", "ftpgate.rules.test.yml"], "");
    let directory = TempDir::with_prefix("ftpgate-board-").unwrap();
    let file = directory.path().join("board.yml");
    fs::write(&file, rules_of_the_board()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()], "");
}

#[test]
fn every_metric_that_is_named_is_one_of_a_node() {
    let (dns, authority) = (Dns::start(), Authority::new());
    let server = CannedServer::script().start();
    dns.set("ftp.example", &[server.address.ip()], 60);
    // Everything that not every node has: TLS, an endpoint with a name, and probes.
    let gateway = Gateway::to_name(&format!("ftp.example:{}", server.address.port()), &dns)
        .certified(&authority)
        .listener("tls = \"optional\"")
        .set("probe", "depth = \"banner\"\ninterval = \"1s\"")
        .start();
    let metrics = eventually("a probe", || {
        let (_, text) = gateway.get("/metrics");
        text.contains("ftpgate_probe_stage_seconds{").then_some(text)
    });
    promtool(&["check", "metrics"], &metrics);
    let known = known(&metrics);
    let labels: BTreeSet<_> = known.values().flat_map(BTreeMap::keys).map(String::as_str).collect();
    for (file, text) in [
        ("ftpgate.rules.yml", read("prometheus/ftpgate.rules.yml")),
        ("ftpgate.rules.test.yml", read("prometheus/ftpgate.rules.test.yml")),
        (
            "ftpgate.json",
            board_texts(&["expr", "legendFormat", "definition", "titleFormat"]).join("\n"),
        ),
    ] {
        let selectors = selectors(&text);
        assert!(selectors.len() > 50, "{file}: {} only", selectors.len());
        for selector in selectors {
            check(&selector, &known, file);
        }
        for label in labels_named(&text) {
            let is_known = labels.contains(label) || ADDED.contains(&label);
            assert!(is_known, "{file}: no metric has a label {label}");
        }
    }
}

#[test]
fn each_alert_says_what_to_do_and_is_tested() {
    let (rules, tests) =
        (read("prometheus/ftpgate.rules.yml"), read("prometheus/ftpgate.rules.test.yml"));
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 30);
    for alert in alerts {
        let (name, body) = alert.split_once('\n').unwrap();
        for key in ["expr: ", "summary: ", "description: "] {
            assert_eq!(body.matches(&format!(" {key}")).count(), 1, "{name}: {key}");
        }
        let severities = ["severity: warning\n", "severity: critical\n"];
        assert!(severities.into_iter().any(|severity| body.contains(severity)), "{name}");
        let silent = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"}}");
        let firing = format!("{{ labels: '{{alertname=\"{name}\",");
        for what in [silent, firing] {
            assert!(tests.contains(&what), "{name}: {what} is not tested");
        }
    }
}

#[test]
fn the_board_is_one_that_grafana_shows() {
    let board: Value = serde_json::from_str(&read("grafana/ftpgate.json")).unwrap();
    assert!(board["schemaVersion"].as_u64().unwrap() >= 36, "that of Grafana 10");
    let variables = board["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| &variable["name"]).collect();
    assert_eq!(names, ["datasource", "node"]);
    let panels = board["panels"].as_array().unwrap();
    let (mut ids, mut squares) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let [x, y, width, height] =
            ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + width <= 24, "{panel}");
        for square in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(squares.insert(square), "something lies over {panel}");
        }
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel}");
            let expression = target["expr"].as_str().unwrap();
            assert!(expression.contains("instance=~\"$node\""), "{expression}");
        }
    }
}

#[test]
fn prometheus_tells_when_a_node_dies() {
    let server = CannedServer::script().start();
    let mut first = Gateway::to_address(server.address).start();
    let http = |gateway: &Gateway| SocketAddr::new(gateway.address.ip(), 9121);
    let peer = format!("peer = \"{}\"", http(&first));
    let mut second = Gateway::to_address(server.address).set("ha", &peer).start();
    let nodes = [http(&first), http(&second)];
    let prometheus = Prometheus::start(None, &nodes, &[&hasty_rules(), &rules_of_the_board()]);
    let (dead, left) = (nodes[0].to_string(), nodes[1].to_string());

    eventually("both nodes to be up", || {
        prometheus.has_up(&[(nodes[0], true), (nodes[1], true)]).then_some(())
    });
    prometheus.wait_for(&[]);
    first.sigkill();
    prometheus.wait_for(&[("FtpgateNodeDown", &dead), ("FtpgatePeerLost", &left)]);
    assert!(prometheus.has_up(&[(nodes[0], false), (nodes[1], true)]));
    second.sigkill();
    eventually("FtpgateAllNodesDown", || {
        let firing = prometheus.firing();
        firing.contains(&("FtpgateAllNodesDown".into(), "ftp".into())).then_some(())
    });
    prometheus.expect_healthy_rules();
}

#[test]
fn the_metric_of_the_certificates_end_follows_the_file() {
    let authority = Authority::new();
    let server = CannedServer::script().start();
    let gateway = Gateway::to_address(server.address)
        .certified(&authority)
        .listener("tls = \"optional\"")
        .set("tls", "reload = \"100ms\"")
        .start();
    let end = |year| {
        let end = humantime::parse_rfc3339(&format!("{year}-01-01T00:00:00Z")).unwrap();
        end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as f64
    };
    let shows = |seconds: f64| {
        eventually("the end of the certificate", || {
            let (_, metrics) = gateway.get("/metrics");
            let name = "ftpgate_tls_certificate_expiry_timestamp_seconds ";
            let line = metrics.lines().find_map(|line| line.strip_prefix(name))?;
            (line.parse() == Ok(seconds)).then_some(())
        });
    };
    // What rcgen issues unless told otherwise.
    shows(end(4096));
    let expired = authority.issue_expired(&[&gateway.address.ip().to_string()]);
    let files = gateway.certificate.as_ref().unwrap();
    fs::copy(&expired.key, &files.key).unwrap();
    fs::copy(&expired.certificate, &files.certificate).unwrap();
    shows(end(2020));
}

fn read(path: &str) -> String {
    fs::read_to_string(shipped(path)).unwrap()
}

/// The texts of the board under one of these keys, wherever they are.
fn board_texts(keys: &[&str]) -> Vec<String> {
    fn gather(value: &Value, keys: &[&str], texts: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(text) if keys.contains(&&**key) => texts.push(text.clone()),
                        _ => gather(value, keys, texts),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| gather(value, keys, texts)),
            _ => {}
        }
    }
    let mut texts = Vec::new();
    gather(&serde_json::from_str(&read("grafana/ftpgate.json")).unwrap(), keys, &mut texts);
    texts
}

/// The board's expressions as recording rules, for those who only know rules. JSON is YAML.
fn rules_of_the_board() -> String {
    let rules = board_texts(&["expr"]).into_iter().enumerate().map(|(number, text)| {
        let text = text.replace("$__rate_interval", "1m").replace("$node", ".*");
        json!({ "record": format!("board:{number}"), "expr": text })
    });
    let rules: Vec<_> = rules.collect();
    assert!(rules.len() > 40);
    json!({ "groups": [{ "name": "board", "rules": rules }] }).to_string()
}

fn known(metrics: &str) -> Known {
    let mut known = Known::new();
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let [selector] = &selectors(series)[..] else { panic!("{line}") };
        let labels = known.entry(selector.name.clone()).or_default();
        for [label, _, value] in &selector.matchers {
            labels.entry(label.clone()).or_default().insert(value.clone());
        }
    }
    known
}

/// All metrics of ftpgate and its process that a text names. `a:ftpgate_b` is a rule's.
fn selectors(text: &str) -> Vec<Selector> {
    let of_name = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | ':');
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(of_name) {
        let word = &rest[start..];
        let end = word.find(|char| !of_name(char)).unwrap_or(word.len());
        let (name, behind) = word.split_at(end);
        rest = behind;
        if !name.starts_with("ftpgate_") && !name.starts_with("process_") {
            continue;
        }
        let matchers = behind.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        if let Some((_, behind)) = matchers {
            rest = behind;
        }
        let matchers = matchers.map(|(inside, _)| inside).unwrap_or_default();
        let matchers = matchers.split(',').filter(|text| !text.is_empty()).map(|matcher| {
            let (label, value) = matcher.split_once('"').unwrap();
            let operator = label.trim_start().trim_start_matches(of_name);
            let label = label.trim_start().trim_end_matches(operator);
            [label, operator, value.trim_end_matches('"')].map(str::to_owned)
        });
        found.push(Selector { name: name.into(), matchers: matchers.collect() });
    }
    found
}

/// The labels that expressions group by, and that texts show.
fn labels_named(text: &str) -> Vec<&str> {
    let groups = [" by (", " ignoring (", " on (", " without ("].into_iter();
    let groups = groups.flat_map(|begin| text.split(begin).skip(1));
    let groups = groups.filter_map(|text| text.split_once(')').map(|(labels, _)| labels));
    let grouped = groups.flat_map(|labels| labels.split(',').map(str::trim));
    let shown = text.split("{{").skip(1).filter_map(|text| text.split_once("}}"));
    let shown = shown.map(|(shown, _)| shown.trim());
    let shown = shown.map(|shown| shown.strip_prefix("$labels.").unwrap_or(shown));
    grouped.chain(shown).filter(|label| !label.starts_with("$value")).collect()
}

fn check(selector: &Selector, known: &Known, file: &str) {
    let Selector { name, matchers } = selector;
    let labels = known.get(name).unwrap_or_else(|| panic!("{file}: no node has {name}"));
    for [label, operator, value] in matchers.iter().filter(|[label, ..]| !ADDED.contains(&&**label))
    {
        let values = labels.get(label);
        let values = values.unwrap_or_else(|| panic!("{file}: {name} has no label {label}"));
        if !CLOSED.contains(&&**label) {
            continue;
        }
        let wanted =
            if operator.ends_with('~') { value.split('|').collect() } else { vec![&**value] };
        for value in wanted {
            let is_there = match value.strip_suffix(".*") {
                Some(begin) => values.iter().any(|value| value.starts_with(begin)),
                None => values.contains(value),
            };
            assert!(is_there, "{file}: {name} is never with {label}=\"{value}\"");
        }
    }
}

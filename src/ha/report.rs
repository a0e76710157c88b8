//! What CloudWatch is told of this node, under the names that the metrics of an NLB have.
//!
//! It is told at every interval, also when nothing happens: an alarm, and a Route 53 health check
//! on it, take silence for a node that is gone.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

use crate::aws::cloudwatch::{CloudWatch, Datum, Unit};
use crate::config;
use crate::observe::metrics::{Metrics, Totals};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Reports that wait to be sent. All together they are far fewer than the 1000 data that one
/// request may have.
const WAITING: usize = 10;
/// How long to wait after a request that failed: twice as long each time. A new report is sent
/// when it is due in any case.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

const ZONE: &str = "AvailabilityZone";
const LOAD_BALANCER: &str = "LoadBalancer";
const NODE: &str = "Node";

/// This node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// What it has counted since its start.
    pub(super) totals: Totals,
    /// Endpoints that serve.
    pub(super) healthy_hosts: u64,
    /// Endpoints that do not.
    pub(super) unhealthy_hosts: u64,
    /// Whether it holds the lease, if there is one.
    pub(super) lease_held: Option<bool>,
    /// Where it is, if that is known.
    pub(super) zone: Option<String>,
}

/// The task that reports.
#[derive(Debug)]
pub(super) struct Reporter {
    config: config::CloudWatch,
    cloudwatch: CloudWatch,
    metrics: Metrics,
    queue: Queue,
    failing: bool,
}

// === impl Reporter ===

impl Reporter {
    pub(super) fn new(node: &str, config: &config::CloudWatch, metrics: Metrics) -> Self {
        Self {
            config: config.clone(),
            cloudwatch: CloudWatch::new(TIMEOUT),
            // What was counted before is not news.
            queue: Queue { told: metrics.totals(), ..Queue::new(node, &config.load_balancer) },
            metrics,
            failing: false,
        }
    }

    /// Reports now and then at every interval, for ever.
    pub(super) async fn run(mut self, snapshot: impl Fn() -> Snapshot) {
        let mut due = interval(self.config.interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = RETRY;
        loop {
            tokio::select! {
                _ = due.tick() => {
                    if self.queue.push(&snapshot(), SystemTime::now()) {
                        self.metrics.cloudwatch_dropped();
                    }
                }
                () = sleep(retry), if self.failing => {
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
            self.send().await;
            if !self.failing {
                retry = RETRY;
            }
        }
    }

    /// Sends all that waits.
    async fn send(&mut self) {
        let sent = self.cloudwatch.put(&self.config.namespace, &self.queue.data()).await;
        self.metrics.cloudwatch_reported(sent.is_ok());
        match sent {
            Ok(()) => {
                self.queue.waiting.clear();
                if self.failing {
                    info!("CloudWatch takes reports again");
                }
                self.failing = false;
            }
            Err(why) => {
                if !self.failing {
                    warn!(%why, "CloudWatch takes no reports; the last {WAITING} are kept for it");
                }
                self.failing = true;
            }
        }
    }
}

/// The reports that CloudWatch has not got yet, and what those before have told.
#[derive(Debug)]
struct Queue {
    node: String,
    load_balancer: String,
    told: Totals,
    waiting: VecDeque<Vec<Datum>>,
}

// === impl Queue ===

impl Queue {
    fn new(node: &str, load_balancer: &str) -> Self {
        Self {
            node: node.into(),
            load_balancer: load_balancer.into(),
            told: Totals::default(),
            waiting: VecDeque::with_capacity(WAITING),
        }
    }

    /// Adds a report; tells whether the oldest one had to go for it.
    fn push(&mut self, snapshot: &Snapshot, at: SystemTime) -> bool {
        let full = self.waiting.len() >= WAITING;
        if full {
            self.waiting.pop_front();
        }
        let report = self.report(snapshot, at);
        self.waiting.push_back(report);
        self.told = snapshot.totals;
        full
    }

    fn data(&self) -> Vec<Datum> {
        self.waiting.iter().flatten().cloned().collect()
    }

    fn report(&self, snapshot: &Snapshot, at: SystemTime) -> Vec<Datum> {
        let (now, told) = (&snapshot.totals, &self.told);
        let since = |count: fn(&Totals) -> u64| count(now).saturating_sub(count(told));
        let hosts = [
            ("HealthyHostCount", Unit::Count, snapshot.healthy_hosts),
            ("UnHealthyHostCount", Unit::Count, snapshot.unhealthy_hosts),
        ];
        let others = [
            ("ActiveFlowCount", Unit::Count, now.active_flows),
            ("NewFlowCount", Unit::Count, since(|totals| totals.new_flows)),
            ("ProcessedBytes", Unit::Bytes, since(|totals| totals.processed_bytes)),
            ("TCP_Client_Reset_Count", Unit::Count, since(|totals| totals.client_resets)),
            ("TCP_Target_Reset_Count", Unit::Count, since(|totals| totals.target_resets)),
            ("TCP_ELB_Reset_Count", Unit::Count, since(|totals| totals.elb_resets)),
            (
                "PortAllocationErrorCount",
                Unit::Count,
                since(|totals| totals.port_allocation_errors),
            ),
            ("RejectedFlowCount", Unit::Count, since(|totals| totals.rejected_flows)),
            ("LoginFailures", Unit::Count, since(|totals| totals.login_failures)),
            ("PassivePortExhausted", Unit::Count, since(|totals| totals.passive_port_exhausted)),
            ("TransfersAborted", Unit::Count, since(|totals| totals.transfers_aborted)),
        ];
        let lease = snapshot.lease_held.map(|held| ("LeaseHeld", Unit::Count, held.into()));
        let everything = hosts.into_iter().chain(others).chain(lease);

        let by_node = vec![(LOAD_BALANCER, self.load_balancer.clone()), (NODE, self.node.clone())];
        let as_nlb = snapshot
            .zone
            .clone()
            .map(|zone| vec![(ZONE, zone), (LOAD_BALANCER, self.load_balancer.clone())]);
        // An alarm that Route 53 follows is about one node, and so needs these by node.
        let again = as_nlb.is_some().then_some(hosts).into_iter().flatten();
        let again = again.map(|metric| datum(metric, &by_node, at));
        let dimensions = as_nlb.as_ref().unwrap_or(&by_node);
        everything.map(|metric| datum(metric, dimensions, at)).chain(again).collect()
    }
}

/// The numbers of a minute, or of a day, are exact as f64.
fn datum(
    (name, unit, value): (&'static str, Unit, u64),
    dimensions: &[(&'static str, String)],
    at: SystemTime,
) -> Datum {
    let dimensions = dimensions.to_vec();
    Datum { name, unit, value: value as f64, dimensions, at, high_resolution: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue::new("ftp-a", "ftp")
    }

    fn snapshot(totals: Totals) -> Snapshot {
        let zone = Some("ap-northeast-1a".into());
        Snapshot { totals, healthy_hosts: 2, unhealthy_hosts: 1, lease_held: Some(true), zone }
    }

    fn value(report: &[Datum], name: &str) -> f64 {
        report.iter().find(|datum| datum.name == name).unwrap().value
    }

    #[test]
    fn a_report_tells_what_happened_since_the_one_before() {
        let mut queue = queue();
        let mut totals =
            Totals { processed_bytes: 100, active_flows: 3, new_flows: 5, ..Totals::default() };
        assert!(!queue.push(&snapshot(totals), SystemTime::UNIX_EPOCH));
        totals.processed_bytes = 130;
        queue.push(&snapshot(totals), SystemTime::UNIX_EPOCH);
        let values = |name| [value(&queue.waiting[0], name), value(&queue.waiting[1], name)];
        assert_eq!(values("ProcessedBytes"), [100.0, 30.0]);
        assert_eq!(values("NewFlowCount"), [5.0, 0.0]);
        assert_eq!(values("ActiveFlowCount"), [3.0, 3.0]);
        assert_eq!(values("HealthyHostCount"), [2.0, 2.0]);
        assert_eq!(values("LeaseHeld"), [1.0, 1.0]);
    }

    #[test]
    fn the_oldest_report_goes_when_too_many_wait() {
        let mut queue = queue();
        for second in 0..13_u64 {
            let totals = Totals { login_failures: second * 7, ..Totals::default() };
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second * 60);
            assert_eq!(queue.push(&snapshot(totals), at), second >= 10);
        }
        assert_eq!(queue.waiting.len(), 10);
        let data = queue.data();
        assert!(data.len() <= 1000);
        let first = SystemTime::UNIX_EPOCH + Duration::from_secs(180);
        assert_eq!(data[0].at, first, "each keeps the time when it was taken");
        let failures = data.iter().filter(|datum| datum.name == "LoginFailures");
        assert!(failures.map(|datum| datum.value).all(|value| value == 7.0));
    }

    #[test]
    fn dimensions_are_those_of_an_nlb_and_hosts_are_told_by_node_too() {
        let mut queue = queue();
        queue.push(&snapshot(Totals::default()), SystemTime::UNIX_EPOCH);
        let by_node: Vec<_> = [("LoadBalancer", "ftp"), ("Node", "ftp-a")]
            .map(|(name, value)| (name, value.to_owned()))
            .into();
        let data = queue.data();
        assert_eq!(data.len(), 16);
        let (as_nlb, again): (Vec<_>, Vec<_>) =
            data.iter().partition(|datum| datum.dimensions != by_node);
        let names: Vec<_> = again.iter().map(|datum| datum.name).collect();
        assert_eq!(names, ["HealthyHostCount", "UnHealthyHostCount"]);
        for datum in as_nlb {
            let dimensions: Vec<_> =
                datum.dimensions.iter().map(|(name, value)| (*name, &**value)).collect();
            let expected = [("AvailabilityZone", "ap-northeast-1a"), ("LoadBalancer", "ftp")];
            assert_eq!(dimensions, expected);
            assert!(!datum.high_resolution);
        }
    }

    #[test]
    fn the_board_shows_what_is_told() {
        let text = include_str!("../../config/cloudwatch/dashboard.json");
        let placeholders = text.split("${").skip(1).filter_map(|text| text.split_once('}'));
        for (placeholder, _) in placeholders {
            assert!(["region", "namespace", "load_balancer"].contains(&placeholder));
        }
        let board: serde_json::Value = serde_json::from_str(text).unwrap();
        let mut queue = queue();
        queue.push(&snapshot(Totals::default()), SystemTime::UNIX_EPOCH);
        let told: Vec<_> = queue
            .data()
            .into_iter()
            .map(|datum| {
                let dimensions: Vec<_> = datum.dimensions.iter().map(|(name, _)| *name).collect();
                (datum.name, format!("${{namespace}},{}", dimensions.join(",")))
            })
            .collect();
        let mut shown = Vec::new();
        for widget in board["widgets"].as_array().unwrap() {
            let [x, width, _, height] =
                ["x", "width", "y", "height"].map(|key| widget[key].as_u64().unwrap());
            assert!(x + width <= 24 && height > 0, "{widget}");
            let properties = &widget["properties"];
            if widget["type"] == "text" {
                assert!(properties["markdown"].is_string());
                continue;
            }
            assert_eq!(
                (&widget["type"], &properties["region"]),
                (&"metric".into(), &"${region}".into())
            );
            for metric in properties["metrics"].as_array().unwrap() {
                // SEARCH('{namespace,dimensions} LoadBalancer="..." MetricName="..."', 'Sum', 60)
                let search = metric[0]["expression"].as_str().unwrap();
                let schema = search.strip_prefix("SEARCH('{").unwrap();
                let (schema, terms) = schema.split_once("} LoadBalancer=").unwrap();
                let (_, name) = terms.split_once("MetricName=\"").unwrap();
                let (name, _) = name.split_once('"').unwrap();
                assert!(told.contains(&(name, schema.to_owned())), "{search}");
                shown.push(name.to_owned());
            }
        }
        assert!(told.iter().all(|(name, _)| shown.iter().any(|shown| shown == name)), "{shown:?}");
    }

    #[test]
    fn without_a_zone_everything_is_told_by_node_once() {
        let mut queue = queue();
        queue.push(&Snapshot::default(), SystemTime::UNIX_EPOCH);
        let data = queue.data();
        assert_eq!(data.len(), 13, "and there is no lease");
        assert!(data.iter().all(|datum| datum.dimensions[1] == ("Node", "ftp-a".to_owned())));
    }
}

//! What breaks when, and for how long: all of it follows from one seed.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::super::network::Place;
use super::super::s3;
use crate::harness::dns::Failure;

/// From one fault to the next, on average. Several overlap.
pub(super) const INTERVAL: Duration = Duration::from_millis(1700);
/// Nothing breaks for this long at first.
const CALM: Duration = Duration::from_secs(2);
/// An address of the lab that nobody has.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 3, 99));

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL; then it is started again.
    KillGateway(Place),
    /// SIGSTOP; then SIGCONT.
    StopGateway(Place),
    /// A new process takes over.
    HandOver(Place),
    /// No file descriptor is left to it beyond a few.
    FewDescriptors(Place),
    /// The disk of its audit log is full.
    FullDisk(Place),
    /// Its wall clock jumps so many seconds, and then back.
    ClockJump(Place, i32),
    /// SIGKILL; then it is started again.
    KillEndpoint(Place),
    /// SIGSTOP; then SIGCONT.
    StopEndpoint(Place),
    /// Packets to it and from it vanish.
    Cut(Place),
    /// Packets between the two vanish.
    CutBetween(Place, Place),
    /// Packets from the one to the other vanish, those back do not: a half-open link.
    CutOneWay(Place, Place),
    /// The resolver.
    Dns(Failure),
    /// S3, for one gateway or for all.
    S3(Option<Place>, s3::Fault),
    /// CloudWatch answers 503.
    CloudWatch,
}

/// What two faults cannot break at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Process(Place),
    Disk(Place),
    Clock(Place),
    Wire(Place),
    Link(Place, Place),
    Dns,
    S3,
    CloudWatch,
    /// Of the two gateways, and of the two endpoints, one is left in peace.
    Gateways,
    Endpoints,
}

/// A fault with its time, from the beginning of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) fault: Fault,
    pub(super) begins: Duration,
    pub(super) ends: Duration,
}

impl Fault {
    /// Its name in a report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KillGateway(_) => "gateway killed",
            Self::StopGateway(_) => "gateway stopped",
            Self::HandOver(_) => "hand-over",
            Self::FewDescriptors(_) => "descriptors used up",
            Self::FullDisk(_) => "disk full",
            Self::ClockJump(..) => "clock jump",
            Self::KillEndpoint(_) => "endpoint killed",
            Self::StopEndpoint(_) => "endpoint stopped",
            Self::Cut(_) => "host cut",
            Self::CutBetween(..) => "link cut",
            Self::CutOneWay(..) => "link half open",
            Self::Dns(_) => "DNS",
            Self::S3(..) => "S3",
            Self::CloudWatch => "CloudWatch",
        }
    }

    fn parts(self) -> Vec<Part> {
        match self {
            Self::KillGateway(place) | Self::StopGateway(place) => {
                vec![Part::Process(place), Part::Gateways]
            }
            Self::HandOver(place) | Self::FewDescriptors(place) => vec![Part::Process(place)],
            Self::FullDisk(place) => vec![Part::Disk(place)],
            Self::ClockJump(place, _) => vec![Part::Clock(place)],
            Self::KillEndpoint(place) | Self::StopEndpoint(place) => {
                vec![Part::Process(place), Part::Endpoints]
            }
            Self::Cut(place) => match place {
                Place::GatewayA | Place::GatewayC => vec![Part::Wire(place), Part::Gateways],
                Place::EndpointA | Place::EndpointC => vec![Part::Wire(place), Part::Endpoints],
                Place::Aws | Place::Client => vec![Part::Wire(place)],
            },
            Self::CutBetween(one, other) | Self::CutOneWay(one, other) => {
                vec![Part::Link(one, other), Part::Link(other, one)]
            }
            Self::Dns(_) => vec![Part::Dns],
            Self::S3(..) => vec![Part::S3],
            Self::CloudWatch => vec![Part::CloudWatch],
        }
    }

    /// Any one, and for how many milliseconds.
    fn any(random: &mut fastrand::Rng) -> (Self, u64) {
        let gateway = Place::GATEWAYS[random.usize(..2)];
        let endpoint = Place::GATEWAYS[random.usize(..2)].endpoint();
        let links = [
            (gateway, endpoint),
            (gateway, Place::Client),
            (gateway, Place::Aws),
            (gateway, gateway.other()),
        ];
        let (one, other) = links[random.usize(..links.len())];
        match random.u32(..17) {
            0 => (Self::KillGateway(gateway), random.u64(100..2000)),
            1 => (Self::StopGateway(gateway), random.u64(300..6000)),
            2 => (Self::HandOver(gateway), 0),
            3 => (Self::FewDescriptors(gateway), random.u64(500..4000)),
            4 => (Self::FullDisk(gateway), random.u64(500..6000)),
            5 => {
                let jumps = [-86_400, -3600, -5, 5, 3600, 86_400, 400 * 86_400];
                (Self::ClockJump(gateway, jumps[random.usize(..7)]), random.u64(1500..8000))
            }
            6 => (Self::KillEndpoint(endpoint), random.u64(100..2000)),
            7 => (Self::StopEndpoint(endpoint), random.u64(300..6000)),
            8 => (Self::Cut(gateway), random.u64(300..5000)),
            9 => (Self::Cut(endpoint), random.u64(300..5000)),
            10 => {
                let place = if random.bool() { Place::Aws } else { Place::Client };
                (Self::Cut(place), random.u64(300..3000))
            }
            11 | 12 => (Self::CutBetween(one, other), random.u64(300..6000)),
            13 => (Self::CutOneWay(one, other), random.u64(300..6000)),
            14 => (Self::CutOneWay(other, one), random.u64(300..6000)),
            15 => {
                let failures = [
                    Failure::Empty,
                    Failure::NxDomain,
                    Failure::ServFail,
                    Failure::Silent,
                    Failure::Late(Duration::from_millis(random.u64(100..3000))),
                    Failure::Elsewhere(NOBODY),
                ];
                (Self::Dns(failures[random.usize(..6)]), random.u64(500..6000))
            }
            _ if random.u32(..4) == 0 => (Self::CloudWatch, random.u64(500..6000)),
            _ => {
                let failures = [
                    s3::Fault::Cut,
                    s3::Fault::LoseReplies,
                    s3::Fault::Delay(Duration::from_millis(random.u64(100..4000))),
                    s3::Fault::Conflict,
                    s3::Fault::Unavailable,
                ];
                let whose = random.bool().then_some(gateway);
                (Self::S3(whose, failures[random.usize(..5)]), random.u64(500..8000))
            }
        }
    }
}

/// The faults of a run that lasts so long, in order.
pub(super) fn plan(seed: u64, lasts: Duration) -> Vec<Planned> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut plan = Vec::<Planned>::new();
    let mut begins = CALM;
    while begins < lasts {
        let is_free = |fault: Fault| {
            let parts = fault.parts();
            let under_way = plan.iter().rev().take(100).filter(|earlier| begins <= earlier.ends);
            !under_way.flat_map(|earlier| earlier.fault.parts()).any(|part| parts.contains(&part))
        };
        let found =
            std::iter::repeat_with(|| Fault::any(&mut random)).find(|(fault, _)| is_free(*fault));
        if let Some((fault, time)) = found {
            plan.push(Planned { fault, begins, ends: begins + Duration::from_millis(time) });
        }
        begins += INTERVAL.mul_f64(0.5 + random.f64());
    }
    plan
}

#[test]
fn one_seed_is_one_schedule_in_which_nothing_breaks_twice_at_once() {
    let hour = Duration::from_secs(3600);
    let first = plan(7, hour);
    assert_eq!(first, plan(7, hour));
    assert_ne!(first[..50], plan(8, hour)[..50]);
    assert!(first.len() >= 2000, "{}", first.len());
    for (at, fault) in first.iter().enumerate() {
        let overlapping = first[..at].iter().filter(|earlier| earlier.ends >= fault.begins);
        for other in overlapping {
            let parts = other.fault.parts();
            assert!(
                !fault.fault.parts().iter().any(|part| parts.contains(part)),
                "{fault:?} {other:?}"
            );
        }
    }
    let names: std::collections::BTreeSet<_> =
        first.iter().map(|planned| planned.fault.name()).collect();
    assert_eq!(names.len(), 14, "{names:?}");
}

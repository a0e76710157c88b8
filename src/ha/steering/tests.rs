use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::*;

/// What was asked of the double, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Look,
    Move,
}

/// A record that another one can move too.
#[derive(Debug, Clone)]
struct Double {
    state: Arc<Mutex<State>>,
    start: Instant,
}

#[derive(Debug)]
struct State {
    at: &'static str,
    /// What the next calls come to; then all succeed.
    failures: VecDeque<&'static str>,
    calls: Vec<(Call, Duration)>,
    takes: Duration,
}

impl Double {
    async fn call(&self, call: Call) -> Result<(), String> {
        let takes = {
            let mut state = self.state.lock().unwrap();
            state.calls.push((call, self.start.elapsed()));
            state.takes
        };
        sleep(takes).await;
        let failure = self.state.lock().unwrap().failures.pop_front();
        failure.map_or(Ok(()), |why| Err(why.into()))
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// The calls since the last time, in milliseconds since the start.
    fn calls(&self) -> Vec<(Call, u128)> {
        let calls = std::mem::take(&mut self.state.lock().unwrap().calls);
        calls.into_iter().map(|(call, at)| (call, at.as_millis())).collect()
    }
}

impl Pointer for Double {
    async fn look(&mut self) -> Result<Sight, String> {
        self.call(Call::Look).await?;
        let at = self.state.lock().unwrap().at;
        Ok(Sight { here: at == "here", target: at.into() })
    }

    async fn move_here(&mut self) -> Result<String, String> {
        self.call(Call::Move).await?;
        self.set(|state| state.at = "here");
        Ok("here".into())
    }
}

struct Scene {
    double: Double,
    tenancy: watch::Sender<Tenancy>,
    view: watch::Receiver<View>,
    metrics: Metrics,
    _task: AbortOnDropHandle<()>,
}

impl Scene {
    fn start() -> Self {
        let state = State {
            at: "elsewhere",
            failures: VecDeque::new(),
            calls: Vec::new(),
            takes: Duration::ZERO,
        };
        let double = Double { state: Arc::new(Mutex::new(state)), start: Instant::now() };
        let metrics = Metrics::new().unwrap();
        let (tenancy, held) = watch::channel(Tenancy::default());
        let (sender, view) = watch::channel(View::default());
        let helm = Helm { view: sender, metrics: metrics.clone() };
        let task = tokio::spawn(helm.steer(double.clone(), held));
        Self { double, tenancy, view, metrics, _task: AbortOnDropHandle::new(task) }
    }

    fn hold(&self, generation: u64) {
        self.tenancy.send_replace(Tenancy { held: true, generation });
    }

    fn lose(&self, generation: u64) {
        self.tenancy.send_replace(Tenancy { held: false, generation });
    }

    fn view(&self) -> View {
        self.view.borrow().clone()
    }

    fn metric(&self, line: &str) -> bool {
        let text = String::from_utf8(self.metrics.render().unwrap()).unwrap();
        text.lines().any(|other| other == line)
    }
}

async fn pass(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
}

fn here() -> View {
    View { here: Some(true), target: Some("here".into()), trouble: None }
}

#[tokio::test(start_paused = true)]
async fn the_holder_moves_at_once_and_looks_later_and_nobody_else_does_anything() {
    let scene = Scene::start();
    pass(100_000).await;
    assert_eq!(scene.double.calls(), []);
    assert_eq!(scene.view(), View::default());

    scene.hold(1);
    pass(80_000).await;
    let start = 100_000;
    let expected = [
        (Call::Move, start),
        (Call::Look, start + 1_000),
        (Call::Look, start + 2_000),
        (Call::Look, start + 4_000),
        (Call::Look, start + 8_000),
        (Call::Look, start + 16_000),
        (Call::Look, start + 46_000),
        (Call::Look, start + 76_000),
    ];
    assert_eq!(scene.double.calls(), expected);
    assert_eq!(scene.view(), here());
    assert!(scene.metric("ftpgate_steered_here 1"));

    scene.lose(2);
    pass(100_000).await;
    assert_eq!(scene.double.calls(), []);
    assert_eq!(scene.view(), View::default());
    assert!(scene.metric("ftpgate_steered_here 0"));
}

#[tokio::test(start_paused = true)]
async fn a_late_call_of_the_node_before_is_corrected() {
    let scene = Scene::start();
    scene.hold(1);
    pass(1_500).await;
    scene.double.set(|state| state.at = "elsewhere");
    pass(1_000).await;
    let calls = scene.double.calls();
    let expected = [(Call::Move, 0), (Call::Look, 1_000), (Call::Look, 2_000), (Call::Move, 2_000)];
    assert_eq!(calls, expected);
    assert_eq!(scene.view(), here());
    pass(1_000).await;
    assert_eq!(scene.double.calls(), [(Call::Look, 3_000)], "the early looks start anew");
}

#[tokio::test(start_paused = true)]
async fn a_move_that_fails_is_tried_again_for_ever_and_ever_more_slowly() {
    let scene = Scene::start();
    scene.double.set(|state| state.failures.extend(["AccessDenied"; 7]));
    scene.hold(1);
    pass(100).await;
    assert_eq!(scene.view().trouble.as_deref(), Some("AccessDenied"));
    assert_eq!(scene.view().here, None);
    pass(36_000).await;
    let calls = scene.double.calls();
    let moves: Vec<_> = calls.iter().filter(|(call, _)| *call == Call::Move).collect();
    let at: Vec<_> = moves.iter().map(|(_, at)| *at).collect();
    assert_eq!(at, [0, 500, 1_500, 3_500, 7_500, 15_500, 25_500, 35_500]);
    assert_eq!(scene.view(), here());
    assert!(scene.metric("ftpgate_steering_calls_total{operation=\"move\",result=\"failed\"} 7"));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_moves_nothing() {
    let scene = Scene::start();
    scene.hold(1);
    pass(500).await;
    scene.double.set(|state| state.failures.extend(["Throttling"; 2]));
    pass(800).await;
    let troubled = View { trouble: Some("Throttling".into()), ..here() };
    assert_eq!(scene.view(), troubled);
    pass(2_000).await;
    let calls = scene.double.calls();
    let looks = [(Call::Look, 1_000), (Call::Look, 1_500), (Call::Look, 2_500)];
    assert_eq!(calls[1..], looks);
    assert_eq!(scene.view(), here());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_moved_once_the_lease_is_lost() {
    let scene = Scene::start();
    scene.double.set(|state| state.failures.extend(["Throttling"; 3]));
    scene.hold(1);
    pass(100).await;
    scene.lose(2);
    pass(60_000).await;
    assert_eq!(scene.double.calls(), [(Call::Move, 0)]);

    // Lost while a look is under way that will find another target.
    scene.double.set(|state| {
        state.failures.clear();
        state.takes = Duration::from_millis(300);
    });
    scene.hold(3);
    pass(1_400).await;
    scene.double.set(|state| state.at = "elsewhere");
    scene.lose(4);
    pass(60_000).await;
    let calls = scene.double.calls();
    assert_eq!(calls, [(Call::Move, 60_100), (Call::Look, 61_400)]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_lost_and_taken_again_between_two_looks_is_a_new_takeover() {
    let scene = Scene::start();
    scene.hold(1);
    pass(50_000).await;
    scene.double.calls();
    scene.hold(3);
    pass(10).await;
    assert_eq!(scene.double.calls(), [(Call::Move, 50_000)]);
}

#[tokio::test(start_paused = true)]
async fn without_means_clients_are_where_the_lease_is() {
    let (tenancy, held) = watch::channel(Tenancy::default());
    let (sender, view) = watch::channel(View::default());
    let steerer = Steerer::new(&config::Steering::Nothing, Metrics::new().unwrap());
    let _task = AbortOnDropHandle::new(tokio::spawn(steerer.run(held, sender)));
    for (held, here) in [(true, Some(true)), (false, None)] {
        tenancy.send_replace(Tenancy { held, generation: 1 });
        pass(10).await;
        assert_eq!(view.borrow().here, here);
    }
}

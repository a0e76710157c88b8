use crate::{config, observe::metrics::Metrics};
use tokio::sync::watch;
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) here: Option<bool>,
    pub(super) target: Option<String>,
    pub(super) trouble: Option<String>,
}
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tenancy {
    pub(super) held: bool,
    pub(super) generation: u64,
}
pub(super) struct Steerer;
impl Steerer {
    pub(super) fn new(_: &config::Steering, _: Metrics) -> Self {
        Self
    }
    pub(super) async fn run(self, _: watch::Receiver<Tenancy>, _: watch::Sender<View>) {}
}

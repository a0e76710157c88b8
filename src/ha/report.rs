use crate::{config, observe::metrics::Metrics};
pub(super) struct Totals;
pub(super) struct Reporter;
impl Reporter {
    pub(super) fn new(_: &config::CloudWatch, _: &str, _: Metrics) -> Self {
        Self
    }
    pub(super) async fn run(self, _: impl Fn() -> Totals, _: impl Fn() -> Option<String>) {}
}

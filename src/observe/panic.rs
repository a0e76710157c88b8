//! What is done about a panic besides ending its task: it is counted and logged, as the session's whose it
//! is.

use std::panic;

use tracing::error;

use super::log::one_line;
use super::metrics::Metrics;

/// Counts and logs each panic of this process from now on, after what was done about it before: the
/// standard library tells standard error, and shows the stack if RUST_BACKTRACE is set.
pub fn watch(metrics: &Metrics) {
    let (metrics, before) = (metrics.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |panic| {
        before(panic);
        metrics.panicked();
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let why = one_line(panic.payload_as_str().unwrap_or_default());
        error!(at, %why, "panicked: this is a bug of ftpgate");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_counted() {
        let metrics = Metrics::new().unwrap();
        watch(&metrics);
        assert!(panic::catch_unwind(|| panic!("by order\nof this test")).is_err());
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        // Tests that fail meanwhile are counted, too.
        assert!(!text.contains("ftpgate_panics_total 0"), "{text}");
    }
}

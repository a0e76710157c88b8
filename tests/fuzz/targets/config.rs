//! Any text as a configuration: what is wrong with it can be told, and what is taken can be used.
#![no_main]

use std::time::Instant;

use ftpgate::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let config = match Config::parse(text, "ftpgate.toml") {
        Ok(config) => config,
        Err(error) => {
            assert!(!error.faults().is_empty() && !error.brief().is_empty());
            assert!(error.to_string().matches("error: ").count() >= error.faults().len());
            return;
        }
    };
    assert_eq!(Config::parse(text, "ftpgate.toml").ok().as_ref(), Some(&config));
    // What `ftpgate check` and a reload do with it.
    let _ = (format!("{config:?}"), config.own_addresses());
    assert!(!config.listeners.is_empty() && !config.upstream.endpoints.is_empty());
    assert!(!config.passive.ports.is_empty() && *config.passive.ports.start() > 0);
    for endpoint in &config.upstream.endpoints {
        assert!(!endpoint.address.to_string().is_empty());
    }
    assert_eq!(config.taking_up(&config), config);
    assert!(config.differences(&config).is_empty());
    // No time of it is so long that a clock cannot show its end.
    let (timeouts, drain) = (&config.timeouts, &config.drain);
    for time in [
        timeouts.login,
        timeouts.idle,
        timeouts.data_connect,
        timeouts.data_idle,
        timeouts.reply,
        timeouts.tls_handshake,
        drain.deadline,
        drain.idle,
        drain.handover_deadline,
        config.upstream.connect_deadline,
        config.upstream.retry_after,
        config.upstream.lost_after,
    ] {
        assert!(Instant::now().checked_add(time).is_some(), "{time:?}");
    }
});

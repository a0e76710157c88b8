//! `[proxy_protocol]`.

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::config;
use crate::config::values::{duration, networks};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProxyProtocol {
    #[serde(deserialize_with = "networks")]
    trusted: Vec<IpNet>,
    #[serde(deserialize_with = "duration")]
    timeout: Duration,
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        Self { trusted: Vec::new(), timeout: Duration::from_secs(5) }
    }
}

impl ProxyProtocol {
    pub(super) fn into_config(self) -> config::ProxyProtocol {
        config::ProxyProtocol { trusted: self.trusted, timeout: self.timeout }
    }
}

//! `[tls]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::config;
use crate::config::report::Fault;
use crate::config::values::duration;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    certificate: Spanned<PathBuf>,
    key: Spanned<PathBuf>,
    #[serde(default)]
    min_version: Version,
    #[serde(default)]
    data: Demand,
    #[serde(default = "required")]
    resumption: Demand,
    #[serde(default = "minute", deserialize_with = "duration")]
    reload: Duration,
}

#[derive(Debug, Deserialize, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

#[derive(Debug, Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Demand {
    #[default]
    Optional,
    Required,
}

fn required() -> Demand {
    Demand::Required
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

impl Tls {
    /// What is wrong with it as far as the file tells: the certificate itself is looked at where it
    /// is used, and by `ftpgate check`.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let empty = |path: &Spanned<PathBuf>| path.get_ref().as_os_str().is_empty();
        [&self.certificate, &self.key]
            .into_iter()
            .filter(|path| empty(path))
            .map(|path| Fault::at(path.span(), "an empty path", "write the path of a PEM file"))
            .collect()
    }

    pub(super) fn into_config(self) -> config::Tls {
        config::Tls {
            certificate: self.certificate.into_inner(),
            key: self.key.into_inner(),
            min_version: self.min_version.into(),
            require_data: self.data == Demand::Required,
            require_resumption: self.resumption == Demand::Required,
            reload: self.reload,
        }
    }
}

impl From<Version> for config::TlsVersion {
    fn from(version: Version) -> Self {
        match version {
            Version::Tls12 => Self::Tls12,
            Version::Tls13 => Self::Tls13,
        }
    }
}

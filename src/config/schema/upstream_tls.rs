//! `[upstream.tls]`.

use std::path::PathBuf;

use rustls::pki_types::ServerName;
use serde::Deserialize;
use toml::Spanned;

use super::NOWHERE;
use super::tls::Version;
use crate::config;
use crate::config::report::Fault;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct UpstreamTls {
    mode: Mode,
    ca: Option<Spanned<PathBuf>>,
    server_name: Option<Spanned<String>>,
    min_version: Spanned<Version>,
    max_version: Spanned<Version>,
}

#[derive(Debug, Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Explicit,
    Implicit,
    #[default]
    Off,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            ca: None,
            server_name: None,
            min_version: Spanned::new(NOWHERE, Version::Tls12),
            max_version: Spanned::new(NOWHERE, Version::Tls12),
        }
    }
}

impl UpstreamTls {
    /// What is wrong with it as far as the file tells: the authorities are looked at where they
    /// are used, and by `ftpgate check`.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let ca = self.ca.as_ref();
        let name = self.server_name.as_ref();
        if let Some(ca) = ca.filter(|ca| ca.get_ref().as_os_str().is_empty()) {
            faults.push(Fault::at(
                ca.span(),
                "an empty path",
                "write the path of a PEM file, or leave the key out to trust whom the system trusts",
            ));
        }
        if let Some(name) =
            name.filter(|name| ServerName::try_from(name.get_ref().as_str()).is_err())
        {
            faults.push(Fault::at(
                name.span(),
                &format!("`{}` is no name that a certificate can have", name.get_ref()),
                "write a DNS name or an IP address, without a port",
            ));
        }
        let versions = (*self.min_version.get_ref(), *self.max_version.get_ref());
        if versions == (Version::Tls13, Version::Tls12) {
            faults.push(Fault::at(
                self.max_version.span(),
                "upstream.tls.max_version is older than upstream.tls.min_version",
                "write max_version = \"1.3\"; config/ftpgate.toml says what that means for data connections",
            ));
        }
        // Whoever writes one of these wants TLS, and must not go without it unawares.
        let told = [
            ca.map(Spanned::span),
            name.map(Spanned::span),
            Some(self.min_version.span()).filter(|span| !span.is_empty()),
            Some(self.max_version.span()).filter(|span| !span.is_empty()),
        ];
        if self.mode == Mode::Off
            && let Some(span) = told.into_iter().flatten().next()
        {
            faults.push(Fault::at(
                span,
                "this is for TLS with the upstream, which is off",
                "add mode = \"explicit\" to [upstream.tls], or remove this key",
            ));
        }
        faults
    }

    /// `None` if it is off.
    pub(super) fn into_config(self) -> Option<config::UpstreamTls> {
        (self.mode != Mode::Off).then(|| config::UpstreamTls {
            implicit: self.mode == Mode::Implicit,
            ca: self.ca.map(Spanned::into_inner),
            server_name: self.server_name.map(Spanned::into_inner),
            min_version: self.min_version.into_inner().into(),
            max_version: self.max_version.into_inner().into(),
        })
    }
}

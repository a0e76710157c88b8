//! Certificates for servers and clients, issued by an authority of the test's own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;

/// What keystores are opened with.
pub(crate) const KEYSTORE_PASSWORD: &str = "keystore";

/// Someone whom those trust who have its file.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate in PEM.
    pub(crate) file: PathBuf,
    /// The same, for clients that are given the text.
    pub(crate) pem: String,
    _directory: TempDir,
}

/// A certificate and its key, in files.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// The certificate in PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key in PEM (PKCS#8), for root only.
    pub(crate) key: PathBuf,
    /// Both in one file, as pure-ftpd wants them.
    pub(crate) both: PathBuf,
    /// Both in PKCS#12, for Java; opened with [`KEYSTORE_PASSWORD`].
    pub(crate) keystore: PathBuf,
    _directory: TempDir,
}

impl Authority {
    /// One that nobody else knows.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ftpgate test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let directory = TempDir::with_prefix("ftpgate-authority-").unwrap();
        let file = directory.path().join("authority.pem");
        fs::write(&file, &pem).unwrap();
        Self { issuer: Issuer::new(params, key), file, pem, _directory: directory }
    }

    /// A certificate for these DNS names and IP addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Certificate {
        self.sign(CertificateParams::new(strings(names)).unwrap())
    }

    /// The same, but its time is over.
    pub(crate) fn issue_expired(&self, names: &[&str]) -> Certificate {
        let mut params = CertificateParams::new(strings(names)).unwrap();
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Certificate {
        params.distinguished_name.push(DnType::CommonName, "ftpgate test");
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certificate::new(&certificate, &key.serialize_pem())
    }
}

impl Certificate {
    /// The lines of a gateway's `[tls]`.
    pub(crate) fn settings(&self) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        format!("certificate = \"{certificate}\"\nkey = \"{key}\"")
    }

    fn new(certificate: &str, key: &str) -> Self {
        let directory = TempDir::with_prefix("ftpgate-certificate-").unwrap();
        // Servers that have dropped their privileges must still get at the certificate.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let write = |name: &str, content: &str, mode: u32| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        };
        let both = write("both.pem", &format!("{certificate}{key}"), 0o600);
        let keystore = directory.path().join("keystore.p12");
        let openssl = Command::new("openssl")
            .args(["pkcs12", "-export", "-name", "server", "-in"])
            .arg(&both)
            .arg("-out")
            .arg(&keystore)
            .args(["-passout", &format!("pass:{KEYSTORE_PASSWORD}")])
            .output()
            .unwrap();
        assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
        Self {
            certificate: write("certificate.pem", certificate, 0o644),
            key: write("key.pem", key, 0o600),
            both,
            keystore,
            _directory: directory,
        }
    }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.into()).collect()
}

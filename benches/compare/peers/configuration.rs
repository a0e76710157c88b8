//! How each peer is told to do the same: take control connections and all passive ports at its address
//! to the upstream. Where it has limits they are high enough for the crowd; what is not set is as it
//! comes.

use std::path::Path;

use super::{PORT, Setup};
use crate::upstream::PASSIVE_PORTS;

/// Control and data connections of the largest crowd, and some to spare. HAProxy reserves descriptors
/// for all it may have, of 20,000 that many machines let a process have.
const CONNECTIONS: u32 = 6000;

impl Setup<'_> {
    pub(super) fn ftpgate_toml(&self) -> String {
        let Self { address, upstream, .. } = self;
        let directory = self.directory.display();
        let listener = match &self.certificate {
            Some(certificate) => format!("tls = \"optional\"\n[tls]\n{}", certificate.settings()),
            None => String::new(),
        };
        format!(
            "[passive]\nports = \"{}-{}\"\n\
             [limits]\nsessions_per_client = 10000\n\
             [http]\naddress = \"{address}:9121\"\n\
             [admin]\nsocket = \"{directory}/admin.sock\"\nstate = \"{directory}/blocks.json\"\n\
             [[upstream.endpoint]]\naddress = \"{upstream}:{PORT}\"\n\
             [[listener]]\naddress = \"{address}:{PORT}\"\n{listener}\n",
            PASSIVE_PORTS.start(),
            PASSIVE_PORTS.end(),
        )
    }

    /// One section, whose connections go to the port that they have come to.
    pub(super) fn haproxy_cfg(&self, tuned: bool) -> String {
        let Self { address, upstream, .. } = self;
        let (tune, splice) = match tuned {
            true => {
                (" tune.pipesize 1048576\n", " option splice-request\n option splice-response\n")
            }
            false => ("", ""),
        };
        format!(
            "global\n maxconn {CONNECTIONS}\n{tune}\
             defaults\n mode tcp\n{splice} maxconn {CONNECTIONS}\n timeout connect 10s\n timeout client 1h\n \
             timeout server 1h\n\
             listen ftp\n bind {address}:{PORT},{address}:{}-{}\n server upstream {upstream}\n",
            PASSIVE_PORTS.start(),
            PASSIVE_PORTS.end(),
        )
    }

    pub(super) fn nginx_conf(&self, module: &Path, buffer: Option<&str>) -> String {
        let Self { address, upstream, .. } = self;
        let buffer = buffer.map(|size| format!("proxy_buffer_size {size};")).unwrap_or_default();
        // Each worker has both ends of its sessions, and may have most of them.
        format!(
            "load_module {};\ndaemon off;\nuser root;\npid pid;\nerror_log stderr error;\n\
             worker_processes auto;\nevents {{ worker_connections {}; }}\n\
             stream {{\n proxy_timeout 1h;\n {buffer}\n \
             server {{ listen {address}:{PORT}; listen {address}:{}-{}; \
             proxy_pass {upstream}:$server_port; }}\n}}\n",
            module.display(),
            3 * CONNECTIONS,
            PASSIVE_PORTS.start(),
            PASSIVE_PORTS.end(),
        )
    }

    pub(super) fn proftpd_conf(&self) -> String {
        let Self { address, upstream, .. } = self;
        let directory = self.directory.display();
        let tls = match &self.certificate {
            Some(certificate) => format!(
                "TLSEngine on\nTLSProtocol TLSv1.2 TLSv1.3\nTLSECCertificateFile {}\nTLSECCertificateKeyFile {}\n\
                 ProxyTLSEngine off\n",
                certificate.certificate.display(),
                certificate.key.display(),
            ),
            None => String::new(),
        };
        format!(
            "ModulePath {directory}\nLoadModule mod_tls.c\nLoadModule mod_proxy.c\n\
             ServerType standalone\nDefaultAddress {address}\nPort {PORT}\nSocketBindTight on\nUseIPv6 off\n\
             User root\nGroup root\nRootLogin on\nMaxInstances none\nUseReverseDNS off\nDelayEngine off\n\
             WtmpLog off\nTransferLog none\nSystemLog none\nPassivePorts {} {}\n\
             PidFile {directory}/pid\nScoreboardFile {directory}/scoreboard\n\
             ProxyEngine on\nProxyRole reverse\nProxyTables {directory}/tables\n\
             ProxyReverseServers ftp://{upstream}:{PORT}\n{tls}",
            PASSIVE_PORTS.start(),
            PASSIVE_PORTS.end(),
        )
    }
}

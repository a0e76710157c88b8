//! Errors as services tell them, in XML or JSON.

use aws_runtime::retries::classifiers::{THROTTLING_ERRORS, TRANSIENT_ERRORS};
use aws_smithy_xml::decode::{Document, try_data};
use serde::Deserialize;

use super::endpoint::Service;
use super::{AwsError, plain};

/// Route 53's one error whose name is not in a `Code` but around it all.
const UNFIT: &str = "InvalidChangeBatch";
/// The statuses of what may pass, whatever its code.
const PASSING: [u16; 4] = [500, 502, 503, 504];

/// The service says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    service: &'static str,
    status: u16,
    /// AWS's own code, or the status of HTTP.
    pub(super) code: String,
    /// For people; it may be empty.
    pub(super) message: String,
}

/// An error of the JSON protocols.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(rename = "__type")]
    code: String,
    #[serde(default, rename = "message", alias = "Message")]
    message: String,
}

impl Refusal {
    /// Reads an answer of that status. Each protocol wraps its errors in another way, but all have
    /// a code and a message somewhere.
    pub(super) fn of(service: Service, status: u16, answer: &str) -> Self {
        if let Ok(told) = serde_json::from_str::<Told>(answer) {
            // A namespace may stand before it.
            let code = told.code.rsplit('#').next().map(plain).unwrap_or_default();
            return Self { service: service.name, status, code, message: told.message };
        }
        let (mut code, mut message) = (None, None);
        let mut document = Document::new(answer);
        while let Some(element) = document.next_start_element() {
            let found = match element.local() {
                "Code" => &mut code,
                "Message" => &mut message,
                UNFIT => {
                    code = Some(UNFIT.to_owned());
                    continue;
                }
                _ => continue,
            };
            let text = try_data(&mut document.scoped_to(element)).unwrap_or_default();
            found.get_or_insert_with(|| text.trim().to_owned());
        }
        let code = code.map(|code| plain(&code)).filter(|code| !code.is_empty());
        let code = code.unwrap_or_else(|| format!("HTTP {status}"));
        Self { service: service.name, status, code, message: message.unwrap_or_default() }
    }

    /// What is left of it for all the others.
    pub(super) fn into_error(self) -> AwsError {
        AwsError::Refused { service: self.service, code: self.code, status: self.status }
    }

    /// Whether another attempt may get a better answer, by the SDKs' rules.
    pub(super) fn may_pass(&self) -> bool {
        let code = &*self.code;
        PASSING.contains(&self.status)
            || THROTTLING_ERRORS.contains(&code)
            || TRANSIENT_ERRORS.contains(&code)
    }
}

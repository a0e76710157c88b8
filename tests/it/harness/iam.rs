//! IAM before the stand-ins for AWS: whoever asks has the permissions of documents in `config/iam`
//! and no others, and it is remembered which of them were of use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::address;
use super::aws::REGION;

/// Whose everything is.
pub(crate) const ACCOUNT: &str = "123456789012";

/// AWS, as somebody with these permissions finds it.
pub(crate) struct Guard {
    pub(crate) address: SocketAddr,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate {
    statements: Vec<Statement>,
    used: Mutex<BTreeSet<String>>,
    denied: Mutex<BTreeSet<String>>,
}

/// What one action is allowed for.
#[derive(Debug)]
struct Statement {
    action: String,
    resource: String,
    conditions: Value,
}

/// What a request wants.
#[derive(Debug)]
struct Wish {
    action: String,
    resource: String,
    /// The condition keys.
    context: BTreeMap<String, Vec<String>>,
}

/// A request as it came.
#[derive(Debug)]
struct Request {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Guard {
    /// Permissions by the names of documents, whose `${placeholders}` have these values. `behind`
    /// tells where a service really is, by its name in signatures.
    pub(crate) fn start(
        documents: &[&str],
        values: &[(&str, &str)],
        behind: impl Fn(&str) -> SocketAddr + Send + Sync + 'static,
    ) -> Self {
        let statements = documents.iter().flat_map(|name| statements(name, values)).collect();
        let gate = Arc::new(Gate { statements, used: Mutex::default(), denied: Mutex::default() });
        let listener = TcpListener::bind((address::unused(), 5001)).unwrap();
        let address = listener.local_addr().unwrap();
        let (at, behind) = (Arc::clone(&gate), Arc::new(behind));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (gate, behind) = (Arc::clone(&at), Arc::clone(&behind));
                thread::spawn(move || gate.serve(stream, &*behind));
            }
        });
        Self { address, gate }
    }

    /// Actions that were allowed and asked for.
    pub(crate) fn used(&self) -> BTreeSet<String> {
        self.gate.used.lock().unwrap().clone()
    }

    /// Those that are allowed.
    pub(crate) fn allowed(&self) -> BTreeSet<String> {
        self.gate.statements.iter().map(|statement| statement.action.clone()).collect()
    }

    /// Requests that no permission was for: the action and the resource.
    pub(crate) fn denied(&self) -> BTreeSet<String> {
        self.gate.denied.lock().unwrap().clone()
    }
}

impl Gate {
    fn serve(&self, mut stream: TcpStream, behind: &dyn Fn(&str) -> SocketAddr) -> Option<()> {
        let request = Request::read(&stream)?;
        let service = request.service();
        let wish = request.wish(&service);
        let mut answer = match self.allows(&wish) {
            true => request.pass_on(behind(&service)),
            false => denial(&service),
        };
        // Amazon S3, GetObject: who may not list the bucket is denied what is not there. The prefix
        // of a listing is no part of such a request.
        if wish.action == "s3:GetObject" && answer.starts_with(b"HTTP/1.1 404") {
            let (bucket, _) = wish.resource.split_once('/').unwrap();
            let list = Wish {
                action: "s3:ListBucket".into(),
                resource: bucket.into(),
                context: BTreeMap::new(),
            };
            // That is no refusal to be reported: it depends on what comes next.
            if self.matching(&list).is_some() {
                self.used.lock().unwrap().insert(list.action);
            } else {
                answer = denial(&service);
            }
        }
        stream.write_all(&answer).ok()
    }

    fn matching(&self, wish: &Wish) -> Option<&Statement> {
        self.statements.iter().find(|statement| {
            statement.action == wish.action
                && is_like(&statement.resource, &wish.resource)
                && hold(&statement.conditions, &wish.context)
        })
    }

    fn allows(&self, wish: &Wish) -> bool {
        let is_allowed = self.matching(wish).is_some();
        if is_allowed {
            self.used.lock().unwrap().insert(wish.action.clone());
        } else {
            let told = format!("{} {} {:?}", wish.action, wish.resource, wish.context);
            self.denied.lock().unwrap().insert(told);
        }
        is_allowed
    }
}

// === documents ===

fn statements(document: &str, values: &[(&str, &str)]) -> Vec<Statement> {
    let path = format!("{}/config/iam/{document}.json", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let text = [("region", REGION), ("account", ACCOUNT)]
        .iter()
        .chain(values)
        .fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value));
    assert!(!text.contains("${"), "{document}: {text}");
    let policy: Value = serde_json::from_str(&text).unwrap();
    let one_or_more = |value: &Value| match value {
        Value::Array(list) => list.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    };
    let mut found = Vec::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        for action in one_or_more(&statement["Action"]) {
            assert!(!action.contains(['*', '?']), "{document}: {action}");
            for resource in one_or_more(&statement["Resource"]) {
                let (action, conditions) = (action.clone(), statement["Condition"].clone());
                found.push(Statement { action, resource, conditions });
            }
        }
    }
    found
}

/// `*` stands for anything and `?` for one character.
fn is_like(pattern: &str, text: &str) -> bool {
    match (pattern.as_bytes(), text.as_bytes()) {
        ([], []) => true,
        ([b'*', ..], _) => {
            is_like(&pattern[1..], text) || !text.is_empty() && is_like(pattern, &text[1..])
        }
        ([b'?', ..], [_, ..]) => is_like(&pattern[1..], &text[1..]),
        ([a, ..], [b, ..]) => a == b && is_like(&pattern[1..], &text[1..]),
        _ => false,
    }
}

fn hold(conditions: &Value, context: &BTreeMap<String, Vec<String>>) -> bool {
    let Some(operators) = conditions.as_object() else { return true };
    operators.iter().all(|(operator, keys)| {
        keys.as_object().unwrap().iter().all(|(key, allowed)| {
            let allowed: Vec<&str> = match allowed {
                Value::Array(list) => list.iter().map(|one| one.as_str().unwrap()).collect(),
                one => vec![one.as_str().unwrap()],
            };
            let found = context.get(key).map_or(&[][..], Vec::as_slice);
            let matches = |value: &String| match &**operator {
                "StringEquals" | "ForAllValues:StringEquals" => allowed.contains(&value.as_str()),
                "StringLike" => allowed.iter().any(|pattern| is_like(pattern, value)),
                _ => panic!("nobody knows {operator}"),
            };
            let is_for_all = operator.starts_with("ForAllValues:");
            (is_for_all || !found.is_empty()) && found.iter().all(matches)
        })
    })
}

// === requests ===

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let request = Self { line: line.trim_end().into(), headers, body: Vec::new() };
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Self { body, ..request })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Which one is meant, by the signature.
    fn service(&self) -> String {
        let authorization = self.header("authorization").expect("a signature");
        authorization.split('/').nth(3).unwrap().to_owned()
    }

    /// What it asks for, by the service's protocol.
    fn wish(&self, service: &str) -> Wish {
        let (method, rest) = self.line.split_once(' ').unwrap();
        let (target, _) = rest.rsplit_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = String::from_utf8_lossy(&self.body).into_owned();
        let mut context = BTreeMap::new();
        let (action, resource) = match service {
            "s3" => {
                let path = decoded(path);
                let path = &path[1..];
                let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
                if key.is_empty() {
                    assert_eq!(method, "GET");
                    context.insert("s3:prefix".into(), vec![parameter(query, "prefix")]);
                    ("ListBucket".into(), format!("arn:aws:s3:::{bucket}"))
                } else {
                    let verb = match method {
                        "GET" | "HEAD" => "GetObject",
                        "PUT" => "PutObject",
                        "DELETE" => "DeleteObject",
                        _ => method,
                    };
                    (verb.into(), format!("arn:aws:s3:::{bucket}/{key}"))
                }
            }
            "route53" => {
                let zone = path.split('/').nth(3).unwrap();
                let verb = if method == "POST" { "Change" } else { "List" };
                for (key, tag) in [
                    ("NormalizedRecordNames", "Name"),
                    ("RecordTypes", "Type"),
                    ("Actions", "Action"),
                ] {
                    let start = format!("<{tag}>");
                    let values = body.split(&start).skip(1);
                    let values = values.map(|rest| rest.split('<').next().unwrap().to_owned());
                    let key = format!("route53:ChangeResourceRecordSets{key}");
                    context.insert(key, values.collect());
                }
                (
                    format!("{verb}ResourceRecordSets"),
                    format!("arn:aws:route53:::hostedzone/{zone}"),
                )
            }
            "ec2" => {
                let action = parameter(&body, "Action");
                let table = parameter(&body, "RouteTableId");
                let resource = match table.is_empty() {
                    true => "*".into(),
                    false => format!("arn:aws:ec2:{REGION}:{ACCOUNT}:route-table/{table}"),
                };
                (action, resource)
            }
            "monitoring" => {
                context.insert("cloudwatch:namespace".into(), vec![parameter(&body, "Namespace")]);
                (parameter(&body, "Action"), "*".into())
            }
            "secretsmanager" | "transfer" => {
                let target = self.header("x-amz-target").unwrap();
                let (_, action) = target.rsplit_once('.').unwrap();
                let body: Value = serde_json::from_str(&body).unwrap();
                let arn = |kind: &str, name: &str| {
                    format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{kind}{name}")
                };
                let resource = match service {
                    // As Secrets Manager names them.
                    "secretsmanager" => {
                        arn("secret:", &format!("{}-a1B2c3", body["SecretId"].as_str().unwrap()))
                    }
                    _ => arn("server/", body["ServerId"].as_str().unwrap()),
                };
                (action.to_owned(), resource)
            }
            _ => panic!("nobody knows {service}"),
        };
        let service = if service == "monitoring" { "cloudwatch" } else { service };
        Wish { action: format!("{service}:{action}"), resource, context }
    }

    /// The answer of whoever is there.
    fn pass_on(&self, to: SocketAddr) -> Vec<u8> {
        let mut head = format!("{}\r\n", self.line);
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "connection") {
            head += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).unwrap();
        stream.write_all(&self.body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }
}

/// One parameter of a form or a query; nothing if it is not there.
fn parameter(form: &str, name: &str) -> String {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(found, _)| *found == name)
        .map(|(_, value)| decoded(value))
        .next()
        .unwrap_or_default()
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

/// What IAM lets a service answer.
fn denial(service: &str) -> Vec<u8> {
    let body = match service {
        "secretsmanager" | "transfer" => r#"{"__type": "AccessDeniedException", "Message": "no"}"#,
        "s3" => "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
        _ => {
            "<Response><Errors><Error><Code>AccessDenied</Code><Message>no</Message></Error></Errors></Response>"
        }
    };
    let length = body.len();
    format!("HTTP/1.1 403 -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

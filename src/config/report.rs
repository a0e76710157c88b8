//! How faults in the configuration are told: file, line, key, and what to do.

use std::fmt;
use std::io;
use std::ops::Range;

/// Why a configuration cannot be used; shown whole to the operator.
#[derive(Debug)]
pub struct ConfigError {
    name: String,
    text: String,
    faults: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a byte range of the text, if it has a place.
    span: Option<Range<usize>>,
    message: String,
    hint: Option<String>,
}

// === impl ConfigError ===

impl ConfigError {
    pub(super) fn new(name: &str, text: &str, faults: Vec<Fault>) -> Self {
        Self { name: name.into(), text: text.into(), faults }
    }

    pub(super) fn unreadable(name: &str, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => {
                "name the file with --config; config/ftpgate.toml is a commented example"
            }
            io::ErrorKind::PermissionDenied => "let the user that runs ftpgate read it",
            _ => "it must be a readable UTF-8 text file",
        };
        Self::new(name, "", vec![Fault::whole(&format!("cannot be read: {error}"), hint)])
    }

    /// The faults, in the order of the file.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The first fault in one line, for who has no file yet.
    pub fn brief(&self) -> String {
        self.faults.first().map_or_else(String::new, |fault| match &fault.hint {
            Some(hint) => format!("{}: {hint}", fault.message),
            None => fault.message.clone(),
        })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            fault.show(f, &self.name, &self.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

// === impl Fault ===

impl Fault {
    /// A fault of the value at `span`; a value that is not in the file has an empty one.
    pub(super) fn at(span: Range<usize>, message: &str, hint: &str) -> Self {
        Self {
            span: (!span.is_empty()).then_some(span),
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// A fault of the file as a whole.
    pub(super) fn whole(message: &str, hint: &str) -> Self {
        Self { span: None, message: message.into(), hint: Some(hint.into()) }
    }

    /// What the TOML reader says. A second line in the message is our own hint.
    pub(super) fn from_toml(error: &toml::de::Error) -> Self {
        let (message, hint) = match error.message().split_once('\n') {
            Some((message, hint)) => (message, Some(hint.to_owned())),
            None => (error.message(), hint_for(error.message())),
        };
        // What misses a bracket has an empty place, what misses in the whole file has none.
        Self { span: error.span().filter(|span| *span != (0..0)), message: message.into(), hint }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        match &self.span {
            None => writeln!(f, " --> {name}")?,
            Some(span) => {
                let before = text.get(..span.start).unwrap_or(text);
                let line = before.matches('\n').count() + 1;
                let start = before.rfind('\n').map_or(0, |at| at + 1);
                let shown =
                    text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
                let indent = before.get(start..).unwrap_or_default().chars().count();
                let width = text
                    .get(span.clone())
                    .and_then(|marked| marked.lines().next())
                    .map_or(1, |marked| marked.chars().count());
                let margin = line.to_string().len();
                writeln!(f, "{:margin$}--> {name}:{line}{}", "", key(text, span.start))?;
                writeln!(f, "{:margin$} |", "")?;
                writeln!(f, "{line} | {shown}")?;
                writeln!(f, "{:margin$} | {:indent$}{}", "", "", "^".repeat(width.max(1)))?;
            }
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "hint: {hint}")?;
        }
        Ok(())
    }
}

/// `, key timeouts.idle` for a place in the text, or nothing where no key stands.
fn key(text: &str, at: usize) -> String {
    let start = text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let Some((key, _)) = line.split_once('=') else { return String::new() };
    let table = text.get(..start).unwrap_or_default().lines().rev().find_map(|line| {
        let line = line.split('#').next()?.trim();
        line.strip_prefix('[').map(|table| table.trim_matches(['[', ']', ' ']))
    });
    match table {
        Some(table) => format!(", key {table}.{}", key.trim()),
        None => format!(", key {}", key.trim()),
    }
}

/// A remedy for what serde and the TOML reader complain about themselves.
fn hint_for(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        let unknown = quoted.next()?;
        let expected: Vec<&str> = quoted.collect();
        let nearest = expected.iter().max_by(|a, b| {
            let likeness = |name: &str| strsim::jaro_winkler(unknown, name);
            likeness(a).total_cmp(&likeness(b))
        })?;
        return Some(match strsim::jaro_winkler(unknown, nearest) {
            0.8.. => format!("did you mean `{nearest}`?"),
            _ => format!("remove it; this table knows: {}", expected.join(", ")),
        });
    }
    if message.starts_with("missing field") {
        return Some(match quoted.next()? {
            "upstream" | "endpoint" => {
                "add an [[upstream.endpoint]] with the address of the FTP server".into()
            }
            field => format!("add `{field} = …`; config/ftpgate.toml shows how"),
        });
    }
    if message.starts_with("unknown variant") {
        let allowed: Vec<&str> = quoted.skip(1).collect();
        return Some(format!("write one of: {}", allowed.join(", ")));
    }
    if message.starts_with("invalid type") || message.starts_with("invalid value") {
        return Some("config/ftpgate.toml shows what this key takes".into());
    }
    Some("config/ftpgate.toml is a file that loads; compare with it".into())
}

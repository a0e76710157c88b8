//! `[access]`.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::NOWHERE;
use crate::config::report::Fault;
use crate::config::values::{
    address, duration, duration_or_zero, endpoint_address, networks, rate,
};
use crate::config::{self, EndpointAddress, is_message};
use crate::ftp::dialogue::Commands;

/// The longest name of a rule.
const NAME: usize = 32;
/// The longest verb that is read.
const VERB: usize = 8;

#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Access {
    default: Policy,
    rule: Vec<Rule>,
    bans: Option<Bans>,
}

#[derive(Debug, Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    #[default]
    Allow,
    Deny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: Spanned<String>,
    clients: Option<Spanned<Networks>>,
    users: Option<Spanned<Vec<String>>>,
    listeners: Option<Spanned<Vec<ListenerAddress>>>,
    #[serde(default)]
    action: Policy,
    message: Option<Spanned<String>>,
    commands: Option<Spanned<Vec<String>>>,
    deny_commands: Option<Spanned<Vec<String>>>,
    endpoints: Option<Spanned<Vec<Endpoint>>>,
    sessions: Option<Spanned<usize>>,
    transfers: Option<Spanned<usize>>,
    upload_rate: Option<Spanned<Rate>>,
    download_rate: Option<Spanned<Rate>>,
}

#[derive(Debug, Deserialize)]
struct Networks(#[serde(deserialize_with = "networks")] Vec<IpNet>);

#[derive(Debug, Deserialize)]
struct ListenerAddress(#[serde(deserialize_with = "address")] Spanned<SocketAddr>);

#[derive(Debug, Deserialize)]
struct Endpoint(#[serde(deserialize_with = "endpoint_address")] Spanned<EndpointAddress>);

#[derive(Debug, Deserialize, Clone, Copy)]
struct Rate(#[serde(deserialize_with = "rate")] u64);

#[derive(Debug, Deserialize)]
struct Delay(#[serde(deserialize_with = "duration_or_zero")] Duration);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Bans {
    failures: Spanned<u32>,
    #[serde(deserialize_with = "duration")]
    window: Duration,
    #[serde(deserialize_with = "duration")]
    duration: Duration,
    delay: Spanned<Delay>,
    #[serde(deserialize_with = "networks")]
    never: Vec<IpNet>,
}

impl Default for Bans {
    fn default() -> Self {
        Self {
            failures: Spanned::new(NOWHERE, 10),
            window: Duration::from_secs(600),
            duration: Duration::from_secs(900),
            delay: Spanned::new(NOWHERE, Delay(Duration::from_secs(1))),
            never: Vec::new(),
        }
    }
}

/// What stands elsewhere in the file, and rules name.
pub(super) struct Others<'a> {
    pub(super) listeners: &'a [SocketAddr],
    pub(super) endpoints: &'a [EndpointAddress],
    /// Sessions can be taken to another endpoint.
    pub(super) resume: bool,
}

// === impl Access ===

impl Access {
    pub(super) fn faults(&self, others: &Others<'_>) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut names = HashSet::new();
        let mut for_all: Option<&str> = None;
        let mut by_user = false;
        for rule in &self.rule {
            let (name, span) = (rule.name.get_ref().as_str(), rule.name.span());
            if !names.insert(name) {
                faults.push(Fault::at(
                    span.clone(),
                    &format!("there are two rules `{name}`"),
                    "give each a name of its own: logs and metrics go by it",
                ));
            }
            if let Some(before) = for_all {
                faults.push(Fault::at(
                    span,
                    &format!(
                        "this rule can never count: rule `{before}` before it is for everybody"
                    ),
                    "the first rule that matches counts: move the one for everybody to the end",
                ));
            }
            // Behind a rule with users nothing is known before USER.
            by_user |= rule.users.is_some();
            faults.extend(rule.faults(others, by_user));
            if rule.clients.is_none() && rule.users.is_none() && rule.listeners.is_none() {
                for_all.get_or_insert(name);
            }
        }
        if let Some(bans) = &self.bans
            && *bans.failures.get_ref() == 0
        {
            faults.push(Fault::at(
                bans.failures.span(),
                "access.bans.failures is 0, which would ban everybody",
                "write how many logins may fail, or leave [access.bans] out for no bans",
            ));
        }
        if let Some(bans) = &self.bans
            && bans.delay.get_ref().0 > config::LONGEST_DELAY
        {
            faults.push(Fault::at(
                bans.delay.span(),
                "access.bans.delay is longer than 10s, and clients do not wait so long",
                "write at most \"10s\"",
            ));
        }
        faults
    }

    pub(super) fn into_config(self) -> config::Access {
        config::Access {
            allows_others: self.default == Policy::Allow,
            rules: self.rule.into_iter().map(Rule::into_config).collect(),
            bans: self.bans.map(|bans| config::Bans {
                failures: bans.failures.into_inner(),
                window: bans.window,
                duration: bans.duration,
                delay: bans.delay.into_inner().0,
                never: bans.never,
            }),
        }
    }
}

// === impl Rule ===

impl Rule {
    fn faults(&self, others: &Others<'_>, by_user: bool) -> Vec<Fault> {
        let mut faults = Vec::new();
        let name = self.name.get_ref();
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.is_empty() || name.len() > NAME || !name.bytes().all(is_word) {
            faults.push(Fault::at(
                self.name.span(),
                "this is no name for a rule",
                "write a word of letters, digits, - and _, at most 32 of them",
            ));
        }
        faults.extend(self.empty_lists());
        for ListenerAddress(listener) in self.listeners.iter().flat_map(|list| list.get_ref()) {
            if !others.listeners.contains(listener.get_ref()) {
                faults.push(Fault::at(
                    listener.span(),
                    &format!("there is no listener {}", listener.get_ref()),
                    "write an address as it stands in a [[listener]]",
                ));
            }
        }
        for Endpoint(endpoint) in self.endpoints.iter().flat_map(|list| list.get_ref()) {
            if !others.endpoints.contains(endpoint.get_ref()) {
                faults.push(Fault::at(
                    endpoint.span(),
                    &format!("there is no endpoint {}", endpoint.get_ref()),
                    "write an address as it stands in an [[upstream.endpoint]]",
                ));
            }
        }
        if let Some(endpoints) = &self.endpoints
            && by_user
            && !others.resume
        {
            faults.push(Fault::at(
                endpoints.span(),
                "endpoints that are known at USER only need upstream.resume, by which sessions are taken there",
                "remove resume = false from [upstream], or name clients and no users in this rule and those before it",
            ));
        }
        faults.extend(self.command_faults());
        if let Some(message) = self.message.as_ref().filter(|it| !is_message(it.get_ref())) {
            faults.push(Fault::at(
                message.span(),
                "clients cannot be told this message",
                "write one line of at most 200 bytes, without control characters",
            ));
        }
        for limit in [&self.sessions, &self.transfers].into_iter().flatten() {
            if *limit.get_ref() == 0 {
                faults.push(Fault::at(
                    limit.span(),
                    "a limit of 0 would let nobody in",
                    "write how many there may be, or action = \"deny\" for a rule that lets nobody in",
                ));
            }
        }
        faults.extend(self.idle_keys());
        faults
    }

    /// Lists in which nothing is: nobody knows whether that means all or none.
    fn empty_lists(&self) -> Vec<Fault> {
        let empty = |span: Option<Range<usize>>, what: &str| {
            span.map(|span| {
                Fault::at(
                    span,
                    "an empty list",
                    &format!("name some, or leave the key out for {what}"),
                )
            })
        };
        fn span<T>(list: &Option<Spanned<Vec<T>>>) -> Option<Range<usize>> {
            list.as_ref().filter(|list| list.get_ref().is_empty()).map(Spanned::span)
        }
        let clients = self.clients.as_ref().filter(|list| list.get_ref().0.is_empty());
        [
            empty(clients.map(Spanned::span), "all clients"),
            empty(span(&self.users), "all users"),
            empty(span(&self.listeners), "all listeners"),
            empty(span(&self.endpoints), "all endpoints"),
            empty(span(&self.commands), "all commands"),
            empty(span(&self.deny_commands), "no command"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn command_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let (Some(_), Some(denied)) = (&self.commands, &self.deny_commands) {
            faults.push(Fault::at(
                denied.span(),
                "this rule has both commands and deny_commands",
                "commands are all that it permits, deny_commands are those that it does not: keep one",
            ));
        }
        for list in [&self.commands, &self.deny_commands].into_iter().flatten() {
            for verb in list.get_ref() {
                let is_letter = |byte: u8| byte.is_ascii_alphanumeric();
                if verb.is_empty() || verb.len() > VERB || !verb.bytes().all(is_letter) {
                    faults.push(Fault::at(
                        list.span(),
                        &format!("`{verb}` is no FTP command"),
                        "write verbs alone, such as [\"DELE\", \"RMD\", \"SITE\"]",
                    ));
                }
            }
        }
        for verb in self.deny_commands.iter().flat_map(|list| list.get_ref()) {
            if let Some(list) = &self.deny_commands
                && Commands::is_always_permitted(&verb.to_ascii_uppercase())
            {
                faults.push(Fault::at(
                    list.span(),
                    &format!("{verb} cannot be denied: no session would be one without it"),
                    "remove it; action = \"deny\" keeps clients and users out",
                ));
            }
        }
        faults
    }

    /// Keys that say nothing beside the action.
    fn idle_keys(&self) -> Option<Fault> {
        if self.action == Policy::Allow {
            let message = self.message.as_ref()?;
            return Some(Fault::at(
                message.span(),
                "only who is denied is told a message",
                "write action = \"deny\", or remove the message",
            ));
        }
        let limits = [
            self.commands.as_ref().map(Spanned::span),
            self.deny_commands.as_ref().map(Spanned::span),
            self.endpoints.as_ref().map(Spanned::span),
            self.sessions.as_ref().map(Spanned::span),
            self.transfers.as_ref().map(Spanned::span),
            self.upload_rate.as_ref().map(Spanned::span),
            self.download_rate.as_ref().map(Spanned::span),
        ];
        let span = limits.into_iter().flatten().next()?;
        Some(Fault::at(
            span,
            "a rule that lets nobody in has nothing to limit",
            "remove this key, or action = \"deny\"",
        ))
    }

    fn into_config(self) -> config::Rule {
        let upper = |list: Spanned<Vec<String>>| {
            list.into_inner().iter().map(|verb| verb.to_ascii_uppercase()).collect()
        };
        config::Rule {
            name: self.name.into_inner(),
            clients: self.clients.map(|list| list.into_inner().0).unwrap_or_default(),
            users: self.users.map(Spanned::into_inner).unwrap_or_default(),
            listeners: self
                .listeners
                .into_iter()
                .flat_map(Spanned::into_inner)
                .map(|ListenerAddress(listener)| listener.into_inner())
                .collect(),
            allows: self.action == Policy::Allow,
            message: self.message.map(Spanned::into_inner),
            commands: match (self.commands, self.deny_commands) {
                (Some(list), _) => Commands::Only(upper(list)),
                (None, Some(list)) => Commands::Without(upper(list)),
                (None, None) => Commands::All,
            },
            endpoints: self
                .endpoints
                .into_iter()
                .flat_map(Spanned::into_inner)
                .map(|Endpoint(endpoint)| endpoint.into_inner())
                .collect(),
            sessions: self.sessions.map(Spanned::into_inner),
            transfers: self.transfers.map(Spanned::into_inner),
            upload_rate: self.upload_rate.map(|rate| rate.into_inner().0),
            download_rate: self.download_rate.map(|rate| rate.into_inner().0),
        }
    }
}

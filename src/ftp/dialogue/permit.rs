//! What a session may do: what its rule permits, which the driver judges, as it knows the rules.
//!
//! It is judged at each USER, before the upstream hears of it. A user who is to be served elsewhere
//! is taken to another endpoint there and then, by the way that a lost connection is made good.
//! From USER on until its login is answered both hold, what was permitted before and what will be:
//! a login that the upstream refuses leaves the old user logged in with some servers, and a new
//! name must not widen what that one may do.

use std::sync::Arc;

use super::{Action, Dialogue, Pending, SessionEnd};
use crate::ftp::command::{Command, Direction, Verb};
use crate::ftp::reply::Reply;

/// What a rule permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// The driver's number of the rule.
    pub rule: usize,
    /// Its name.
    pub name: String,
    /// The commands that it permits.
    pub commands: Commands,
    /// It limits transfers: each must be asked for by [`Action::AskTransfer`].
    pub limits_transfers: bool,
}

/// Which commands a rule permits. What belongs to every session always is: to log in, to begin TLS,
/// to abort and to leave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Commands {
    /// Every one.
    #[default]
    All,
    /// These, and those that do nothing to a file by themselves, such as PASV and TYPE.
    Only(Vec<String>),
    /// All but these.
    Without(Vec<String>),
}

/// What the driver says of a USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is refused by 530 with this text.
    Denied(String),
    /// It may log in, but at another endpoint than this.
    Elsewhere(Option<Arc<Permit>>),
    /// It may log in, under this rule if there is one.
    Permitted(Option<Arc<Permit>>),
}

/// What holds now.
#[derive(Debug)]
pub(super) struct Permits {
    /// Of who is logged in, or of the client before that.
    current: Option<Arc<Permit>>,
    /// Of the user whose login is not answered yet.
    asked: Option<Option<Arc<Permit>>>,
    /// What was asked before the latest USER, and for whom: if the upstream refuses that one it still
    /// waits for the password of the one before.
    before: Option<Before>,
    /// It is not clear which of the two is logged in, and will not be before the next USER.
    unclear: bool,
    /// The session is on its way to an endpoint where its user is served.
    pub(super) moving: bool,
    /// How often it has been.
    pub(super) moves: u8,
}

#[derive(Debug)]
struct Before {
    asked: Option<Option<Arc<Permit>>>,
    user: Vec<u8>,
}

// === impl Commands ===

impl Commands {
    /// Whether a verb is one that no rule can deny.
    pub fn is_always_permitted(verb: &str) -> bool {
        ["USER", "PASS", "ACCT", "AUTH", "PBSZ", "PROT", "ABOR", "NOOP", "QUIT"].contains(&verb)
    }

    /// Whether a command is permitted.
    pub fn permit(&self, command: &Command) -> bool {
        // What is no FTP at all has its own answer.
        if matches!(command.verb(), Verb::Http | Verb::Proxy) {
            return true;
        }
        let word = command.word().to_ascii_uppercase();
        let word = std::str::from_utf8(&word).map_or("", common_name);
        let names = |verbs: &[String]| verbs.iter().any(|verb| common_name(verb) == word);
        Self::is_always_permitted(word)
            || match self {
                Self::All => true,
                Self::Only(verbs) => touches_no_file(word) || names(verbs),
                Self::Without(verbs) => !names(verbs),
            }
    }
}

/// RFC 775 has an experimental name for some commands, and servers know both; some know one for every
/// command.
fn common_name(verb: &str) -> &str {
    match verb.strip_prefix('X') {
        Some("CUP") => "CDUP",
        Some(rest) => rest,
        None => verb,
    }
}

/// What clients say around the commands that count; a rule that names STOR alone is of use so.
fn touches_no_file(verb: &str) -> bool {
    [
        "ALLO", "CCC", "CLNT", "EPRT", "EPSV", "FEAT", "HELP", "HOST", "LANG", "MODE", "OPTS",
        "PASV", "PORT", "PWD", "REIN", "REST", "STRU", "SYST", "TYPE",
    ]
    .contains(&verb)
}

// === impl Permits ===

impl Permits {
    pub(super) fn new(current: Option<Arc<Permit>>) -> Self {
        Self { current, asked: None, before: None, unclear: false, moving: false, moves: 0 }
    }

    /// Nobody is logged in any more.
    pub(super) fn reset(&mut self, current: Option<Arc<Permit>>) {
        *self = Self { moving: self.moving, moves: self.moves, ..Self::new(current) };
    }

    /// All that hold.
    fn all(&self) -> impl Iterator<Item = &Arc<Permit>> {
        self.current.iter().chain(self.asked.iter().flatten())
    }

    /// That of who is logged in, or, if nobody is for sure, of who logs in.
    fn standing(&self, logged_in: bool) -> Option<&Arc<Permit>> {
        let asked = self.asked.iter().flatten().filter(|_| self.unclear || !logged_in);
        self.current.iter().chain(asked).next()
    }

    /// What the upstream's answer to a login changes; `again` if somebody was logged in before. Gives
    /// the user who counts again, if one does.
    pub(super) fn settle(
        &mut self,
        verb: Verb,
        reply: &Reply,
        accepted: bool,
        again: bool,
    ) -> Option<Vec<u8>> {
        let before = self.before.take_if(|_| verb == Verb::User);
        match verb {
            // Who says 230 to any USER of a session that is logged in need not have looked at the
            // name, and will say it to any PASS as well.
            Verb::User if accepted && again => self.unclear = true,
            Verb::User if reply.code() >= 400 => {
                let Before { asked, user } = before?;
                self.asked = asked;
                // The password may now be that one's, or be said for good to who is logged in.
                self.unclear = again && self.asked.is_some();
                return Some(user);
            }
            _ if accepted && !self.unclear => {
                if let Some(asked) = self.asked.take() {
                    self.current = asked;
                }
            }
            _ => {}
        }
        None
    }

    /// Another user than this one is about to log in.
    fn ask(&mut self, permit: Option<Arc<Permit>>, user: &[u8]) {
        let asked = self.asked.replace(permit);
        self.before = Some(Before { asked, user: user.to_vec() });
        self.unclear = false;
    }
}

// === impl Dialogue ===

impl Dialogue {
    /// What [`Action::Judge`] asked for.
    pub fn handle_verdict(&mut self, verdict: Verdict) {
        if !matches!(self.pending.front(), Some(Pending::Judged(_))) {
            return;
        }
        let Some(Pending::Judged(command)) = self.pending.pop_front() else { return };
        match verdict {
            Verdict::Denied(why) => self.answer(530, &why),
            // What the session has set was the other user's.
            Verdict::Elsewhere(_) if self.logged_in => {
                self.answer(530, "Log in as this user in a new connection.");
            }
            Verdict::Elsewhere(permit) => {
                self.permits.ask(permit, &self.user);
                self.move_on(command);
            }
            Verdict::Permitted(permit) => {
                self.permits.ask(permit, &self.user);
                self.user = command.argument().to_vec();
                self.forward(command);
            }
        }
        self.pump();
    }

    /// What [`Action::AskTransfer`] asked for.
    pub fn handle_transfer_verdict(&mut self, permitted: bool) {
        if !matches!(self.pending.front(), Some(Pending::Asked(..))) {
            return;
        }
        let Some(Pending::Asked(command, direction)) = self.pending.pop_front() else { return };
        if permitted {
            self.launch_transfer(command, direction);
        } else {
            // RFC 959 4.2: 450, "file action not taken", and it may be tried again.
            let rule = self.limiting_rule();
            let why = format!("Rule {rule} allows no more transfers at once; try again later.");
            self.refuse_transfer(&command, 450, &why);
        }
        self.pump();
    }

    /// The client has been banned while it was here.
    pub fn handle_ban(&mut self) {
        self.give_up(SessionEnd::Banned, "Too many failed logins; try again later.");
    }

    /// The time that [`Action::Penalise`] gave is over; `banned` if the client has guessed too often.
    pub fn handle_penalty_over(&mut self, banned: bool) {
        self.end_penalty();
        if banned {
            self.handle_ban();
        }
        self.pump();
    }

    /// The driver's numbers of the rules that hold.
    pub fn rules(&self) -> impl Iterator<Item = usize> {
        self.permits.all().map(|permit| permit.rule)
    }

    /// The same of the one of who is logged in, or logs in for the first time.
    pub fn standing_rule(&self) -> Option<usize> {
        self.permits.standing(self.logged_in).map(|permit| permit.rule)
    }

    /// The same of the one that holds for the user of the latest USER.
    pub fn latest_rule(&self) -> Option<usize> {
        let permit = match &self.permits.asked {
            Some(asked) => asked.as_ref(),
            None => self.permits.current.as_ref(),
        };
        permit.map(|permit| permit.rule)
    }

    /// Has USER judged.
    pub(super) fn start_user(&mut self, command: Command) {
        // First, as it is also judged by the endpoint that it is to go to.
        if self.await_upstream(&command) {
            return;
        }
        self.actions.push_back(Action::Judge { user: command.argument().to_vec() });
        self.pending.push_back(Pending::Judged(command));
    }

    /// Refuses a command that a rule denies. Says whether it did.
    pub(super) fn refuse_denied(&mut self, command: &Command) -> bool {
        let denying = self.permits.all().find(|permit| !permit.commands.permit(command));
        let Some(permit) = denying.cloned() else { return false };
        self.actions.push_back(Action::CommandDenied { rule: permit.rule });
        let word = command.word().to_ascii_uppercase();
        // A word of letters and digits, as all verbs are.
        let word = String::from_utf8_lossy(&word);
        let text = format!("{word:.8} is not allowed by rule {}.", permit.name);
        // RFC 959 4.2: 550 is "action not taken, no access". But to 502, "not implemented", clients
        // have an answer where another command does the same: LIST for MLSD, PASV for EPSV.
        let code = if is_optional(command.verb()) { 502 } else { 550 };
        match command.verb().direction() {
            Some(_) => self.refuse_transfer(command, code, &text),
            None => self.answer(code, &text),
        }
        true
    }

    /// Whether a command may pass, however it is to be answered else.
    pub(super) fn is_permitted(&self, command: &Command) -> bool {
        self.permits.all().all(|permit| permit.commands.permit(command))
    }

    /// Asks whether one more transfer may begin, if a rule limits them. Says whether it did.
    pub(super) fn ask_transfer(&mut self, command: &Command, direction: Direction) -> bool {
        let standing = self.permits.standing(self.logged_in);
        let asks = standing.is_some_and(|permit| permit.limits_transfers);
        if asks {
            self.actions.push_back(Action::AskTransfer);
            self.pending.push_back(Pending::Asked(command.clone(), direction));
        }
        asks
    }

    fn limiting_rule(&self) -> String {
        let standing = self.permits.standing(self.logged_in);
        standing.map(|permit| permit.name.clone()).unwrap_or_default()
    }

    /// Keeps a login's refusal back, for as long as the driver says.
    pub(super) fn penalise(&mut self, reply: Reply) {
        self.actions.push_back(Action::Penalise);
        self.pending.push_back(Pending::Penalty(reply));
    }

    /// Tells the refusal that was kept back, if there is one. Says whether there was.
    pub(super) fn end_penalty(&mut self) -> bool {
        let held = self.pending.iter().position(|it| matches!(it, Pending::Penalty(_)));
        let Some(Pending::Penalty(reply)) = held.and_then(|at| self.pending.remove(at)) else {
            return false;
        };
        self.tell(reply);
        true
    }
}

/// Whether clients know what to do without this command.
fn is_optional(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Eprt
            | Verb::Epsv
            | Verb::Mdtm
            | Verb::Mlsd
            | Verb::Mlst
            | Verb::Pasv
            | Verb::Port
            | Verb::Rest
            | Verb::Size
    )
}

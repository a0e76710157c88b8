//! The driver's part that has to do with who may do what.

use tokio::time::Instant;
use tracing::info;

use super::{Session, printable};
use crate::ftp::dialogue::Verdict;
use crate::gateway::access::{Denied, Visitor};
use crate::observe::log::one_line;
use crate::observe::metrics::Denial;

impl Session {
    fn visitor(&self) -> Visitor {
        Visitor::new(self.parties.client.ip(), self.service.address)
    }

    /// Says whether a user may log in, and under which rule.
    pub(super) fn judge(&mut self, user: &[u8]) {
        let (rules, shown) = (&self.settings.access, one_line(&printable(user)).into_owned());
        let visitor = self.visitor();
        let judged = self.shared.access.at_user(rules, visitor, user, &mut self.seats);
        let verdict = match judged {
            Ok(rule) => {
                let rule = rule.and_then(|rule| rules.get(rule));
                let permit = rule.map(|rule| rule.permit().clone());
                let only = rule.and_then(|rule| rule.endpoints());
                match self.shared.upstream.is_among(self.endpoint, only) {
                    true => Verdict::Permitted(permit),
                    false => Verdict::Elsewhere(permit),
                }
            }
            Err(Denied { reason, why }) => {
                info!(reason = reason.as_str(), user = %shown, "denied");
                self.shared.metrics.login_denied(reason);
                Verdict::Denied(why)
            }
        };
        self.dialogue.handle_verdict(verdict);
    }

    /// Ends the session if its client was banned while it asked for a password, or logged in. Says
    /// whether it was.
    pub(super) fn end_if_banned(&mut self) -> bool {
        let banned = self.shared.access.is_banned(&self.settings.access, self.visitor());
        if banned {
            info!("banned meanwhile");
            self.shared.metrics.login_denied(Denial::Banned);
            self.dialogue.handle_ban();
        }
        banned
    }

    /// Ends the session if its user was blocked while it logged in.
    pub(super) fn check_user(&mut self) {
        if !self.end_if_banned() && self.shared.access.check_user(self.dialogue.user()).is_err() {
            self.dialogue.handle_kill();
        }
    }

    /// Gives back the places under rules that it is under no more.
    pub(super) fn leave_seats(&mut self) {
        let dialogue = &self.dialogue;
        self.seats.retain(|seat| dialogue.rules().any(|rule| rule == seat.rule()));
    }

    /// Says whether one more transfer may begin.
    pub(super) fn ask_transfer(&mut self) {
        let rule = self.dialogue.standing_rule().and_then(|rule| self.settings.access.get(rule));
        let place = rule.map(|rule| (rule, rule.place()));
        if let Some((rule, None)) = &place {
            self.shared.metrics.transfer_denied(rule.name());
        }
        let permitted = !matches!(place, Some((_, None)));
        self.place_of_transfer = place.and_then(|(_, place)| place);
        self.dialogue.handle_transfer_verdict(permitted);
    }

    /// Counts a command that was refused.
    pub(super) fn command_denied(&self, rule: usize) {
        if let Some(rule) = self.settings.access.get(rule) {
            self.shared.metrics.command_denied(rule.name());
        }
    }

    /// Keeps a refused login back for as long as its client has deserved.
    pub(super) fn penalise(&mut self) {
        let penalty = self.shared.access.login_failed(&self.settings.access, self.visitor());
        if penalty.banned {
            info!("banned: too many logins from its address were refused");
        }
        if penalty.delay.is_zero() {
            return self.dialogue.handle_penalty_over(penalty.banned);
        }
        self.penalty = Some((Instant::now() + penalty.delay, penalty.banned));
    }

    pub(super) fn end_penalty(&mut self) {
        if let Some((_, banned)) = self.penalty.take() {
            self.dialogue.handle_penalty_over(banned);
        }
    }
}

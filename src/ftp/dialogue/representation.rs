//! TYPE, STRU, MODE, and what TYPE A means for SIZE and REST (RFC 959 3.1, RFC 3659).
//!
//! TYPE A is the gateway's own business: the upstream is told TYPE I, which every FTP service has,
//! and the line ends are translated on the way. Until a client says TYPE, its transfers are as the
//! upstream does them, unless the listener is told otherwise.

use super::{Action, Ascii, Command, Dialogue, Pending, Reply, Verb};

impl Dialogue {
    pub(super) fn start_type(&mut self, command: Command) {
        let argument = command.argument().to_ascii_uppercase();
        let mut words = argument.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let kind = (words.next().unwrap_or_default(), words.next(), words.next());
        match kind {
            _ if self.terms.ascii == Ascii::PassThrough => self.forward(command),
            // Some servers keep the offset: it would count for a later transfer of TYPE I.
            (b"A", None | Some(b"N"), None) if self.restart > 0 => {
                self.answer(503, "REST is in effect and needs TYPE I; send REST 0 first.");
            }
            (b"A", None | Some(b"N"), None) => {
                if !self.await_upstream(&command) {
                    self.actions.push_back(Action::ToUpstream(Command::image().to_line()));
                    self.pending.push_back(Pending::Ascii(command));
                }
            }
            (b"A", _, _) => self.answer(504, "TYPE A takes no form but N."),
            // Eight bits to a byte: what TYPE I is everywhere.
            (b"L", Some(b"8"), None) => self.forward(Command::image()),
            _ => self.forward(command),
        }
    }

    /// Brings the upstream of a client that has just logged in to TYPE I, if that client's files are
    /// translated from the start.
    pub(super) fn translate_by_default(&mut self) {
        if self.ascii && self.terms.ascii == Ascii::TranslateByDefault {
            // Kept in mind whatever becomes of it: another upstream must be told too.
            self.remember(&Command::image(), &Reply::new(200, ""));
            self.actions.push_back(Action::ToUpstream(Command::image().to_line()));
            self.pending.push_back(Pending::Image);
        }
    }

    /// The answer to that; without TYPE I there is nothing to translate from.
    pub(super) fn handle_image_reply(&mut self, reply: &Reply) {
        self.pending.pop_front();
        self.ascii &= reply.is_positive();
        if let Some(location) = &mut self.location {
            location.set_image(reply.is_positive());
        }
    }

    /// The upstream's answer to the TYPE I that stands for the client's TYPE A.
    pub(super) fn handle_ascii_reply(&mut self, reply: Reply) {
        self.pending.pop_front();
        self.remember(&Command::image(), &reply);
        if reply.is_positive() {
            self.ascii = true;
            self.answer(200, "Type set to A; the gateway translates line ends.");
        } else {
            self.tell(reply);
        }
    }

    /// Answers what makes no sense in TYPE A. Says whether it did.
    pub(super) fn refuse_ascii(&mut self, command: &Command) -> bool {
        if !self.ascii {
            return false;
        }
        match command.verb() {
            // RFC 3659 4: the number of bytes that a transfer would bring is not known.
            Verb::Size => self.answer(550, "SIZE is not to be had in TYPE A; use TYPE I."),
            Verb::Rest if super::turns::first_number(command.argument()) != Some(0) => {
                self.answer(504, "REST needs TYPE I.");
            }
            _ => return false,
        }
        true
    }

    /// The answer to `STRU F` and `MODE S`, which are what there is, also behind an upstream that
    /// does not know these commands; any other reply as it is.
    pub(super) fn representation_reply(&self, command: &Command, reply: Reply) -> Reply {
        let only = |value: &[u8]| command.argument().trim_ascii().eq_ignore_ascii_case(value);
        match command.verb() {
            _ if !matches!(reply.code(), 500..=504) => reply,
            Verb::Stru if only(b"F") => Reply::new(200, "Structure set to F."),
            Verb::Mode if only(b"S") => Reply::new(200, "Mode set to S."),
            _ => reply,
        }
    }
}

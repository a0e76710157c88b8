//! The dialogue by script, and by chance.

mod chance;
mod clients;
mod commands;
mod location;
mod passive;
mod permit;
mod resume;
mod transfers;

use std::collections::HashMap;
use std::net::SocketAddr;

use super::judge::terms;
use super::*;

/// A dialogue under test. What it wants done is written as one line an action: `>` to the
/// upstream, `<` to the client, anything else by its name.
struct Script {
    dialogue: Dialogue,
    /// What the driver says of some users.
    verdicts: HashMap<&'static [u8], Verdict>,
}

impl Script {
    fn new() -> Self {
        Self::with(|_| ())
    }

    /// A listener that offers nothing but passive mode, and what `change` says.
    fn with(change: impl FnOnce(&mut Terms)) -> Self {
        let security = Security::default();
        let ascii = Ascii::PassThrough;
        let mut terms = Terms { security, active: false, ascii, ..terms() };
        change(&mut terms);
        Self::of(terms)
    }

    /// A session on these terms.
    fn of(terms: Terms) -> Self {
        Self { dialogue: Dialogue::new(terms), verdicts: HashMap::new() }
    }

    /// A session that has logged in.
    fn logged_in() -> Self {
        let mut script = Self::new();
        script.line("USER ann", &["> USER ann"]);
        script.reply("331 password", &["< 331 password"]);
        script.line("PASS x", &["> PASS x"]);
        script.reply("230 in", &["Login(true)", "< 230 in"]);
        script
    }

    /// The same, with a 227 given.
    fn passive() -> Self {
        let mut script = Self::logged_in();
        script.line("PASV", &["> EPSV"]);
        script.reply("229 ok (|||5001|)", &["ReservePort(5001)"]);
        script.reserved(8192, &["< 227 Entering Passive Mode (127,0,0,2,32,0)"]);
        script
    }

    /// The same, with both data connections open and a transfer command in flight.
    fn transferring(command: &str, direction: &str) -> Self {
        let mut script = Self::passive();
        let (started, relay) =
            (format!("TransferStarted({direction})"), format!("Relay({direction})"));
        script.line(command, &[&started, &format!("> {command}")]);
        script.reply("150 go", &["< 150 go"]);
        script.event(Dialogue::handle_data_opened, &[&relay]);
        script
    }

    fn event(&mut self, event: impl FnOnce(&mut Dialogue), expected: &[&str]) {
        event(&mut self.dialogue);
        assert_eq!(self.actions(), expected);
    }

    fn line(&mut self, line: &str, expected: &[&str]) {
        self.event(|dialogue| dialogue.handle_line(Ok(Command::parse(line))), expected);
    }

    fn reply(&mut self, text: &str, expected: &[&str]) {
        self.event(|dialogue| dialogue.handle_reply(reply(text)), expected);
    }

    fn reserved(&mut self, port: u16, expected: &[&str]) {
        let address = SocketAddr::from(([127, 0, 0, 2], port));
        self.event(|dialogue| dialogue.handle_port_reserved(address), expected);
    }

    /// All users are as the test has them judged, or permitted.
    fn actions(&mut self) -> Vec<String> {
        let mut actions = Vec::new();
        while let Some(action) = self.dialogue.poll_action() {
            match action {
                Action::Judge { user } => {
                    let judged = self.verdicts.get(&*user).cloned();
                    self.dialogue.handle_verdict(judged.unwrap_or(Verdict::Permitted(None)));
                }
                action => actions.push(describe(&action)),
            }
        }
        actions
    }
}

fn reply(text: &str) -> Reply {
    Reply::from_bytes(text[..3].parse().unwrap(), format!("{text}\r\n").into_bytes())
}

fn describe(action: &Action) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match action {
        Action::ToClient(bytes) => format!("< {}", text(bytes)),
        Action::ToUpstream(bytes) => format!("> {}", text(bytes)),
        Action::Audit(end) => {
            let reply = end.reply.map_or_else(|| "-".into(), |code| code.to_string());
            format!(
                "Audit({} {} {} {reply})",
                end.verb.as_str(),
                text(&end.path),
                end.outcome.as_str()
            )
        }
        Action::ReservePort(target) => format!("ReservePort({})", target.port),
        Action::Relay(course) => {
            let (ascii, private) = (course.ascii, course.private);
            let extra = [(ascii, " in ASCII"), (private, " within TLS")];
            let extra: String = extra.iter().filter(|it| it.0).map(|it| it.1).collect();
            format!("Relay({:?}{extra})", course.direction)
        }
        Action::StartTls(bytes) => format!("StartTls({})", text(bytes)),
        Action::AwaitTransfer { to, target } => format!("AwaitTransfer({to}, {})", target.port),
        Action::Login { accepted } => format!("Login({accepted})"),
        other => format!("{other:?}"),
    }
}

//! Transfers as clients see them, each of which ends with a word to the checker.
//!
//! Their `Result` is whether the session can go on: a transfer that failed in order is no error.

use std::io;

use super::checker::{Checker, Content, LISTED, Outcome};
use super::pace::{Pace, Read, take, write};
use super::session::{Line, Session, Stop};
use crate::harness::ftp::Reply;

/// How a client cuts its own transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// ABOR.
    Abort,
    /// RST on its data connection.
    Reset,
    /// An end in order, after fewer bytes than ALLO announced.
    Short,
    /// It goes away, as a process does that is killed: FIN on both connections.
    Leave,
}

impl Session {
    /// A data connection on which that transfer has begun, or its refusal. REST comes behind PASV, for
    /// Apache FtpServer forgets it otherwise.
    fn begin(&mut self, line: &str, from: usize) -> Result<Result<Line, Reply>, Stop> {
        let door = self.door()?;
        if from > 0 {
            self.expect(&format!("REST {from}"), &[350])?;
        }
        let reply = self.command(line)?;
        match reply.code {
            150 | 125 => self.enter(door).map(Ok),
            400.. => Ok(Err(reply)),
            code => Err(Stop::Wrong(format!("{code} for {line}"))),
        }
    }

    /// The final reply. After 421 nothing comes any more.
    fn verdict(&mut self) -> Result<Reply, Stop> {
        let reply = self.reply()?;
        if reply.code < 200 {
            return Err(Stop::Wrong(format!("{} for a final reply", reply.code)));
        }
        Ok(reply)
    }

    /// Begins one, and tells the checker if it cannot.
    fn begin_or_tell(
        &mut self,
        checker: &Checker,
        kind: &'static str,
        line: &str,
        from: usize,
    ) -> Result<Option<Line>, Stop> {
        match self.begin(line, from) {
            Ok(Ok(data)) => Ok(Some(data)),
            Ok(Err(reply)) => {
                checker.count(kind, Outcome::Refused);
                if reply.code == 421 { Err(Stop::Refused) } else { Ok(None) }
            }
            Err(stop) => {
                checker.ended(kind, &stop, false, &self.transcript);
                Err(stop)
            }
        }
    }

    fn set_type(&mut self, checker: &Checker, kind: &'static str, text: bool) -> Result<(), Stop> {
        let line = if text { "TYPE A" } else { "TYPE I" };
        self.prepare(checker, kind, line, &[200]).map(|_| ())
    }

    fn prepare(
        &mut self,
        checker: &Checker,
        kind: &'static str,
        line: &str,
        codes: &[u16],
    ) -> Result<Reply, Stop> {
        self.expect(line, codes)
            .inspect_err(|stop| checker.ended(kind, stop, false, &self.transcript))
    }

    fn kind(&self, direction: &'static str, text: bool) -> &'static str {
        let (private, active) = (self.manner.tls.is_some(), self.manner.active);
        match (direction, text, private, active) {
            ("up", false, false, false) => "upload",
            ("up", false, false, true) => "upload, active",
            ("up", false, true, false) => "upload, FTPS",
            ("up", false, true, true) => "upload, FTPS, active",
            ("up", true, false, _) => "upload, ASCII",
            ("up", true, true, _) => "upload, ASCII, FTPS",
            (_, false, false, false) => "download",
            (_, false, false, true) => "download, active",
            (_, false, true, false) => "download, FTPS",
            (_, false, true, true) => "download, FTPS, active",
            (_, true, false, _) => "download, ASCII",
            (_, true, true, _) => "download, ASCII, FTPS",
        }
    }

    /// A whole file.
    pub(crate) fn upload(
        &mut self,
        checker: &Checker,
        name: &str,
        content: &Content,
        pace: Pace,
    ) -> Result<(), Stop> {
        let kind = self.kind("up", content.text);
        self.set_type(checker, kind, content.text)?;
        self.store(checker, kind, name, content, 0, pace)
    }

    /// The rest of a file that broke off. One that is not there yet gets another name: a server that was
    /// stopped may still have the first STOR to read, and would empty the file by it.
    pub(crate) fn resume_upload(
        &mut self,
        checker: &Checker,
        name: &mut String,
        other: String,
        content: &Content,
    ) -> Result<(), Stop> {
        let kind = "upload, resumed";
        self.set_type(checker, kind, false)?;
        let size = self.prepare(checker, kind, &format!("SIZE {name}"), &[213, 550])?;
        let there = match (size.code, size.text.split_whitespace().nth(1)) {
            (213, Some(size)) => size.parse().unwrap_or(usize::MAX),
            _ => {
                *name = other;
                0
            }
        };
        if there > content.len() {
            let stop = Stop::Wrong(format!("{name} has {there} bytes, of {}", content.len()));
            checker.ended(kind, &stop, false, &self.transcript);
            return Err(stop);
        }
        self.store(checker, kind, name, content, there, Pace::Full)
    }

    fn store(
        &mut self,
        checker: &Checker,
        kind: &'static str,
        name: &str,
        content: &Content,
        from: usize,
        pace: Pace,
    ) -> Result<(), Stop> {
        let line = format!("STOR {name}");
        let Some(mut data) = self.begin_or_tell(checker, kind, &line, from)? else { return Ok(()) };
        let bytes = &checker.wire(content)[from..];
        let written = write(&mut data, bytes, pace).and_then(|()| {
            data.finish()?;
            // Until the gateway lets go, too; with TLS there may be tickets.
            io::copy(&mut data, &mut io::sink())
        });
        self.transcript.add(format!("wrote {} bytes from {from}: {written:?}", bytes.len()));
        let verdict = match written.map_err(Stop::from) {
            Err(Stop::Hung) => Err(Stop::Hung),
            _ => self.verdict(),
        };
        match verdict {
            Ok(reply) if reply.code < 300 => {
                checker.acknowledged(kind, name, content, &self.transcript);
                Ok(())
            }
            verdict => self.failed(checker, kind, verdict),
        }
    }

    /// A transfer that the server has refused, or that has ended with its session.
    fn failed(
        &self,
        checker: &Checker,
        kind: &'static str,
        verdict: Result<Reply, Stop>,
    ) -> Result<(), Stop> {
        match verdict {
            Ok(reply) => {
                checker.count(kind, Outcome::Failed);
                if reply.code == 421 { Err(Stop::Broken) } else { Ok(()) }
            }
            Err(stop) => {
                checker.ended(kind, &stop, true, &self.transcript);
                Err(stop)
            }
        }
    }

    /// A part of a file.
    pub(crate) fn cut_upload(
        &mut self,
        checker: &Checker,
        name: &str,
        content: &Content,
        sent: usize,
        cut: Cut,
    ) -> Result<(), Stop> {
        let kind = match cut {
            Cut::Abort => "upload, aborted",
            Cut::Reset => "upload, reset",
            Cut::Short => "upload, short",
            Cut::Leave => "upload, left",
        };
        self.set_type(checker, kind, false)?;
        if cut == Cut::Short {
            // The gateway understands it, whatever the server says.
            let codes = [200, 202, 500, 501, 502, 504];
            self.prepare(checker, kind, &format!("ALLO {}", content.len()), &codes)?;
        }
        let line = format!("STOR {name}");
        let Some(mut data) = self.begin_or_tell(checker, kind, &line, 0)? else { return Ok(()) };
        let written = write(&mut data, &checker.wire(content)[..sent], Pace::Full);
        self.transcript.add(format!("wrote {sent} bytes of {}: {written:?}", content.len()));
        if cut == Cut::Leave {
            let _ = self.finish();
            let _ = data.finish();
            checker.count(kind, Outcome::Abandoned);
            return Err(Stop::Refused);
        }
        match cut {
            Cut::Abort => {
                let sent = self.send("ABOR");
                // The server side is to hear of ABOR, not of this.
                let ended = self.told_of_cut(checker, kind, sent, true);
                data.reset();
                ended
            }
            Cut::Reset => {
                data.reset();
                self.told_of_cut(checker, kind, Ok(()), false)
            }
            _ => {
                let _ = data.finish();
                let ended = self.told_of_cut(checker, kind, Ok(()), false);
                drop(data);
                ended
            }
        }
    }

    /// What a client is told whose upload it has cut: never that it is complete.
    fn told_of_cut(
        &mut self,
        checker: &Checker,
        kind: &'static str,
        sent: Result<(), Stop>,
        aborted: bool,
    ) -> Result<(), Stop> {
        let verdict = sent.and_then(|()| self.verdict()).and_then(|reply| match reply.code {
            ..400 => Err(Stop::Wrong(format!("{} for an upload that was cut", reply.code))),
            421 => Err(Stop::Refused),
            _ if aborted => self.verdict().map(|_| ()),
            _ => Ok(()),
        });
        match &verdict {
            Err(stop @ (Stop::Hung | Stop::Wrong(_))) => {
                checker.ended(kind, stop, true, &self.transcript);
            }
            _ => checker.count(kind, Outcome::Abandoned),
        }
        verdict
    }

    /// A file, or the rest of it from a byte on.
    pub(crate) fn download(
        &mut self,
        checker: &Checker,
        file: usize,
        from: usize,
        read: Read,
    ) -> Result<(), Stop> {
        let prepared = &checker.prepared[file];
        let text = prepared.content.text;
        let from = if text { 0 } else { from };
        let kind = match read {
            Read::Bytewise => "download, by the byte",
            Read::Slowly => "download, slow reader",
            Read::Sulking(_) => "download, reader that rests",
            Read::Fast if from > 0 => "download, resumed",
            Read::Fast => self.kind("down", text),
        };
        self.set_type(checker, kind, text)?;
        let line = format!("RETR {}", prepared.name);
        let Some(mut data) = self.begin_or_tell(checker, kind, &line, from)? else { return Ok(()) };
        let expected = &checker.wire(&prepared.content)[from..];
        let mut found = Vec::with_capacity(expected.len());
        let end = take(&mut data, &mut found, read, usize::MAX);
        self.conclude(checker, kind, expected, &found, end, data)
    }

    /// A directory.
    pub(crate) fn list(&mut self, checker: &Checker, verb: &str) -> Result<(), Stop> {
        let kind = "listing";
        let line = format!("{verb} listed");
        let Some(mut data) = self.begin_or_tell(checker, kind, &line, 0)? else { return Ok(()) };
        let mut found = Vec::new();
        let end = take(&mut data, &mut found, Read::Fast, usize::MAX);
        let names = String::from_utf8_lossy(&found);
        let is_whole = (0..LISTED).all(|name| names.contains(&format!("entry-{name:03}\r\n")));
        let expected = if is_whole { found.clone() } else { [&*found, b"..."].concat() };
        self.conclude(checker, kind, &expected, &found, end, data)
    }

    /// Hears how a download ended, and lets the checker judge.
    fn conclude(
        &mut self,
        checker: &Checker,
        kind: &'static str,
        expected: &[u8],
        found: &[u8],
        end: io::Result<bool>,
        data: Line,
    ) -> Result<(), Stop> {
        self.transcript.add(format!("read {} of {} bytes: {end:?}", found.len(), expected.len()));
        let end = match end {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Stop::Hung),
            end => Ok(end.unwrap_or(false)),
        };
        drop(data);
        let verdict = match &end {
            Ok(_) => self.verdict(),
            Err(stop) => Err(stop.clone()),
        };
        let answered = verdict.as_ref().is_ok_and(|reply| reply.code < 300);
        match checker.downloaded(expected, found, end == Ok(true), answered) {
            Ok(true) => {
                checker.count(kind, Outcome::Complete);
                Ok(())
            }
            Err(wrong) => {
                checker.ended(kind, &wrong, true, &self.transcript);
                Err(wrong)
            }
            Ok(false) => self.failed(checker, kind, verdict),
        }
    }

    /// A part of a file.
    pub(crate) fn cut_download(
        &mut self,
        checker: &Checker,
        file: usize,
        taken: usize,
        cut: Cut,
    ) -> Result<(), Stop> {
        let kind = if cut == Cut::Abort { "download, aborted" } else { "download, left" };
        let prepared = &checker.prepared[file];
        self.set_type(checker, kind, prepared.content.text)?;
        let line = format!("RETR {}", prepared.name);
        let Some(mut data) = self.begin_or_tell(checker, kind, &line, 0)? else { return Ok(()) };
        let expected = checker.wire(&prepared.content);
        let mut found = Vec::new();
        let end = take(&mut data, &mut found, Read::Fast, taken);
        self.transcript.add(format!("read {} of {} bytes: {end:?}", found.len(), expected.len()));
        if let Err(wrong) = checker.downloaded(expected, &found, matches!(end, Ok(true)), false) {
            checker.ended(kind, &wrong, true, &self.transcript);
            return Err(wrong);
        }
        if cut == Cut::Leave {
            checker.count(kind, Outcome::Abandoned);
            return Err(Stop::Refused);
        }
        let ended = self.send("ABOR").and_then(|()| {
            // Whatever is on its way still comes, or a reset, which is told once.
            let end = end.and_then(|_| take(&mut data, &mut found, Read::Fast, usize::MAX));
            checker.downloaded(expected, &found, matches!(end, Ok(true)), false)?;
            let verdict = self.verdict()?;
            if verdict.code == 421 { Err(Stop::Refused) } else { self.verdict().map(|_| ()) }
        });
        match &ended {
            Err(stop @ (Stop::Hung | Stop::Wrong(_))) => {
                checker.ended(kind, stop, true, &self.transcript);
            }
            _ => checker.count(kind, Outcome::Abandoned),
        }
        ended
    }
}

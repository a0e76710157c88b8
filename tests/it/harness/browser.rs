//! Debian's Chromium at one page, driven by Playwright; `tests/it/page/browser.py` does what is told here.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::stand_in;

/// A browser that shows a page; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Browser {
    /// Gone only when it is to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    process: Child,
}

impl Browser {
    /// Opens a page. Screenshots go to `target/status-page`.
    pub(crate) fn open(url: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/page/browser.py");
        let mut process = Command::new(stand_in("playwright/bin/python"))
            .args([script, url])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/target/status-page"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { orders, answers, process }
    }

    /// Waits until something there shows that text.
    #[track_caller]
    pub(crate) fn see(&mut self, place: &str, text: &str) {
        self.order(&json!({ "do": "see", "where": place, "text": text }));
    }

    /// Waits until nothing there does.
    #[track_caller]
    pub(crate) fn miss(&mut self, place: &str, text: &str) {
        self.order(&json!({ "do": "miss", "where": place, "text": text }));
    }

    /// Waits until an expression of JavaScript is true.
    #[track_caller]
    pub(crate) fn wait(&mut self, until: &str) {
        self.order(&json!({ "do": "wait", "until": until }));
    }

    /// Presses a key: what has the focus then, and whether that can be seen.
    #[track_caller]
    pub(crate) fn press(&mut self, key: &str) -> (String, bool) {
        let focus = self.order(&json!({ "do": "press", "key": key }));
        (focus["name"].as_str().unwrap().into(), focus["seen"] == true)
    }

    /// Shows what is given instead of what the node says.
    #[track_caller]
    pub(crate) fn pretend(&mut self, now: &Value, history: &Value) {
        self.order(&json!({ "do": "pretend", "now": now, "history": history }));
    }

    /// Takes screenshots, wide and narrow, dark and light, and panics if axe finds fault with any.
    #[track_caller]
    pub(crate) fn show(&mut self, name: &str) {
        let found = self.order(&json!({ "do": "show", "name": name }));
        assert_eq!(found, json!([]), "{found:#}");
    }

    /// Panics if the browser's console was told of anything that went wrong.
    #[track_caller]
    pub(crate) fn expect_no_complaints(&mut self) {
        let heard = self.order(&json!({ "do": "hear_complaints" }));
        assert_eq!(heard, json!([]), "{heard:#}");
    }

    #[track_caller]
    fn order(&mut self, order: &Value) -> Value {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let mut answer: Value = serde_json::from_str(&line).expect("an answer of the browser");
        if let Some(error) = answer["error"].as_str() {
            let mut order = order.to_string();
            order.truncate(500);
            panic!("{order}: {error}");
        }
        answer["ok"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.orders.take();
        let _ = self.process.wait();
    }
}

//! SECURITY.md says of each attack which test shows what defends against it.

use std::fs;
use std::path::Path;

fn read(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// The tests that a text names: `file.rs::function` in backquotes.
fn named(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|name| name.split_once("::").filter(|(file, _)| file.ends_with(".rs")))
}

/// Whether a file has a test of that name.
fn has_test(file: &str, name: &str) -> bool {
    let mut is_test = false;
    read(file).unwrap_or_default().lines().map(str::trim).any(|line| {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let Some(function) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") else {
            return false;
        };
        // Whatever comes next has to be marked by itself.
        std::mem::take(&mut is_test)
            && function.strip_prefix(name).is_some_and(|rest| rest.starts_with('('))
    })
}

#[test]
fn every_test_that_is_named_is_there() {
    let text = read("SECURITY.md").unwrap();
    let missing: Vec<_> = named(&text).filter(|(file, name)| !has_test(file, name)).collect();
    assert_eq!(missing, []);
}

#[test]
fn every_attack_has_a_test() {
    let text = read("SECURITY.md").unwrap();
    let (_, attacks) = text.split_once("## What defends against what").unwrap();
    let (attacks, _) = attacks.split_once("## What is not defended").unwrap();
    let is_attack = |line: &&str| line.starts_with("| ") && !line.starts_with("| attack |");
    let attacks: Vec<&str> = attacks.lines().filter(is_attack).collect();
    assert!(attacks.len() > 25, "{attacks:?}");
    for attack in attacks {
        assert!(named(attack).next().is_some(), "{attack}");
    }
}

#[test]
fn a_function_that_is_no_test_is_none() {
    assert!(has_test("tests/it/security.rs", "a_function_that_is_no_test_is_none"));
    assert!(!has_test("tests/it/security.rs", "has_test"));
    assert!(!has_test("tests/it/security.rs", "a_function"));
    assert!(!has_test("tests/it/nowhere.rs", "has_test"));
}

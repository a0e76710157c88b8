//! Medians, and what a report says about the machine.

use std::fs;

/// The middle one, or the mean of the two in the middle; not a number if there are none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Of the last minute, five and fifteen.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// How many there are, and of which model.
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap();
    let models = text.lines().filter_map(|line| line.strip_prefix("model name\t: "));
    let models: Vec<&str> = models.collect();
    format!("{} x {}", models.len(), models.first().unwrap_or(&"unknown"))
}

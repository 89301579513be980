//! Messages from Kubernetes, as stored: short enough to keep for each of many runs, and without bytes that are
//! invalid in a text.

/// How much of one message is kept. The API itself allows 1 KiB in an event and 32 KiB in a condition.
const LONGEST_BYTES: usize = 2048;

/// The text without control characters other than newlines and tabs, truncated if it is too long.
pub(super) fn clean(text: &str) -> String {
    let is_kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    if text.len() <= LONGEST_BYTES && text.chars().all(|c| is_kept(&c)) {
        return text.to_owned();
    }
    let mut cleaned = String::new();
    for c in text.chars().filter(is_kept) {
        if cleaned.len() + c.len_utf8() > LONGEST_BYTES {
            cleaned.push('…');
            break;
        }
        cleaned.push(c);
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_bounded_and_hold_no_nul() {
        assert_eq!(clean("a\0b\u{1b}[31m\nc\td"), "ab[31m\nc\td");
        let long = clean(&"ü".repeat(5000));
        assert!(long.len() <= LONGEST_BYTES + 3 && long.ends_with('…'));
        assert_eq!(clean("plain"), "plain");
    }
}

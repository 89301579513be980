//! Image references: the grammar that registries and container engines share, parsed once, where a reference enters.
//!
//! ```text
//! [HOST[:PORT]/]PATH[:TAG][@ALGORITHM:HEX]      registry.example.com:5000/team/tides:1.2@sha256:…
//! ```
//!
//! The grammar is that of <https://pkg.go.dev/github.com/distribution/reference>, with its two additional rules: a
//! first part without a dot, a port or an upper-case letter is not a host, except `localhost`; and digests have the
//! length of their algorithm.

use std::fmt;
use std::str::FromStr;

use super::limits;

/// The default registry for an image that names none.
const HUB: &str = "docker.io";
/// The default tag for an image with neither tag nor digest.
const USUAL_TAG: &str = "latest";
/// The longest host, port and path together that registries accept.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;
/// The digest algorithms that registries know, with the length of their values in hexadecimal digits.
const DIGESTS: [(&str, usize); 3] = [("sha256", 64), ("sha384", 96), ("sha512", 128)];

/// A well-formed image reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// Host and port, if the reference names a registry.
    host: Option<String>,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text is not an image reference; the words continue a sentence that begins with the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidImage(String);

impl ImageReference {
    /// The registry that has the image.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.host.as_deref().unwrap_or(HUB)
    }

    /// The reference with the default tag if it has neither tag nor digest: without one, a pull would fetch every
    /// tag.
    #[must_use]
    pub fn with_tag(&self) -> Self {
        let tag = match (&self.tag, &self.digest) {
            (None, None) => Some(USUAL_TAG.to_owned()),
            (tag, _) => tag.clone(),
        };
        Self { tag, ..self.clone() }
    }

    /// Host and path, without tag and digest.
    #[must_use]
    pub fn repository(&self) -> String {
        self.host.as_ref().map_or_else(|| self.path.clone(), |host| format!("{host}/{}", self.path))
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, InvalidImage> {
        check_text(text)?;
        let invalid = |why: String| InvalidImage(format!("is not an image reference: {why}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (host, rest) = split_host(rest);
        let (path, tag) = match rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if let Some(host) = host {
            check_host(host).map_err(invalid)?;
        }
        check_path(path).map_err(invalid)?;
        if let Some(tag) = tag {
            check_tag(tag).map_err(invalid)?;
        }
        if let Some(digest) = digest {
            check_digest(digest).map_err(invalid)?;
        }
        let name_bytes = path.len() + host.map_or(0, |host| host.len() + 1);
        if name_bytes > LONGEST_NAME {
            let why =
                format!("registry and repository are {name_bytes} bytes long, at most {LONGEST_NAME} are allowed");
            return Err(invalid(why));
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Self { host: owned(host), path: path.to_owned(), tag: owned(tag), digest: owned(digest) })
    }
}

/// Faults in a text that do not depend on the part of the reference.
fn check_text(text: &str) -> Result<(), InvalidImage> {
    if text.is_empty() {
        return Err(InvalidImage("must not be empty".to_owned()));
    }
    if text.len() > limits::IMAGE_BYTES {
        let most = limits::IMAGE_BYTES;
        return Err(InvalidImage(format!("is {} bytes long, at most {most} are allowed", text.len())));
    }
    if text.chars().any(char::is_whitespace) {
        return Err(InvalidImage(format!("must not hold white space: {text:?}")));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(InvalidImage(format!(
            "must begin with a registry or a repository, not with {:?}",
            format!("{scheme}://")
        )));
    }
    Ok(())
}

/// Splits the registry from the rest, if the first part looks like one.
fn split_host(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':', '['])
                || first == "localhost"
                || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, text),
    }
}

fn check_host(text: &str) -> Result<(), String> {
    let wrong =
        || format!("{text:?} is neither a registry's host, optionally with a port, nor a part of a repository's path");
    let (host, port) = match text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if port.is_some_and(|port| !is_port(port)) {
        return Err(wrong());
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().map(drop).map_err(|_| wrong());
    }
    let is_label = |label: &str| {
        let is_inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        !label.is_empty() && is_inner && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.split('.').all(is_label) { Ok(()) } else { Err(wrong()) }
}

fn check_path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("it names no repository".to_owned());
    }
    // An engine would take it for an image id, not for a name.
    if path.len() == 64 && path.bytes().all(is_lower_hex) {
        return Err(format!("{path:?} is a bare digest; write \"sha256:{path}\" or NAME@sha256:{path}"));
    }
    for part in path.split('/') {
        if part.is_empty() {
            return Err(format!("a part of the repository's path is empty in {path:?}"));
        }
        if part.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(format!("the repository's path must be in lowercase: {part:?}"));
        }
        if !is_path_part(part) {
            return Err(format!(
                "{part:?} is no part of a repository's path: it may hold lowercase letters and digits, and `.`, `_`, `__` or `-` between them"
            ));
        }
    }
    Ok(())
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_part(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_in_words = [bytes.first(), bytes.last()].iter().all(|byte| byte.is_some_and(|byte| is_word(*byte)));
    let mut separators = bytes.split(|byte| is_word(*byte)).filter(|between| !between.is_empty());
    ends_in_words
        && separators.all(|between| matches!(between, b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-'))
}

fn check_tag(tag: &str) -> Result<(), String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins_well = tag.bytes().next().is_some_and(is_word);
    let goes_on_well = tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
    match begins_well && goes_on_well {
        true if tag.len() > LONGEST_TAG => {
            Err(format!("its tag is {} characters long, at most {LONGEST_TAG} are allowed", tag.len()))
        }
        true => Ok(()),
        false => Err(format!(
            "{tag:?} is no tag: it may hold letters, digits, `_`, `.` and `-`, and begins with none of the last two"
        )),
    }
}

fn check_digest(text: &str) -> Result<(), String> {
    let known = text.split_once(':').and_then(|(algorithm, value)| {
        let (_, length) = DIGESTS.iter().find(|(known, _)| *known == algorithm)?;
        (value.len() == *length && value.bytes().all(is_lower_hex)).then_some(())
    });
    known.ok_or_else(|| format!("{text:?} is no digest, such as sha256: and 64 hexadecimal digits in lowercase"))
}

const fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn parse(text: &str) -> Result<ImageReference, String> {
        text.parse().map_err(|error: InvalidImage| error.to_string())
    }

    #[test]
    fn every_form_of_a_reference_is_read_and_written_back() {
        let digest = format!("sha256:{HEX}");
        let table = [
            ("busybox", "docker.io", "busybox", "busybox:latest"),
            ("busybox:1", "docker.io", "busybox", "busybox:1"),
            ("team/busybox:1.36-musl_2", "docker.io", "team/busybox", "team/busybox:1.36-musl_2"),
            ("localhost/busybox", "localhost", "localhost/busybox", "localhost/busybox:latest"),
            ("localhost:5000/a/b", "localhost:5000", "localhost:5000/a/b", "localhost:5000/a/b:latest"),
            (
                "Registry.Example.com/a__b/c.d/e--f:2",
                "Registry.Example.com",
                "Registry.Example.com/a__b/c.d/e--f",
                "Registry.Example.com/a__b/c.d/e--f:2",
            ),
            ("[::1]:5000/a", "[::1]:5000", "[::1]:5000/a", "[::1]:5000/a:latest"),
            ("[2001:db8::1]/a", "[2001:db8::1]", "[2001:db8::1]/a", "[2001:db8::1]/a:latest"),
            // The id of an image on the machine has the form of a name with a tag.
            (digest.as_str(), "docker.io", "sha256", digest.as_str()),
        ];
        for (text, registry, repository, tagged) in table {
            let image = parse(text).unwrap();
            assert_eq!(image.to_string(), text);
            assert_eq!((image.registry(), image.repository().as_str()), (registry, repository));
            assert_eq!(image.with_tag().to_string(), tagged);
        }
        for text in [format!("a@{digest}"), format!("h:1/a/b:tag@{digest}"), format!("a@sha512:{HEX}{HEX}")] {
            assert_eq!(parse(&text).unwrap().with_tag().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused_with_the_part_that_is_wrong() {
        let long_path = format!("{}/a", "a".repeat(254));
        let long_tag = format!("a:{}", "t".repeat(129));
        let table = [
            ("", "empty"),
            ("not an image", "white space"),
            ("a\u{a0}b", "white space"),
            ("../containers/x/json?a=:x", "\"..\""),
            ("a/../b", "\"..\""),
            ("a/./b", "\".\""),
            ("https://example.com/a:1", "https://"),
            ("Bad/Upper:1", "lowercase: \"Upper\""),
            ("busyBox", "lowercase"),
            ("a//b", "empty"),
            ("/a", "empty"),
            ("a/", "empty"),
            ("a:", "no tag"),
            (":1", "names no repository"),
            ("a:-x", "\"-x\""),
            ("a:b:c", "\"a:b\""),
            ("a:x?y", "\"x?y\""),
            ("a%2fb", "\"a%2fb\""),
            ("a#b", "\"a#b\""),
            ("a\\b", "repository"),
            ("a._b", "\"a._b\""),
            ("a___b", "\"a___b\""),
            ("-a", "\"-a\""),
            ("ä", "\"ä\""),
            ("a\u{200b}b", "repository"),
            ("a\0b", "repository"),
            ("exa_mple.com/a", "\"exa_mple.com\""),
            ("example..com/a", "\"example..com\""),
            ("-x.com/a", "\"-x.com\""),
            ("h:70000/a", "\"h:70000\""),
            ("h:+80/a", "\"h:+80\""),
            ("h:/a", "\"h:\""),
            ("[::1/a", "\"[::1\""),
            ("[x]/a", "\"[x]\""),
            ("user@host/a", "no digest"),
            ("a@sha256:0123", "no digest"),
            ("a@md5:0123456789abcdef0123456789abcdef", "no digest"),
            (HEX, "bare digest"),
            (long_path.as_str(), "256 bytes long, at most 255"),
            (long_tag.as_str(), "129 characters"),
        ];
        for (text, part) in table {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {part} is missing in: {error}");
        }
        let upper_digest = format!("a@sha256:{}", HEX.to_uppercase());
        assert!(parse(&upper_digest).is_err());
        assert!(parse(&"a".repeat(limits::IMAGE_BYTES + 1)).unwrap_err().contains("at most 1024"));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_back_and_holds_nothing_that_a_url_gives_a_meaning(text in "[a-zA-Z0-9._/:@?#%&\\[\\]~ -]{0,40}") {
            if let Ok(image) = parse(&text) {
                prop_assert_eq!(image.to_string(), text.clone());
                prop_assert!(!text.contains(['?', '#', '%', '&', '~', ' ']));
                prop_assert!(text.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            }
        }
    }
}

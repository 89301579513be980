//! Who sends a request: a page of ours, a page of another site in somebody's browser, or a program.
//!
//! A page of another site can have a visitor's browser send a form to any address, and the API takes a body whatever its
//! type. Browsers say where such a request comes from, by `Sec-Fetch-Site` (over TLS and on loopback) or `Origin`; programs
//! say nothing. A site can also give its own name the server's address (DNS rebinding), and is then of one origin with it:
//! so a server that listens on loopback alone answers only to names that are known.

use axum::http::{HeaderMap, HeaderName, header};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    OurPage,
    OtherSite,
    /// A program, or a browser that says nothing of use.
    Unsaid,
}

impl Sender {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if let Some(site) = text(headers, &HeaderName::from_static("sec-fetch-site")) {
            return match site {
                "same-origin" => Self::OurPage,
                "cross-site" => Self::OtherSite,
                // By the address bar, or from another name of the same domain.
                _ => Self::Unsaid,
            };
        }
        let Some(origin) = text(headers, &header::ORIGIN) else { return Self::Unsaid };
        let origin = origin.split_once("://").map(|(_, host)| host);
        // A proxy may ask under another name than the browser did, and tells that one. No page can set this header.
        let forwarded = text(headers, &HeaderName::from_static("x-forwarded-host"));
        let forwarded = forwarded.and_then(|hosts| hosts.split(',').next()).map(str::trim);
        let known = [text(headers, &header::HOST), forwarded];
        let is_ours = known.into_iter().flatten().any(|host| !host.is_empty() && Some(host) == origin);
        if is_ours { Self::OurPage } else { Self::OtherSite }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Under which names the server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    Any,
    /// These, and those that no other site can have: `localhost`, addresses, and names without a dot.
    Known(Vec<String>),
}

impl Hosts {
    /// What the operator named; where nothing was named, any name will do but for a server on loopback alone.
    #[must_use]
    pub fn new(named: &[String], is_loopback: bool) -> Self {
        match (named, is_loopback) {
            ([], false) => Self::Any,
            _ => Self::Known(named.to_vec()),
        }
    }

    /// The name that a request asks under, where it is not known here.
    pub(super) fn unknown<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let Self::Known(known) = self else { return None };
        // A browser always says one.
        let host = text(headers, &header::HOST)?;
        let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
        let is_local = !name.contains('.') || name.ends_with(".localhost");
        let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        let is_known = is_local || is_address || known.iter().any(|known| known.eq_ignore_ascii_case(&name));
        (!is_known).then_some(host)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    #[test]
    fn a_browser_says_where_a_request_comes_from() {
        let host = ("host", "flotilla.example:3000");
        for (pairs, expected) in [
            (vec![], Sender::Unsaid),
            (vec![host], Sender::Unsaid),
            (vec![("sec-fetch-site", "same-origin")], Sender::OurPage),
            (vec![("sec-fetch-site", "same-site")], Sender::Unsaid),
            (vec![("sec-fetch-site", "none")], Sender::Unsaid),
            (vec![("sec-fetch-site", "cross-site")], Sender::OtherSite),
            // The more trustworthy of the two counts.
            (
                vec![host, ("sec-fetch-site", "cross-site"), ("origin", "http://flotilla.example:3000")],
                Sender::OtherSite,
            ),
            (vec![host, ("origin", "http://flotilla.example:3000")], Sender::OurPage),
            (vec![host, ("origin", "https://flotilla.example:3000")], Sender::OurPage),
            (vec![host, ("origin", "http://flotilla.example")], Sender::OtherSite),
            (vec![host, ("origin", "http://evil.example")], Sender::OtherSite),
            (vec![host, ("origin", "null")], Sender::OtherSite),
            (vec![("host", ""), ("origin", "http://")], Sender::OtherSite),
            (
                vec![
                    ("host", "127.0.0.1:3000"),
                    ("x-forwarded-host", "flotilla.example, x"),
                    ("origin", "https://flotilla.example"),
                ],
                Sender::OurPage,
            ),
        ] {
            assert_eq!(Sender::of(&headers(&pairs)), expected, "{pairs:?}");
        }
    }

    #[test]
    fn on_loopback_alone_only_known_names_are_answered() {
        let named = ["Flotilla.example".to_owned()];
        let is_known = |hosts: &Hosts, host: &'static str| hosts.unknown(&headers(&[("host", host)])).is_none();
        let (loopback, with_name, anywhere) =
            (Hosts::new(&[], true), Hosts::new(&named, false), Hosts::new(&[], false));
        for host in [
            "localhost:3000",
            "LOCALHOST",
            "a.localhost",
            "flotilla:80",
            "127.0.0.1:3000",
            "[::1]:3000",
            "[::1]",
            "10.0.0.1",
        ] {
            assert!(is_known(&loopback, host) && is_known(&with_name, host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example."]
        {
            assert!(!is_known(&loopback, host) && !is_known(&with_name, host) && is_known(&anywhere, host), "{host}");
        }
        assert!(is_known(&with_name, "flotilla.example:443") && !is_known(&loopback, "flotilla.example"));
        assert_eq!(loopback.unknown(&HeaderMap::new()), None, "a program of the oldest kind");
    }
}

//! Who sent a request: one of our pages, a page of another site in a user's browser, or a program.
//!
//! A page of another site can make a visitor's browser send a form to any address, and the API accepts a body of any
//! content type. Browsers report where such a request comes from, by `Sec-Fetch-Site` (over TLS and on loopback) or
//! `Origin`; programs report nothing. A site can also point its own name at the server's address (DNS rebinding), and
//! then has the same origin: so a server that listens only on loopback answers only to known names, and a browser's
//! `Origin` must be a known name everywhere.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use ipnet::IpNet;
use url::{Host, Url};

use crate::model::{CorsOrigins, PublicUrl};

/// The operator's settings on where requests may come from.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// The names by which browsers know the server, in addition to those that no other site can have.
    pub hosts: Vec<String>,
    /// Whether the server listens only on loopback, so that no other machine has a name for it.
    pub is_loopback: bool,
    /// The URL that users reach it by, if it differs from where it listens: through a proxy.
    pub public_url: Option<PublicUrl>,
    /// The sites whose pages may use the API.
    pub cors: CorsOrigins,
    /// The proxies whose `X-Forwarded-…` headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    OurPage,
    /// A page of a site that the operator allows to use the API.
    LetIn,
    OtherSite,
    /// A program, or a browser that sends no usable information.
    Unsaid,
}

/// The request's headers, and the address that its connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) peer: IpAddr,
}

impl Origins {
    /// Without an `Origin` that agrees, only `same-origin` and `none` are believed: a page on another port of the
    /// same host is `same-site`, and an unknown value proves nothing.
    pub(super) fn sender(&self, sent: Sent<'_>) -> Sender {
        let site = sent.headers.get("sec-fetch-site").map(|site| site.to_str().unwrap_or_default());
        match site {
            Some("same-origin") => Sender::OurPage,
            // From the address bar or a bookmark.
            Some("none") => Sender::Unsaid,
            Some(_) | None => match self.by_origin(sent) {
                Sender::Unsaid if site.is_some() => Sender::OtherSite,
                // One name may lead to two servers: the browser's `Sec-Fetch-Site` takes precedence.
                Sender::OurPage if site == Some("cross-site") => Sender::OtherSite,
                sender => sender,
            },
        }
    }

    fn by_origin(&self, sent: Sent<'_>) -> Sender {
        let mut origins = sent.headers.get_all(header::ORIGIN).iter().map(|origin| origin.to_str().unwrap_or_default());
        let Some(first) = origins.next() else { return Sender::Unsaid };
        if origins.any(|other| other != first) {
            return Sender::OtherSite;
        }
        let public = self.public_url.as_ref();
        // For the public URL the scheme is also known; any other name may be used with or without TLS.
        let is_our_name = host_of(first).is_some_and(|origin| {
            public.is_none_or(|url| url.host() != origin) && self.names(sent).any(|name| name == origin)
        });
        if is_our_name || public.is_some_and(|url| url.origin() == first) {
            Sender::OurPage
        } else if self.cors.has(first) {
            Sender::LetIn
        } else {
            Sender::OtherSite
        }
    }

    /// The names that the request gives for the server, with a port if included: a proxy may use a name other than
    /// the browser's, and forward the browser's. A value that is not text matches no known name.
    fn names<'a>(&self, Sent { headers, peer }: Sent<'a>) -> impl Iterator<Item = Cow<'a, str>> {
        let forwarded = self.trusts(peer).then(|| headers.get_all("x-forwarded-host"));
        let forwarded = forwarded.into_iter().flatten().map(|hosts| match String::from_utf8_lossy(hosts.as_bytes()) {
            Cow::Borrowed(hosts) => Cow::Borrowed(hosts.split(',').next().unwrap_or_default().trim()),
            unreadable @ Cow::Owned(_) => unreadable,
        });
        let asked = headers.get_all(header::HOST).iter().map(|host| String::from_utf8_lossy(host.as_bytes()));
        // Browsers always send a `Host`; very old programs may not.
        asked.chain(forwarded).filter(|name| !name.is_empty())
    }

    fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&peer))
    }

    /// The client's address: the connection's peer or, if that is a trusted proxy, the client that it forwards for.
    /// Each proxy appends the address that it was called from to the list; anything before an untrusted address may
    /// be forged.
    pub(super) fn client(&self, Sent { headers, peer }: Sent<'_>) -> IpAddr {
        let lists = headers.get_all("x-forwarded-for").iter().filter_map(|list| list.to_str().ok());
        let hops: Vec<_> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            if !self.trusts(client) {
                break;
            }
            let Some(address) = address_of(hop) else { break };
            client = address.to_canonical();
        }
        client
    }

    /// The name that a request uses for this server, if it may belong to another site.
    ///
    /// A site that points its own name at this server's address has the same origin (DNS rebinding). So if a browser
    /// sends an `Origin`, its name must be a known one even if any `Host` is accepted.
    pub(super) fn unknown_name<'a>(&self, sent: Sent<'a>) -> Option<Cow<'a, str>> {
        let is_any_accepted = !self.is_loopback && self.hosts.is_empty() && self.public_url.is_none();
        let origin = text(sent.headers, "origin").and_then(host_of);
        self.names(sent).find(|name| match read_host(name) {
            Some(host) => (!is_any_accepted || origin == Some(name)) && !self.knows(&host),
            None => true,
        })
    }

    /// Whether no other site can have this name: the operator configured it, or it is an address, `localhost` or has
    /// no dot.
    fn knows(&self, host: &Host) -> bool {
        let Host::Domain(name) = host else { return true };
        let name = name.trim_end_matches('.');
        let public = self.public_url.as_ref().and_then(|url| read_host(url.host()));
        let is_local = !name.contains('.') || name.ends_with(".localhost");
        is_local || public.as_ref() == Some(host) || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// The host in a `Host` header, as browsers parse it: a name in lower case, an address in any notation. `None` for a
/// value that no browser would send.
fn read_host(text: &str) -> Option<Host> {
    let is_plain = |c: char| c.is_ascii_graphic() && !"/?#@\\".contains(c);
    let url = text.chars().all(is_plain).then(|| Url::parse(&format!("http://{text}/")).ok()).flatten()?;
    url.host().map(|host| host.to_owned())
}

/// Parses an address as proxies write it: bare, with a port, or as the host of a URL.
fn address_of(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    hop.parse().ok().or_else(with_port).or_else(in_brackets)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The host and port of an origin such as `https://flotilla.example:3000`.
fn host_of(origin: &str) -> Option<&str> {
    let (scheme, host) = origin.split_once("://")?;
    matches!(scheme, "http" | "https").then_some(host)
}

/// Shared by all requests.
pub(super) type SharedOrigins = Arc<Origins>;

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 9, 9));

    fn sent(headers: &HeaderMap) -> Sent<'_> {
        Sent { headers, peer: CLIENT }
    }

    /// Known by these names, and listening only on loopback or not.
    fn known_as(hosts: &[&str], is_loopback: bool) -> Origins {
        Origins { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), is_loopback, ..Origins::default() }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn an_origin_that_is_no_text_is_another_sites() {
        let mut headers = headers(&[("host", "flotilla.example")]);
        headers.insert(header::ORIGIN, HeaderValue::from_bytes(b"http://flotilla.example\xff").unwrap());
        assert_eq!(Origins::default().sender(sent(&headers)), Sender::OtherSite);
    }

    #[test]
    fn where_any_host_is_answered_an_origin_still_has_to_be_known() {
        let any = known_as(&[], false);
        let is_refused = |host: &'static str, origin: &'static str| {
            any.unknown_name(sent(&headers(&[("host", host), ("origin", origin)]))).is_some()
        };
        // A site that pointed its name at this server's address: the same origin, to the browser.
        assert!(is_refused("evil.example:3000", "http://evil.example:3000"));
        assert!(!is_refused("10.0.0.1:3000", "http://10.0.0.1:3000"));
        assert!(!is_refused("localhost:3000", "http://localhost:3000"));
        assert!(!is_refused("flotilla:3000", "http://flotilla:3000"));
        assert_eq!(any.unknown_name(sent(&headers(&[("host", "flotilla.example")]))), None, "a program");
    }

    #[test]
    fn a_browser_says_where_a_request_comes_from() {
        let host = ("host", "flotilla.example:3000");
        for (pairs, expected) in [
            (vec![], Sender::Unsaid),
            (vec![host], Sender::Unsaid),
            (vec![("sec-fetch-site", "same-origin")], Sender::OurPage),
            (vec![("sec-fetch-site", "same-site")], Sender::OtherSite),
            (vec![("sec-fetch-site", "something-new")], Sender::OtherSite),
            (vec![("sec-fetch-site", "")], Sender::OtherSite),
            (vec![("sec-fetch-site", "Same-Origin")], Sender::OtherSite),
            // A page on another port of the same host, which a check of names can't distinguish.
            (
                vec![host, ("sec-fetch-site", "same-site"), ("origin", "http://flotilla.example:8000")],
                Sender::OtherSite,
            ),
            (vec![host, ("sec-fetch-site", "same-site"), ("origin", "http://flotilla.example:3000")], Sender::OurPage),
            (
                vec![host, ("origin", "http://flotilla.example:3000"), ("origin", "http://evil.example")],
                Sender::OtherSite,
            ),
            (vec![host, ("origin", "flotilla.example:3000")], Sender::OtherSite),
            (vec![("sec-fetch-site", "none")], Sender::Unsaid),
            (vec![("sec-fetch-site", "cross-site")], Sender::OtherSite),
            // The more trustworthy of the two takes precedence.
            (
                vec![host, ("sec-fetch-site", "cross-site"), ("origin", "http://flotilla.example:3000")],
                Sender::OtherSite,
            ),
            (vec![host, ("origin", "http://flotilla.example:3000")], Sender::OurPage),
            (vec![host, ("origin", "https://flotilla.example:3000")], Sender::OurPage),
            (vec![host, ("origin", "http://flotilla.example")], Sender::OtherSite),
            (vec![host, ("origin", "app://flotilla.example:3000")], Sender::OtherSite),
            (vec![host, ("origin", "http://evil.example")], Sender::OtherSite),
            (vec![host, ("origin", "null")], Sender::OtherSite),
            (vec![("host", ""), ("origin", "http://")], Sender::OtherSite),
        ] {
            assert_eq!(Origins::default().sender(sent(&headers(&pairs))), expected, "{pairs:?}");
        }
    }

    #[test]
    fn on_loopback_alone_only_known_names_are_answered() {
        let is_known =
            |origins: &Origins, host: &'static str| origins.unknown_name(sent(&headers(&[("host", host)]))).is_none();
        let (loopback, with_name, anywhere) =
            (known_as(&[], true), known_as(&["Flotilla.example"], false), known_as(&[], false));
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
        for headers in [HeaderMap::new(), headers(&[("host", "")])] {
            assert_eq!(loopback.unknown_name(sent(&headers)), None, "a program of the oldest kind");
        }
    }

    #[test]
    fn what_no_browser_would_send_as_a_host_is_no_name_that_is_known() {
        let is_known = |headers: &HeaderMap| {
            [known_as(&[], true), known_as(&["flotilla.example"], false), known_as(&[], false)]
                .map(|origins| origins.unknown_name(sent(headers)).is_none())
        };
        for host in [
            "evil:80:80",
            "localhost:x",
            "localhost:99999",
            "user@localhost",
            "localhost/",
            "localhost?evil.example",
            "localhost#",
            "evil.example\\@localhost",
            "local host",
            "[::1",
            "::1",
            "[evil.example]",
            ":80",
            "\u{202e}localhost",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_bytes(host.as_bytes()).unwrap());
            assert_eq!(is_known(&headers), [false; 3], "{host}");
        }
        let mut no_text = HeaderMap::new();
        no_text.insert(header::HOST, HeaderValue::from_bytes(b"localhost\xff").unwrap());
        assert_eq!(is_known(&no_text), [false; 3]);
        // With several, each must be known.
        for second in ["evil.example", "evil:80:80"] {
            let mut twice = headers(&[("host", "flotilla.example")]);
            twice.append(header::HOST, HeaderValue::from_static(second));
            assert!(known_as(&["flotilla.example"], true).unknown_name(sent(&twice)).is_some(), "{second}");
        }
        let trusting =
            Origins { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..known_as(&["tools.example"], true) };
        let hosts = ["tools.example", "evil.example"].map(|host| ("x-forwarded-host", host));
        assert_eq!(trusting.unknown_name(sent(&headers(&hosts))).as_deref(), Some("evil.example"));
    }

    #[test]
    fn a_proxy_is_believed_only_where_it_is_trusted() {
        let trusting = Origins { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Origins::default() };
        let headers = headers(&[
            ("host", "127.0.0.1:3000"),
            ("x-forwarded-host", "flotilla.example, x"),
            ("origin", "https://flotilla.example"),
            ("x-forwarded-for", "1.1.1.1, 203.0.113.7, 10.0.0.2"),
        ]);
        assert_eq!(trusting.sender(sent(&headers)), Sender::OurPage);
        assert_eq!(Origins::default().sender(sent(&headers)), Sender::OtherSite);
        // The addresses before the first one not added by a trusted proxy may be forged.
        assert_eq!(trusting.client(sent(&headers)), IpAddr::from([203, 0, 113, 7]));
        assert_eq!(Origins::default().client(sent(&headers)), CLIENT);
    }

    #[test]
    fn a_client_is_found_behind_any_number_of_trusted_proxies() {
        let networks = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"];
        let networks = networks.map(|text| text.parse().or_else(|_| text.parse().map(IpAddr::into)).unwrap());
        let trusting = Origins { trusted_proxies: networks.to_vec(), ..Origins::default() };
        let client = |peer: &str, lists: &[&'static str]| {
            let pairs: Vec<_> = lists.iter().map(|list| ("x-forwarded-for", *list)).collect();
            let peer = peer.parse().unwrap();
            trusting.client(Sent { headers: &headers(&pairs), peer }).to_string()
        };
        for (peer, lists, expected) in [
            ("10.0.0.1", &[][..], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
            // A chain, in one header or in several, whose first part the client forged.
            ("10.0.0.1", &["6.6.6.6, 203.0.113.7, 192.0.2.1, 10.9.9.9"], "203.0.113.7"),
            ("10.0.0.1", &["6.6.6.6", "203.0.113.7,192.0.2.1", " 10.9.9.9 "], "203.0.113.7"),
            // All addresses are proxies: the start of the chain counts.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // IPv6, bare, in brackets, with a port; and IPv4 within it.
            ("::1", &["2a00::7, 2001:db8::5"], "2a00::7"),
            ("::1", &["[2a00::7]:4711, [2001:db8::5]"], "2a00::7"),
            ("2001:db8::1", &["::ffff:203.0.113.7, ::ffff:10.0.0.1"], "203.0.113.7"),
            ("10.0.0.1", &["203.0.113.7:4711"], "203.0.113.7"),
            // A value that is not an address ends the chain at the proxy that wrote it.
            ("10.0.0.1", &["203.0.113.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7, _hidden, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.7, "], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.7:99999"], "10.0.0.1"),
            ("10.0.0.1", &["[203.0.113.7]"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.0/24"], "10.0.0.1"),
            // Not a trusted proxy.
            ("203.0.113.9", &["10.0.0.2"], "203.0.113.9"),
            ("2a00::9", &["::1"], "2a00::9"),
        ] {
            assert_eq!(client(peer, lists), expected, "{peer} {lists:?}");
        }
        let mut no_text = HeaderMap::new();
        no_text.append("x-forwarded-for", HeaderValue::from_bytes(b"203.0.113.7, \xff").unwrap());
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(trusting.client(Sent { headers: &no_text, peer }), peer);
    }

    #[test]
    fn a_name_that_a_trusted_proxy_was_asked_by_has_to_be_known_as_well() {
        let origins =
            Origins { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..known_as(&["tools.example"], true) };
        for (forwarded, expected) in [
            ("tools.example", None),
            ("tools.example:8443, inner", None),
            ("evil.example", Some("evil.example")),
            ("evil.example, tools.example", Some("evil.example")),
        ] {
            let headers = headers(&[("host", "127.0.0.1:3000"), ("x-forwarded-host", forwarded)]);
            assert_eq!(origins.unknown_name(sent(&headers)).as_deref(), expected, "{forwarded}");
            let stranger = Sent { headers: &headers, peer: [203, 0, 113, 9].into() };
            assert_eq!(origins.unknown_name(stranger), None, "what others say is not looked at: {forwarded}");
        }
    }

    #[test]
    fn the_public_address_is_ours_and_sites_that_are_let_in_may_use_the_api() {
        let origins = Origins {
            public_url: Some("https://tools.example/flotilla/".parse().unwrap()),
            cors: CorsOrigins::These(vec!["https://ui.example".to_owned()]),
            ..known_as(&[], true)
        };
        for (origin, site, expected) in [
            ("https://tools.example", "same-site", Sender::OurPage),
            ("http://tools.example", "same-site", Sender::OtherSite),
            ("https://ui.example", "cross-site", Sender::LetIn),
            ("https://ui.example:444", "cross-site", Sender::OtherSite),
            ("https://ui.example.evil.example", "cross-site", Sender::OtherSite),
            ("null", "cross-site", Sender::OtherSite),
        ] {
            let headers = headers(&[("host", "127.0.0.1:3000"), ("origin", origin), ("sec-fetch-site", site)]);
            assert_eq!(origins.sender(sent(&headers)), expected, "{origin}");
        }
        let under_its_name = |origin| headers(&[("host", "tools.example"), ("origin", origin)]);
        assert_eq!(origins.sender(sent(&under_its_name("http://tools.example"))), Sender::OtherSite);
        assert_eq!(origins.sender(sent(&under_its_name("https://tools.example"))), Sender::OurPage);
        assert_eq!(origins.unknown_name(sent(&headers(&[("host", "tools.example")]))), None);
        let any = Origins { cors: CorsOrigins::Any, ..Origins::default() };
        assert_eq!(any.sender(sent(&headers(&[("host", "h"), ("origin", "null")]))), Sender::LetIn);
    }
}

//! How browsers reach the server: its public address, and the sites whose pages may use the API.

use std::str::FromStr;

use url::Url;

/// The sites whose pages may use the API from a browser.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    #[default]
    None,
    /// Such as `https://tools.example`.
    These(Vec<String>),
    Any,
}

impl CorsOrigins {
    /// `*`, or origins as browsers write them.
    pub fn parse(origins: Vec<String>) -> Result<Self, String> {
        if origins.is_empty() {
            return Ok(Self::None);
        }
        if origins.iter().any(|origin| origin == "*") {
            return match origins.len() {
                1 => Ok(Self::Any),
                _ => Err("must be `*` alone or origins: those may send credentials, which `*` never allows".to_owned()),
            };
        }
        let wrong = |origin: &&String| !origin.parse::<PublicUrl>().is_ok_and(|url| url.origin() == **origin);
        match origins.iter().find(wrong) {
            Some(wrong) => Err(format!(
                "must be origins such as https://tools.example, in small letters and without a path, not {wrong:?}"
            )),
            None => Ok(Self::These(origins)),
        }
    }

    #[must_use]
    pub fn has(&self, origin: &str) -> bool {
        match self {
            Self::None => false,
            Self::These(origins) => origins.iter().any(|known| known == origin),
            Self::Any => true,
        }
    }
}

/// The first segments of the server's own paths. A proxy's path prefix can't begin with one of them: it would be
/// impossible to distinguish a request that has the prefix from one that had it removed.
const OWN_SEGMENTS: [&str; 11] = ["api", "clusters", "docs", "groups", "health", "tags", "ui", "v1", "v2", "v4", "v6"];

/// Such as `https://tools.example/flotilla`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    /// The scheme, the host, and the port unless it is the scheme's default, as browsers write an `Origin`.
    origin: String,
    /// Where the host begins in it.
    host_at: usize,
    /// Empty, or with a leading slash and no trailing one.
    base_path: String,
}

impl PublicUrl {
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Including its port, if the address has one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.origin[self.host_at..]
    }

    #[must_use]
    pub fn base_path(&self) -> &str {
        &self.base_path
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let needed = || format!("must be an address such as https://tools.example/flotilla/, not {text:?}");
        let url: Url = text.parse().map_err(|_| needed())?;
        // Anything that is parsed differently from how it reads is a mistake: a backslash, white space, a path with
        // `..`.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_~:/[]".contains(c);
        let (_, rest) = text.split_once("://").ok_or_else(needed)?;
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        let base_path = url.path().trim_end_matches('/');
        let is_as_written = url.path().strip_prefix('/') == Some(path) && !base_path.contains("//");
        if !matches!(url.scheme(), "http" | "https") || !text.chars().all(is_plain) || !is_as_written {
            return Err(needed());
        }
        if let Some(own) = base_path.split('/').nth(1).filter(|first| OWN_SEGMENTS.contains(first)) {
            return Err(format!("must not have a path that begins with /{own}, as paths of the server's own do"));
        }
        let origin = url.origin().ascii_serialization();
        Ok(Self { origin, host_at: url.scheme().len() + 3, base_path: base_path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_as_browsers_do() {
        for (text, origin, host, base_path) in [
            ("https://Tools.example", "https://tools.example", "tools.example", ""),
            ("https://tools.example:443/", "https://tools.example", "tools.example", ""),
            ("http://tools.example:8080/a/b/", "http://tools.example:8080", "tools.example:8080", "/a/b"),
            ("http://127.1:8080", "http://127.0.0.1:8080", "127.0.0.1:8080", ""),
            ("HTTP://[::1]:80/flotilla", "http://[::1]", "[::1]", "/flotilla"),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!((url.origin(), url.host(), url.base_path()), (origin, host, base_path), "{text}");
        }
        for text in [
            "",
            "tools.example",
            "ftp://x",
            "https://",
            "https://x?y",
            "https://x/#a",
            "https://u@x",
            "https://x//y",
            "https://x/../y",
            "https://x/\"",
            "https://x y",
            "https://x/ui",
            "https://x/api/below/",
            "https://:80/x",
            "https://x:99999",
            "https://x:80:80/",
            "https://x:port",
            "https://[::1/x",
            "https://::1/x",
            "https://[::g]/",
            "https:///x",
            "https:x",
            "https://x\\y",
            "https://x/.",
            "https://256.1.1.1/",
            "https://a..b:/y z",
        ] {
            assert!(text.parse::<PublicUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn origins_are_what_browsers_write() {
        let parse = |origins: &[&str]| CorsOrigins::parse(origins.iter().map(|origin| (*origin).to_owned()).collect());
        assert_eq!(parse(&[]), Ok(CorsOrigins::None));
        assert_eq!(parse(&["*"]), Ok(CorsOrigins::Any));
        assert!(parse(&["https://a.example", "http://localhost:5173"]).unwrap().has("http://localhost:5173"));
        for wrong in [
            &["*", "https://a.example"][..],
            &["a.example"],
            &["https://a.example/"],
            &["null"],
            &["https://A.example"],
            &["https://a.example:443"],
            &["https://a.example:99999"],
            &["https://:80"],
            &["https://[::1"],
            &["https://u@a.example"],
            &[""],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}

//! Styles, scripts and icons: embedded in the binary, at URLs that change with their content, so that browsers can
//! cache them permanently.
//!
//! All share one version, a hash over all of them. So modules import one another by relative URLs, and no build step
//! is needed.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::http::base::at;
use crate::http::error::ApiError;
use crate::http::request::InPath;

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

macro_rules! assets {
    ($($name:literal: $kind:ident),+ $(,)?) => {
        &[$(($name, $kind, include_bytes!(concat!("../../../assets/", $name)))),+]
    };
}

/// Each with its content type.
const ASSETS: &[(&str, &str, &[u8])] = assets![
    "app.css": STYLE,
    "app.js": SCRIPT,
    "clock.js": SCRIPT,
    "confirm.js": SCRIPT,
    "current.js": SCRIPT,
    "forms.js": SCRIPT,
    "hub.js": SCRIPT,
    "icon.svg": IMAGE,
    "icons.svg": IMAGE,
    "keys.js": SCRIPT,
    "live.js": SCRIPT,
    "log-lines.js": SCRIPT,
    "log-search.js": SCRIPT,
    "log.js": SCRIPT,
    "news.js": SCRIPT,
    "palette.js": SCRIPT,
    "paste.js": SCRIPT,
    "poll.js": SCRIPT,
    "root.js": SCRIPT,
    "send.js": SCRIPT,
];

/// Number of hash characters in a URL: enough that no two versions collide by accident.
const VERSION_CHARS: usize = 12;

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = Sha256::new();
    for (name, kind, bytes) in ASSETS {
        for part in [name.as_bytes(), kind.as_bytes(), bytes] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    let mut version = hasher.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string works");
        text
    });
    version.truncate(VERSION_CHARS);
    version
});

/// Equal for equal assets.
pub(super) fn version() -> &'static str {
    &VERSION
}

/// The URL of an asset.
pub(super) fn address(name: &str) -> String {
    debug_assert!(ASSETS.iter().any(|(known, ..)| *known == name), "there is no asset {name}");
    at(&format!("/ui/assets/{}/{name}", *VERSION))
}

pub(super) async fn serve(
    InPath((version, name)): InPath<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let asset = ASSETS.iter().find(|(known, ..)| *known == name);
    let (_, kind, bytes) = asset.ok_or_else(|| ApiError::no_route(&request))?;
    // A page from another version of the server gets the current asset, uncached, so it asks again next time.
    let caching = if version == *VERSION { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
    ];
    Ok((StatusCode::OK, headers, *bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_in_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/assets");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let mut served: Vec<_> = ASSETS.iter().map(|(name, ..)| (*name).to_owned()).collect();
        files.sort();
        served.sort();
        assert_eq!(served, files);
    }
}

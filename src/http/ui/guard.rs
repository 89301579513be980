//! Middleware around every page: accepts forms only from our own pages, turns refusals into pages, and sets the
//! headers that restrict what a page may do.
//!
//! **Forms.** A request that changes something is carried out only if the browser says that one of our pages sent it
//! ([`Sender`]). A request without that information does not come from a browser of this decade; it is refused, since
//! programs have the API. So no token is needed that would have to be stored, signed and renewed. For this to work,
//! pages must not be served with `Referrer-Policy: no-referrer`, with which browsers send `Origin: null`.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::is_page;
use super::pages::refusal;
use crate::http::error::{ApiError, Refused};
use crate::http::etag;
use crate::http::origin::{Origins, Sender, Sent, SharedOrigins};
use crate::http::serve::peer_of;

/// Pages load only their own scripts, styles and images, connect only to this server, and are not shown within other
/// sites.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
];

pub(in crate::http) async fn guard_pages(
    State(origins): State<SharedOrigins>,
    request: Request,
    next: Next,
) -> Response {
    if !is_page(request.uri().path()) {
        return next.run(request).await;
    }
    let asked = request.headers().clone();
    let is_read = request.method().is_safe();
    let sent = Sent { headers: request.headers(), peer: peer_of(request.extensions()) };
    let mut response = match guard(&origins, request.method(), sent) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    if let Some(Refused(message)) = response.extensions_mut().remove::<Refused>() {
        response = refusal::page(&response, &message);
    }
    let is_known = is_read && response.headers().get(header::ETAG).is_some_and(|tag| etag::is_known(&asked, tag));
    if response.status() == StatusCode::OK && is_known {
        // A page that looks for what is new learns that nothing is.
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_TYPE);
    }
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // The content of a page may change at any time; assets set their own caching.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    response
}

/// Refuses requests that change something and were not sent by one of our pages.
fn guard(origins: &Origins, method: &Method, sent: Sent<'_>) -> Result<(), ApiError> {
    if method.is_safe() || origins.sender(sent) == Sender::OurPage {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "the form was not sent by a page of this server, so nothing was done; programs use the API under /api",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_let_through(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let pairs =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers = pairs.collect();
        let sent = Sent { headers: &headers, peer: [127, 0, 0, 1].into() };
        guard(&Origins::default(), method, sent).is_ok()
    }

    #[test]
    fn what_only_reads_is_let_through() {
        assert!(is_let_through(&Method::GET, &[("sec-fetch-site", "cross-site")]));
        assert!(is_let_through(&Method::HEAD, &[]));
    }

    #[test]
    fn what_changes_something_must_say_that_it_comes_from_here() {
        for (site, expected) in [("same-origin", true), ("same-site", false), ("cross-site", false), ("none", false)] {
            assert_eq!(is_let_through(&Method::POST, &[("sec-fetch-site", site)]), expected, "{site}");
        }
        assert!(!is_let_through(&Method::POST, &[("host", "flotilla.example")]));
    }
}

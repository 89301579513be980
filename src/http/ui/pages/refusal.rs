//! An error page: the status, what is wrong, and what to do next.

use askama::Template;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::Response;

use crate::http::ui::parts::form::sentence;
use crate::http::ui::parts::layout;
use crate::http::ui::parts::layout::{Layout, Section};

#[derive(Template)]
#[template(path = "refusal.html")]
pub struct RefusalPage {
    layout: Layout,
    status: u16,
    title: &'static str,
    message: String,
    advice: &'static str,
}

impl RefusalPage {
    fn new(status: StatusCode, message: String) -> Self {
        let (title, advice) = words(status);
        Self { layout: Layout::new(Section::None), status: status.as_u16(), title, message, advice }
    }

    #[cfg(test)]
    pub fn sample() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no task definition <b>x</b>".to_owned())
    }
}

/// Replaces an error response by a page with the same status and the headers that clients act on.
pub fn page(refused: &Response, message: &str) -> Response {
    let mut response = layout::html_with(refused.status(), &RefusalPage::new(refused.status(), sentence(message)));
    let heeded = [header::RETRY_AFTER, header::ALLOW, HeaderName::from_static("x-request-id")];
    for name in heeded {
        if let Some(value) = refused.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// The title, and what to do next.
fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::NOT_FOUND => (
            "There is nothing here",
            "It may have been deleted, or the address may be misspelt. The lists show what there is.",
        ),
        StatusCode::FORBIDDEN => ("Not done", "Go back, reload the page, and send the form from there."),
        StatusCode::CONFLICT => ("Changed in the meantime", "Go back, reload the page, and try again."),
        StatusCode::METHOD_NOT_ALLOWED => ("This can't be done here", "Go to the page itself, and use what it offers."),
        StatusCode::PAYLOAD_TOO_LARGE => ("Too large", "Go back and shorten what you sent."),
        StatusCode::SERVICE_UNAVAILABLE => ("Not available now", "Wait a little and reload the page."),
        StatusCode::INSUFFICIENT_STORAGE => ("The disk is full", "Nothing was stored. Tell the server's operator."),
        status if status.is_server_error() => {
            ("The server failed", "Reload the page. If it fails again, tell the server's operator.")
        }
        _ => ("This can't be read", "Go back and correct it; the message says what is wrong."),
    }
}

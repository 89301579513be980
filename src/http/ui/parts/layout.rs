//! What all pages share: head, navigation and footer; and the conversion of a page into a response.

use askama::Template;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::base::at;
use crate::http::etag;
use crate::http::ui::assets;

/// The part of the navigation that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Overview,
    Tasks,
    Runs,
    Clusters,
    /// A page outside the sections.
    None,
}

impl Section {
    /// The sections in navigation order: the section, its path, its name.
    pub const ALL: &[(Self, &str, &str)] = &[
        (Self::Overview, "/ui", "Overview"),
        (Self::Tasks, "/ui/tasks", "Tasks"),
        (Self::Runs, "/ui/runs", "Runs"),
        (Self::Clusters, "/ui/clusters", "Clusters"),
    ];
}

/// What the layout template needs.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    section: Section,
}

impl Layout {
    pub const fn new(section: Section) -> Self {
        Self { section }
    }

    #[expect(clippy::unused_self, reason = "templates call what they are given")]
    pub fn asset(self, name: &str) -> String {
        assets::address(name)
    }

    /// The URL for this path.
    #[expect(clippy::unused_self, reason = "templates call what they are given")]
    pub fn at(self, path: &str) -> String {
        at(path)
    }

    #[expect(clippy::unused_self, reason = "templates call what they are given")]
    pub fn version(self) -> &'static str {
        assets::version()
    }

    #[expect(clippy::unused_self, reason = "templates call what they are given")]
    pub const fn sections(self) -> &'static [(Section, &'static str, &'static str)] {
        Section::ALL
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "templates pass references")]
    pub fn is_in(self, section: &Section) -> bool {
        self.section == *section
    }
}

/// A 200 response with a page.
pub fn html(page: &impl Template) -> Response {
    html_with(StatusCode::OK, page)
}

pub fn html_with(status: StatusCode, page: &impl Template) -> Response {
    let html = render(page).expect("templates write to memory, and no filter of ours fails");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::ETAG, etag::weak(&html)),
    ];
    (status, headers, Body::from(html)).into_response()
}

pub fn render(page: &impl Template) -> askama::Result<String> {
    page.render()
}

//! A page as a browser without scripts sees it, and the forms that such a browser sends.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use form_urlencoded::Serializer;
use http_body_util::BodyExt;

use crate::world::World;

/// A browser knows one kind of line break.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

pub fn unescaped(html: &str) -> String {
    let entities = [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    entities.iter().fold(html.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

#[derive(Debug)]
pub struct Page {
    pub status: u16,
    pub headers: HeaderMap,
    pub html: String,
}

impl World {
    pub async fn page(&self, path: &str) -> Page {
        let page = self.visit(Request::get(path).body(Body::empty()).unwrap()).await;
        assert!(page.header("content-type").starts_with("text/html"), "{path}: {page:?}");
        page
    }

    /// A form, sent by a page of this server.
    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(path)
            .header("host", "flotilla.test")
            .header("origin", "http://flotilla.test")
            .header("content-type", "application/x-www-form-urlencoded");
        self.visit(request.body(body.into()).unwrap()).await
    }

    pub async fn visit(&self, request: Request<Body>) -> Page {
        let (parts, body) = self.request(request).await.into_parts();
        let html = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Page { status: parts.status.as_u16(), headers: parts.headers, html }
    }
}

impl Page {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("there is no header {name}: {self:?}")).to_str().unwrap()
    }

    #[track_caller]
    pub fn has(&self, text: &str) -> &Self {
        assert!(self.html.contains(text), "{text:?} is missing in {}", self.html);
        self
    }

    #[track_caller]
    pub fn lacks(&self, text: &str) -> &Self {
        assert!(!self.html.contains(text), "{text:?} is in {}", self.html);
        self
    }

    #[track_caller]
    pub fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{}", self.html);
        self
    }

    /// The variables of a form, as a browser sends them that changed none.
    pub fn variables(&self) -> Vec<(String, String)> {
        let names = self.between("<input name=\"env_name\" value=\"", "\"").into_iter();
        let values = self.between("<textarea name=\"env_value\"", "</textarea>").into_iter();
        let value = |area: &str| {
            let text = area.split_once('>').unwrap().1;
            lines(&unescaped(text.strip_prefix('\n').unwrap_or(text))).replace('\n', "\r\n")
        };
        names.map(|name| lines(&unescaped(name)).replace('\n', "")).zip(values.map(value)).collect()
    }

    /// Where a form that went well leads.
    #[track_caller]
    pub fn leads_to(&self) -> String {
        self.is(303).header("location").to_owned()
    }

    /// What stands between two texts, for each time they do.
    pub fn between<'a>(&'a self, start: &str, end: &str) -> Vec<&'a str> {
        self.html.split(start).skip(1).map(|rest| rest.split(end).next().unwrap_or_default()).collect()
    }
}

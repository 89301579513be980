//! Entity tags: what lets a client that has an answer learn that it is still the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::{HeaderMap, HeaderValue, header};

/// The tag of an answer with this content, the same on every server of one version. It is a weak one, for it says
/// nothing of how the answer is compressed.
pub fn weak(content: &str) -> HeaderValue {
    value(&format!("W/{}", quoted(content)))
}

/// The same, for an answer that comes in one form only.
pub fn strong(content: &str) -> HeaderValue {
    value(&quoted(content))
}

/// Whether a request names this tag: then its sender has the answer, and 304 is enough. Compared weakly, as
/// RFC 9110, section 13.1.2, says.
pub fn is_known(request: &HeaderMap, tag: &HeaderValue) -> bool {
    let weakly = |tag: &'_ str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let Ok(tag) = tag.to_str().map(weakly) else { return false };
    let named = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).map(str::trim).any(|named| named == "*" || weakly(named) == tag)
}

fn quoted(content: &str) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn value(tag: &str) -> HeaderValue {
    HeaderValue::from_str(tag).expect("a quoted hexadecimal number is made of visible characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(named: &[&'static str]) -> HeaderMap {
        named.iter().map(|named| (header::IF_NONE_MATCH, HeaderValue::from_static(named))).collect()
    }

    #[test]
    fn a_tag_is_known_alone_among_others_and_in_either_strength() {
        for tag in ["\"a\"", "W/\"a\""].map(HeaderValue::from_static) {
            for named in [&["\"a\""][..], &["W/\"a\""], &["*"], &["\"b\", W/\"a\""], &["\"b\"", "\"a\""]] {
                assert!(is_known(&request(named), &tag), "{named:?}");
            }
            for named in [&[][..], &["\"b\""], &["a"], &["\"aa\""], &[""]] {
                assert!(!is_known(&request(named), &tag), "{named:?}");
            }
        }
    }

    #[test]
    fn tags_are_the_same_for_the_same_content_only() {
        assert_eq!(weak("a page"), weak("a page"));
        assert_ne!(weak("a page"), weak("another"));
        assert_ne!(weak("a page"), strong("a page"));
        assert!(is_known(&HeaderMap::from_iter([(header::IF_NONE_MATCH, weak("a"))]), &strong("a")));
    }
}

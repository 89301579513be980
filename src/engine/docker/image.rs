//! Image names as sent to the daemon and as the daemon reports them.

use crate::engine::EngineError;
use crate::model::ImageReference;

/// The task's image with its effective tag. A definition stored before images were validated on input may hold an
/// invalid one: [`EngineError::Rejected`].
pub(super) fn of_task(text: &str) -> Result<ImageReference, EngineError> {
    match text.parse::<ImageReference>() {
        Ok(image) => Ok(image.with_tag()),
        Err(error) => Err(EngineError::Rejected(format!("image `{text}` can't be used, for it {error}"))),
    }
}

/// A name as a part of a URL's path, because bollard inserts names unescaped. Whatever the name contains, the path
/// refers to this object and no other: a name that could lead elsewhere is encoded completely.
pub(super) fn in_path(name: &str) -> String {
    let climbs = name.split('/').any(|part| matches!(part, "" | "." | ".."));
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'-' | b':' | b'@')
            || (!climbs && matches!(byte, b'/' | b'.'))
    };
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        if is_plain(byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// The repository without its tag or digest.
fn repository_of(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let tag = name.rfind(':').filter(|colon| !name[*colon..].contains('/'));
    tag.map_or(name, |colon| &name[..colon])
}

/// Of all the digests by which registries know an image, the one of the requested repository: it allows running the
/// same image again.
pub(super) fn digest_of(image: &str, repo_digests: &[String]) -> Option<String> {
    let repository = repository_of(image);
    // Docker reports names of its own hub without the host, even if the task includes it.
    let is_same = |digest: &&String| {
        let known = repository_of(digest);
        known == repository
            || ["docker.io/library/", "docker.io/"].iter().any(|hub| repository.strip_prefix(hub) == Some(known))
    };
    repo_digests.iter().find(is_same).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_leaves_its_place_in_a_path() {
        for (name, expected) in [
            ("busybox:1", "busybox:1"),
            ("localhost:5000/a/b@sha256:00", "localhost:5000/a/b@sha256:00"),
            ("[::1]:5000/a", "%5B::1%5D:5000/a"),
            ("../containers/NAME/json?a=:x", "%2E%2E%2Fcontainers%2FNAME%2Fjson%3Fa%3D:x"),
            ("a/./b", "a%2F%2E%2Fb"),
            ("a#b%2f", "a%23b%252f"),
            ("ä", "%C3%A4"),
        ] {
            assert_eq!(in_path(name), expected);
        }
    }

    #[test]
    fn what_is_no_image_is_rejected_before_the_daemon_hears_of_it() {
        assert_eq!(of_task("busybox").unwrap().to_string(), "busybox:latest");
        let EngineError::Rejected(reason) = of_task("../containers/NAME/json").unwrap_err() else { panic!("for good") };
        assert!(reason.contains("`../containers/NAME/json`"), "{reason}");
    }

    #[test]
    fn the_digest_is_that_of_the_repository_asked_for() {
        let digests = ["busybox@sha256:1".to_owned(), "localhost:5000/busybox@sha256:2".to_owned()];
        for (image, expected) in [
            ("localhost:5000/busybox:1", Some("localhost:5000/busybox@sha256:2")),
            ("docker.io/library/busybox", Some("busybox@sha256:1")),
            ("other", None),
        ] {
            assert_eq!(digest_of(image, &digests).as_deref(), expected);
        }
        assert_eq!(digest_of("busybox", &[]), None);
    }
}

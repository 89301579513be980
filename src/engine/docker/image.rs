//! Image references: which registry is meant, and what Docker is asked for.

/// The registry that Docker means where an image names none.
const HUB: &str = "docker.io";

/// The image with the tag that Docker would take, for without one a pull would fetch every tag.
pub(super) fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let has_tag = image.contains('@') || last.contains(':');
    if has_tag { image.to_owned() } else { format!("{image}:latest") }
}

/// The registry's host. The first part of a reference is one where it looks like one, as Docker's own rule has it:
/// <https://pkg.go.dev/github.com/distribution/reference>.
pub(super) fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => HUB,
    }
}

/// The repository without its tag or digest.
fn repository_of(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let tag = name.rfind(':').filter(|colon| !name[*colon..].contains('/'));
    tag.map_or(name, |colon| &name[..colon])
}

/// Of all the digests by which a registry knows an image, the one of the repository that was asked for: with it the
/// same image can be run again.
pub(super) fn digest_of(image: &str, repo_digests: &[String]) -> Option<String> {
    let repository = repository_of(image);
    // Docker tells names of its own hub without its host, also where the task writes it.
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
    fn an_image_without_tag_means_latest() {
        for (image, expected) in [
            ("busybox", "busybox:latest"),
            ("busybox:1", "busybox:1"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("localhost:5000/a/b:2", "localhost:5000/a/b:2"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(with_tag(image), expected);
        }
    }

    #[test]
    fn the_registry_is_the_first_part_where_it_looks_like_a_host() {
        for (image, expected) in [
            ("busybox:1", "docker.io"),
            ("team/busybox:1", "docker.io"),
            ("localhost/busybox", "localhost"),
            ("registry.example.com/a/b:1", "registry.example.com"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000"),
        ] {
            assert_eq!(registry_of(image), expected);
        }
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

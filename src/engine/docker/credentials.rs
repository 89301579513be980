//! Registry credentials, from where `docker login` stores them: Docker's configuration file and the helper programs
//! it names. Read on each use, so that a new login takes effect at once; never logged.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::model::ImageReference;

/// The key of Docker's own hub in the file.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// How long a helper may take; it may request a token from a cloud service.
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);
/// The user name a helper returns if the secret is a token.
const TOKEN_USER: &str = "<token>";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    auths: HashMap<String, Auth>,
    creds_store: Option<String>,
    cred_helpers: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    /// `USER:PASSWORD`, in base64.
    #[serde(rename = "auth")]
    pair: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Where the credentials are.
#[derive(Debug, PartialEq)]
enum Source {
    Nowhere,
    Known(Box<DockerCredentials>),
    Helper(String),
}

/// The credentials for an image's registry, or `None` for a registry that is accessed anonymously. The error
/// describes what could not be read.
pub(super) async fn find(file: Option<&Path>, image: &ImageReference) -> Result<Option<DockerCredentials>, String> {
    let Some(path) = file.map(Path::to_owned).or_else(usual_file) else { return Ok(None) };
    let text = match tokio::fs::read(&path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => return Ok(None),
        Err(error) => return Err(format!("can't read the credentials in {}: {error}", path.display())),
    };
    let config: ConfigFile = serde_json::from_slice(&text)
        .map_err(|error| format!("can't understand the credentials in {}: {error}", path.display()))?;
    let registry = image.registry();
    let key = if registry == "docker.io" { HUB_KEY } else { registry };
    match source(&config, key) {
        Source::Nowhere => Ok(None),
        Source::Known(credentials) => Ok(Some(*credentials)),
        Source::Helper(name) => ask_helper(&format!("docker-credential-{name}"), key).await,
    }
}

fn usual_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("DOCKER_CONFIG").or_else(|| Some(folder("HOME")?.join(".docker"))).map(|folder| folder.join("config.json"))
}

/// A helper for this registry takes precedence over the helper for all, and that over the file's own credentials.
fn source(config: &ConfigFile, key: &str) -> Source {
    let helper = config.cred_helpers.get(key).or(config.creds_store.as_ref()).filter(|name| !name.is_empty());
    if let Some(name) = helper {
        return Source::Helper(name.clone());
    }
    let bare = |name: &str| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        name.split('/').next().unwrap_or(name).to_owned()
    };
    let found = config.auths.get(key).or_else(|| {
        let same_host = config.auths.iter().find(|(name, _)| bare(name) == bare(key));
        same_host.map(|(_, auth)| auth)
    });
    found.and_then(|auth| credentials(auth, key)).map_or(Source::Nowhere, |found| Source::Known(Box::new(found)))
}

fn credentials(auth: &Auth, key: &str) -> Option<DockerCredentials> {
    let decoded = auth.pair.as_deref().and_then(|text| STANDARD.decode(text).ok());
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
    let (username, password) = match pair {
        Some((username, password)) => (Some(username.to_owned()), Some(password.to_owned())),
        None => (auth.username.clone(), auth.password.clone()),
    };
    let identitytoken = auth.identitytoken.clone().filter(|token| !token.is_empty());
    (username.is_some() || identitytoken.is_some()).then(|| DockerCredentials {
        username,
        password,
        identitytoken,
        serveraddress: Some(key.to_owned()),
        ..DockerCredentials::default()
    })
}

/// Runs `docker-credential-NAME get`, which reads the registry and returns JSON:
/// <https://docs.docker.com/reference/cli/docker/login/#credential-helper-protocol>.
async fn ask_helper(program: &str, key: &str) -> Result<Option<DockerCredentials>, String> {
    let failed = |what: &str| format!("can't get the credentials for {key} from {program}: {what}");
    let ask = async {
        let mut child = Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(key.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(HELPER_TIMEOUT, ask).await.map_err(|_| failed("it takes too long"))?;
    let output = output.map_err(|error| failed(&error.to_string()))?;
    let answer = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // A helper that has no credentials for the registry reports that and fails; the registry is then accessed
        // anonymously.
        let has_none = answer.contains("credentials not found");
        return if has_none { Ok(None) } else { Err(failed(answer.lines().next().unwrap_or("it failed"))) };
    }
    let answer: HelperAnswer = serde_json::from_str(&answer).map_err(|_| failed("its answer can't be understood"))?;
    let (username, password, identitytoken) = match answer.username.as_str() {
        TOKEN_USER => (None, None, Some(answer.secret)),
        _ => (Some(answer.username), Some(answer.secret), None),
    };
    let serveraddress = Some(key.to_owned());
    Ok(Some(DockerCredentials { username, password, identitytoken, serveraddress, ..DockerCredentials::default() }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn image(text: &str) -> ImageReference {
        text.parse().unwrap()
    }

    fn config(text: &str) -> ConfigFile {
        serde_json::from_str(text).unwrap()
    }

    fn known(config: &ConfigFile, key: &str) -> Option<(String, String)> {
        match source(config, key) {
            Source::Known(found) => Some((found.username.unwrap(), found.password.unwrap())),
            Source::Nowhere | Source::Helper(_) => None,
        }
    }

    #[test]
    fn credentials_are_found_under_each_way_to_write_a_registry() {
        let pair = STANDARD.encode("ada:se:cret");
        let config = config(&format!(
            r#"{{ "auths": {{ "https://one.example.com/v1/": {{ "auth": "{pair}" }}, "two.example.com:5000": {{ "username": "u", "password": "p" }} }} }}"#
        ));
        let ada = Some(("ada".to_owned(), "se:cret".to_owned()));
        assert_eq!(known(&config, "one.example.com"), ada);
        assert_eq!(known(&config, "two.example.com:5000"), Some(("u".to_owned(), "p".to_owned())));
        assert_eq!(known(&config, "two.example.com"), None);
    }

    #[test]
    fn a_helper_for_the_registry_goes_before_the_one_for_all() {
        let config = config(r#"{ "auths": { "a": {} }, "credsStore": "all", "credHelpers": { "a": "of-a" } }"#);
        assert_eq!(source(&config, "a"), Source::Helper("of-a".to_owned()));
        assert_eq!(source(&config, "b"), Source::Helper("all".to_owned()));
    }

    #[tokio::test]
    async fn a_helper_is_asked_for_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("docker-credential-test");
        let script = "#!/bin/sh\nread -r host || true\n\
            case $host in a) echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}';; *) echo credentials not found in native keychain; exit 1;; esac\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let ask = async |key| ask_helper(program.to_str().unwrap(), key).await;
        assert_eq!(ask("a").await.unwrap().unwrap().identitytoken.as_deref(), Some("t"));
        assert_eq!(ask("b").await.unwrap(), None);
        let error = ask_helper("docker-credential-that-is-not-there", "a").await.unwrap_err();
        assert!(error.contains("docker-credential-that-is-not-there"), "{error}");
    }

    #[tokio::test]
    async fn no_file_means_no_credentials_but_a_named_one_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("config.json");
        assert!(find(Some(&missing), &image("a/b")).await.unwrap_err().contains("config.json"));
        std::fs::write(&missing, r#"{ "auths": { "h.example.com": { "auth": "YTpi" } } }"#).unwrap();
        let found = find(Some(&missing), &image("h.example.com/x:1")).await.unwrap().unwrap();
        assert_eq!((found.username.as_deref(), found.password.as_deref()), (Some("a"), Some("b")));
        assert!(find(Some(&missing), &image("x:1")).await.unwrap().is_none());
    }
}

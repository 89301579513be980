//! The servers that an address names. `postgres://user@first:5432,second/flotilla` names two: the one that accepts
//! writes is used, as libpq does with `target_session_attrs=read-write`.

use sqlx::postgres::PgConnectOptions;

use super::StoreError;

/// Accepted values of `target_session_attrs`: we need a server that accepts writes in any case.
const WRITABLE: [&str; 3] = ["read-write", "primary", "any"];

/// One server, and how to connect to it.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// Host and port, without credentials.
    pub(super) name: String,
    pub(super) options: PgConnectOptions,
}

/// Parses an address. An error never contains the address itself, which may include a password.
pub(super) fn servers(url: &str) -> Result<Vec<Server>, StoreError> {
    let invalid = |reason: &str| StoreError::Unusable(format!("its address can't be understood: {reason}"));
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (credentials, hosts) = authority.rsplit_once('@').map_or(("", authority), |(credentials, hosts)| {
        // Including its `@`.
        (&authority[..=credentials.len()], hosts)
    });
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut parameters = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.strip_prefix("target_session_attrs=") {
            Some(wanted) if !WRITABLE.contains(&wanted) => {
                return Err(invalid(&format!(
                    "target_session_attrs={wanted} asks for a server that can't be written to"
                )));
            }
            Some(_) => {}
            None => parameters.push(parameter),
        }
    }
    let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
    hosts
        .split(',')
        .map(|host| {
            let options: PgConnectOptions =
                format!("{scheme}://{credentials}{host}{path}{query}").parse().map_err(|error: sqlx::Error| {
                    let errors = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                    invalid(&errors.last().map(ToString::to_string).unwrap_or_default())
                })?;
            Ok(Server { name: format!("{}:{}", options.get_host(), options.get_port()), options })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(url: &str) -> Vec<String> {
        servers(url).unwrap().into_iter().map(|server| server.name).collect()
    }

    #[test]
    fn an_address_may_name_several_servers() {
        assert_eq!(names("postgres://h/d"), ["h:5432"]);
        assert_eq!(names("postgres://u:p@a:1,b:2,[::1]:3/d?sslmode=disable"), ["a:1", "b:2", "[::1]:3"]);
        let all = servers("postgres://u:p%40@a,b:2/d?target_session_attrs=read-write&application_name=x").unwrap();
        for server in all {
            assert_eq!((server.options.get_username(), server.options.get_database()), ("u", Some("d")));
            assert_eq!(server.options.get_application_name(), Some("x"));
        }
    }

    #[test]
    fn an_address_that_asks_for_a_standby_is_refused_without_showing_its_password() {
        for (url, reason) in [
            (
                "postgres://u:s3cret@a,b/d?target_session_attrs=standby",
                "target_session_attrs=standby asks for a server",
            ),
            ("postgres://u:s3cret@a:x/d", "invalid port number"),
        ] {
            let error = servers(url).unwrap_err().to_string();
            assert!(error.contains(reason) && !error.contains("s3cret"), "{error}");
        }
    }
}

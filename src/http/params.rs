//! Query parameters: read one by one, so that each error names the parameter and its value. Unknown parameters are
//! reported instead of ignored: otherwise a misspelt filter would list everything.

use std::collections::{BTreeMap, HashSet};
use std::num::IntErrorKind;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use percent_encoding::percent_decode_str;

use super::error::ApiError;
use super::{App, Limits, ui};
use crate::model::{EnvVar, Faults, Order, PageRequest, TimeRange, excerpt};
use crate::wire::OneOrMany;
use crate::words::nearest;

/// Maximum number of values of a repeatable parameter.
pub(super) const MOST_VALUES: usize = 50;
/// Maximum length of a value: a few times the longest name.
pub(super) const MOST_CHARS: usize = 1024;
/// Maximum number of parameters of a page in total.
const MOST_PAIRS_OF_A_PAGE: usize = 100;
/// Parameters with this prefix are ignored: `_=1732665600` only prevents a cached response.
const IGNORED: char = '_';

/// What [`Params::env`] accepts.
pub(super) const ENV_PATTERN: &str = r"^[^|\u0000]+\|[^\u0000]*$";

pub(super) struct Params {
    /// In the order received. An empty value counts as absent: existing clients send their forms' empty fields.
    pairs: Vec<(String, String)>,
    limits: Limits,
    known: Vec<&'static str>,
    faults: Faults,
}

impl FromRequestParts<App> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Ok(Self::read(&parts.uri, app.limits))
    }
}

/// Refuses more values than a database or a page can handle: each adds a condition to a search, and on a page a link
/// that repeats all the others.
fn bound(pairs: &[(String, String)], path: &str, faults: &mut Faults) {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, value) in pairs {
        let number = numbers.entry(name).or_default();
        *number += 1;
        if *number == MOST_VALUES + 1 {
            faults.add(name.as_str(), format!("may be given at most {MOST_VALUES} times"));
        }
        if value.chars().count() > MOST_CHARS {
            faults.add(name.as_str(), format!("must be at most {MOST_CHARS} characters long"));
        }
    }
    if pairs.len() > MOST_PAIRS_OF_A_PAGE && ui::is_page(path) {
        faults.add("?", format!("may hold at most {MOST_PAIRS_OF_A_PAGE} parameters on a page, not {}", pairs.len()));
    }
}

impl Params {
    fn read(uri: &Uri, limits: Limits) -> Self {
        let query = uri.query().unwrap_or_default();
        // A long text pasted into a search is cut to the length that any name could match.
        let is_typed =
            |name: &str| ["/ui/tasks", "/ui/palette"].contains(&uri.path()) && ["q", "deleted"].contains(&name);
        let cut = |name: &str, value: &str| match is_typed(name) {
            true => value.chars().take(MOST_CHARS).collect(),
            false => value.to_owned(),
        };
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes())
            .map(|(name, value)| (name.clone().into_owned(), cut(&name, &value)))
            .filter(|(name, value)| !value.is_empty() && !name.starts_with(IGNORED))
            .collect();
        let mut faults = Faults::default();
        bound(&pairs, uri.path(), &mut faults);
        if percent_decode_str(query).decode_utf8().is_err() {
            faults.add("?", format!("must be text in UTF-8, percent-encoded, not {}", excerpt(query)));
        }
        for (name, _) in pairs.iter().filter(|(name, value)| name.contains('\0') || value.contains('\0')) {
            faults.add(name.replace('\0', "\\0"), "must not hold a NUL character");
        }
        Self { pairs, limits, known: Vec::new(), faults }
    }

    /// All values of a repeatable parameter.
    pub(super) fn all(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        self.pairs.iter().filter(|(given, _)| given == name).map(|(_, value)| value.clone()).collect()
    }

    /// The last value of a parameter.
    pub(super) fn last(&mut self, name: &'static str) -> Option<String> {
        self.all(name).pop()
    }

    /// The value of a filter that accepts only one.
    pub(super) fn once(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.all(name);
        if values.len() > 1 {
            self.faults.add(name, "may be given only once");
        }
        values.pop()
    }

    /// All values of a parameter, parsed; invalid ones are recorded as faults.
    pub(super) fn all_parsed<T: FromStr<Err: ToString>>(&mut self, name: &'static str) -> Vec<T> {
        let mut parsed = Vec::new();
        for value in self.all(name) {
            match value.parse() {
                Ok(value) => parsed.push(value),
                Err(error) => self.faults.add(name, T::Err::to_string(&error)),
            }
        }
        parsed
    }

    pub(super) fn truth(&mut self, name: &'static str) -> bool {
        // Python's `True` arrives as written there.
        match self.last(name).map(|value| value.to_ascii_lowercase()).as_deref() {
            None | Some("false" | "0") => false,
            Some("true" | "1") => true,
            Some(other) => {
                self.faults.add(name, format!("must be true or false, not {other:?}"));
                false
            }
        }
    }

    /// `NAME_since` and `NAME_until`, each an RFC 3339 time.
    pub(super) fn times(&mut self, since: &'static str, until: &'static str) -> TimeRange {
        TimeRange { since: self.time(since), until: self.time(until) }
    }

    fn time(&mut self, name: &'static str) -> Option<Timestamp> {
        let text = self.last(name)?;
        match read_time(&text) {
            Some(time) => Some(time),
            None => {
                let needed = "must be a time such as 2026-01-31T12:00:00Z (a `+` in it is written %2B)";
                self.faults.add(name, format!("{needed}, not {text:?}"));
                None
            }
        }
    }

    /// `env=NAME|VALUE`, any number of times.
    pub(super) fn env(&mut self) -> Vec<EnvVar> {
        let mut env = Vec::new();
        for text in self.all("env") {
            match text.split_once('|') {
                Some((name, value)) if !name.is_empty() => env.push(EnvVar::new(name, value)),
                _ => self.faults.add("env", format!("must be NAME|VALUE, not {text:?}")),
            }
        }
        env
    }

    /// `limit`, capped at the operator's maximum.
    pub(super) fn limit(&mut self) -> u32 {
        let Limits { list_default, list_most, .. } = self.limits;
        let Some(text) = self.last("limit") else { return list_default };
        match text.parse::<u32>() {
            Ok(limit) => limit.min(list_most),
            // Too large for the type.
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => list_most,
            Err(_) => {
                self.faults.add("limit", format!("must be a whole number that is not negative, not {text:?}"));
                0
            }
        }
    }

    pub(super) fn offset(&mut self) -> u32 {
        match self.last("offset").map(|text| (text.parse::<u32>(), text)) {
            None => 0,
            Some((Ok(offset), _)) => offset,
            Some((Err(_), text)) => {
                self.faults.add("offset", format!("must be a whole number between 0 and {}, not {text:?}", u32::MAX));
                0
            }
        }
    }

    /// The requested page and order; `known` are the fields that `sort_by` accepts.
    pub(super) fn page<Sort: FromStr>(&mut self, default: (Sort, Order), known: &[&str]) -> PageRequest<Sort> {
        let (limit, offset) = (self.limit(), self.offset());
        let sort_by = match self.last("sort_by") {
            None => default.0,
            Some(text) => text.parse().unwrap_or_else(|_| {
                self.faults.add("sort_by", format!("{text:?} is none of {}", known.join(", ")));
                default.0
            }),
        };
        let order = match self.last("order") {
            None => default.1,
            Some(text) => text.parse().unwrap_or_else(|()| {
                self.faults.add("order", format!("must be asc or desc, not {text:?}"));
                default.1
            }),
        };
        PageRequest { limit, offset, sort_by, order }
    }

    /// The filters as the response repeats them: all parameters except the page's own.
    pub(super) fn filters(&self) -> BTreeMap<String, OneOrMany> {
        const OF_THE_PAGE: [&str; 5] = ["limit", "offset", "sort_by", "order", "env"];
        let given = self.pairs.iter().filter(|(name, _)| !OF_THE_PAGE.contains(&name.as_str()));
        repeated(given.map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// Returns all faults, including unknown parameters.
    pub(super) fn finish(mut self) -> Result<(), ApiError> {
        let is_first = |(i, name): &(usize, &&str)| !self.known[..*i].contains(name);
        let known: Vec<_> = self.known.iter().enumerate().filter(is_first).map(|(_, name)| *name).collect();
        for (name, _) in &self.pairs {
            if !self.known.contains(&name.as_str()) {
                let hint = match nearest(name, &known) {
                    Some(nearest) => format!("is no parameter here; did you mean `{nearest}`?"),
                    None if known.is_empty() => "is no parameter here, where there is none".to_owned(),
                    None => format!("is no parameter here; there is {}", known.join(", ")),
                };
                self.faults.add(name.replace('\0', "\\0"), hint);
            }
        }
        Ok(self.faults.into_result(())?)
    }
}

/// The operations that have query parameters, by method and path below `/api`.
pub(super) struct Described {
    pub(super) with_parameters: HashSet<(String, String)>,
    pub(super) limits: Limits,
    /// If the server is below a base path, matched paths may begin with it.
    pub(super) base_path: String,
}

/// Refuses all parameters of an operation that has none.
pub(super) async fn refuse_unknown(
    State(described): State<Arc<Described>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().query().is_none() {
        return next.run(request).await;
    }
    let path = path.as_str();
    let path = path.strip_prefix(described.base_path.as_str()).unwrap_or(path);
    let operation = (request.method().to_string(), path.strip_prefix("/api").unwrap_or(path).to_owned());
    if described.with_parameters.contains(&operation) {
        return next.run(request).await;
    }
    match Params::read(request.uri(), described.limits).finish() {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Parses an RFC 3339 time. The few hours at either end of that format's range that a timestamp can't represent are
/// mapped to the first or last timestamp.
fn read_time(text: &str) -> Option<Timestamp> {
    let beyond = || {
        let pieces = Pieces::parse(text).ok()?;
        let is_whole = pieces.time().is_some() && pieces.offset().is_some();
        is_whole.then(|| if pieces.date().year() > 0 { Timestamp::MAX } else { Timestamp::MIN })
    };
    text.parse().ok().or_else(beyond)
}

/// Maps each name to its value, or to a list if it was given several times.
pub(super) fn repeated<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, OneOrMany> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in pairs {
        values.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    let one_or_many = |mut values: Vec<String>| match values.len() {
        1 => OneOrMany::One(values.remove(0)),
        _ => OneOrMany::Many(values),
    };
    values.into_iter().map(|(name, values)| (name, one_or_many(values))).collect()
}

/// The filters by environment variable as the response repeats them; `None` if there are none.
pub(super) fn env_filters(env: &[EnvVar]) -> Option<BTreeMap<String, OneOrMany>> {
    let filters = repeated(env.iter().map(|var| (var.name.as_str(), var.value.as_str())));
    Some(filters).filter(|filters| !filters.is_empty())
}

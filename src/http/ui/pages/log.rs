//! The log of a run: a part of the run's page, and a page of its own. Without a script, both show the last lines and
//! links to earlier ones. `assets/log.js` turns this into a view that can jump anywhere, follow and search; it
//! requests from here the lines on display and the lines that contain a text. It learns the log's current extent with
//! the other updates ([`crate::http::ui::changes`]).

use askama::Template;
use askama::filters::HtmlSafe;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;

use crate::http::error::ApiError;
use crate::http::params::Params;
use crate::http::request::InPath;
use crate::http::respond::ok;
use crate::http::ui::assets;
use crate::http::ui::parts::ansi::{Painted, paint};
use crate::http::ui::parts::layout;
use crate::http::ui::parts::layout::{Layout, Section};
use crate::http::ui::parts::links;
use crate::http::ui::parts::pager::Address;
use crate::http::ui::parts::state::{Badge, Icon};
use crate::http::ui::parts::words;
use crate::http::{App, Asked};
use crate::model::{Outcome, Run};
use crate::service::{Line, LinesFrom, LogExtent, LogHits, LogLines, SearchFrom};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/ui/runs/{run_id}/log", get(page))
        .route("/ui/runs/{run_id}/log/lines", get(lines))
        .route("/ui/runs/{run_id}/log/search", get(search))
}

/// Number of lines on a page without a script.
const LINES: u64 = 200;
/// Maximum number of lines that the view may request at once.
const MOST_LINES: u64 = 1000;
/// Number of search hits on a page without a script.
const HITS: usize = 50;

/// Maximum length of the task's name within a file name.
const FILE_NAME_CHARS: usize = 60;

/// The context of `parts/log.html`, in the field `log` of a page's context.
pub struct LogPart {
    pub address: String,
    pub raw: String,
    pub file_name: String,
    /// Whether this is the page that shows only the log.
    pub is_alone: bool,
    pub rows: Rows,
    /// The text shown if there are no lines.
    pub emptiness: &'static str,
    /// Whether the run has stopped but the end of its log is not stored yet.
    pub is_end_missing: bool,
    pub earlier: Option<Address>,
    pub later: Option<Address>,
    pub search: String,
    pub is_case_sensitive: bool,
    /// If a search was requested: its hits, each with the page that shows it.
    pub hits: Option<Hits>,
}

pub struct Hits {
    pub lines: Vec<Hit>,
    pub more: Option<Address>,
}

pub struct Hit {
    pub line: u64,
    pub address: Address,
    /// Whether the text is in the shown part of a long line rather than in the part left out.
    pub is_shown: bool,
}

/// Lines as the view shows them, with the log's extent.
#[expect(clippy::struct_field_names, reason = "the template calls them so")]
#[derive(Template)]
#[template(path = "parts/log_rows.html")]
pub struct Rows {
    rows: Vec<Row>,
    pub extent: LogExtent,
    /// Version of the assets, so that a page of an earlier version notices.
    version: &'static str,
}

impl HtmlSafe for Rows {}

struct Row {
    number: u64,
    painted: Painted,
    /// When it was written: the time of day, and the full time.
    at: Option<(String, String)>,
    /// How much of a long line is left out.
    cut: Option<String>,
}

#[derive(Template)]
#[template(path = "log.html")]
pub struct LogPage {
    layout: Layout,
    name: String,
    run_address: String,
    look: Badge,
    log: LogPart,
}

impl LogPart {
    /// The end of a run's log, for the page of the run.
    pub async fn at_end(app: &Asked, run: &Run) -> Result<Self, ApiError> {
        Self::new(app, run, LinesFrom::End).await
    }

    async fn new(app: &Asked, run: &Run, from: LinesFrom) -> Result<Self, ApiError> {
        let count = usize::try_from(LINES).unwrap_or(usize::MAX);
        let lines = app.service.log_lines(run, from, count).await?;
        Ok(Self::of(run, lines))
    }

    fn of(run: &Run, lines: LogLines) -> Self {
        let run_id = run.run_id;
        let rows = Rows::new(lines);
        let address = links::log(run_id);
        let from = |line: u64| Address::new(address.as_str()).with("from", [line]);
        let first = rows.rows.first().map_or(1, |row| row.number);
        let after = rows.rows.last().map_or(1, |row| row.number + 1);
        Self {
            earlier: (first > 1).then(|| from(first.saturating_sub(LINES).max(1))),
            later: (after <= rows.extent.lines).then(|| from(after)),
            raw: links::raw_log(run_id),
            file_name: file_name(run),
            emptiness: emptiness(run, rows.extent),
            is_end_missing: run.status.is_terminal() && !rows.extent.is_complete,
            is_alone: false,
            search: String::new(),
            is_case_sensitive: false,
            hits: None,
            address,
            rows,
        }
    }
}

fn emptiness(run: &Run, extent: LogExtent) -> &'static str {
    // Whether a lost run had started is unknown.
    let never_started = run.started_at.is_none() && run.outcome != Some(Outcome::Lost);
    match extent.is_complete {
        false if run.status.is_terminal() => "Nothing is stored yet of what the run may have written.",
        false => "Nothing was written yet.",
        true if never_started => "It never started, so it wrote nothing.",
        true => "The run wrote nothing, or its log was removed.",
    }
}

/// A name such as `train-1a2b3c4d.log`: distinguishes downloads and is valid on any system.
fn file_name(run: &Run) -> String {
    let is_safe = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '.');
    let name = words::name(run);
    let safe: String = name.chars().take(FILE_NAME_CHARS).map(|c| if is_safe(c) { c } else { '-' }).collect();
    // A leading dot would hide the file.
    let safe = safe.trim_matches(['-', '.']);
    let between = if safe.is_empty() { "" } else { "-" };
    format!("{safe}{between}{}.log", words::short_id(run.run_id))
}

impl Rows {
    fn new(LogLines { found, extent }: LogLines) -> Self {
        let rows = found.into_iter().map(|Line { number, bytes, cut_bytes, written_at, style }| Row {
            number,
            painted: paint(&bytes, style),
            at: written_at
                .map(|at| (at.strftime("%H:%M:%S").to_string(), at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())),
            cut: (cut_bytes > 0).then(|| words::bytes(cut_bytes)),
        });
        Self { rows: rows.collect(), extent, version: assets::version() }
    }
}

/// The log alone, from a line on; and without a script, the lines that hold a text.
async fn page(app: Asked, InPath(run_id): InPath<String>, mut params: Params) -> Result<Response, ApiError> {
    let from = params.all_parsed::<u64>("from").pop();
    let text = params.last("q");
    let is_case_sensitive = params.truth("case");
    params.finish()?;
    let run = app.run_with_log(&run_id).await?;
    let mut log = LogPart::new(&app, &run, from.map_or(LinesFrom::End, LinesFrom::Line)).await?;
    log.is_alone = true;
    log.is_case_sensitive = is_case_sensitive;
    if let Some(text) = text {
        let from = SearchFrom::Line(from.unwrap_or(1));
        let hits = app.service.find_in_log(&run, &text, is_case_sensitive, from).await?;
        let listed = hits.lines.iter().take(HITS).copied().collect();
        let left_out = app.service.hits_left_out(&run, &text, is_case_sensitive, listed).await?;
        let extent = app.service.log_lines(&run, LinesFrom::End, 0).await?.extent;
        log.hits = Some(Hits::new(&log, &text, hits, &left_out, extent));
        log.search = text;
    }
    Ok(layout::html(&LogPage {
        layout: Layout::new(Section::Runs),
        name: words::name(&run),
        run_address: links::run(run.run_id),
        look: Badge::new(run.status, run.outcome),
        log,
    }))
}

impl Hits {
    fn new(log: &LogPart, text: &str, hits: LogHits, left_out: &[u64], extent: LogExtent) -> Self {
        let case = log.is_case_sensitive.then_some("true");
        let page = Address::new(log.address.as_str()).with("q", [text]).with("case", case);
        let broke_off = hits.next.map(|_| hits.lines.last().map_or(extent.lines, |line| line + 1));
        let next = hits.lines.get(HITS).copied().or(broke_off);
        let shown = hits.lines.into_iter().take(HITS);
        // The page also shows a few lines before the hit.
        let of = |line: u64| Address::new(log.address.as_str()).with("from", [line.saturating_sub(5).max(1)]);
        let hit = |line| Hit { line, address: of(line), is_shown: !left_out.contains(&line) };
        Self { lines: shown.map(hit).collect(), more: next.map(|line| page.with("from", [line])) }
    }
}

/// Lines for the view: at most `count` from `from` on, or the last ones; fewer where they are long.
async fn lines(app: Asked, InPath(run_id): InPath<String>, mut params: Params) -> Result<Response, ApiError> {
    let from = params.all_parsed::<u64>("from").pop();
    let count = params.all_parsed::<u64>("count").pop().unwrap_or(LINES).clamp(1, MOST_LINES);
    params.finish()?;
    let run = app.run_with_log(&run_id).await?;
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let lines = app.service.log_lines(&run, from.map_or(LinesFrom::End, LinesFrom::Line), count).await?;
    Ok(layout::html(&Rows::new(lines)))
}

/// The lines that contain a text, as far as one bounded search gets.
#[derive(Serialize)]
struct FoundLines {
    lines: Vec<u64>,
    /// The token to continue with; `null` at the end of the log.
    next: Option<String>,
}

async fn search(app: Asked, InPath(run_id): InPath<String>, mut params: Params) -> Result<Response, ApiError> {
    let text = params.last("q").unwrap_or_default();
    let is_case_sensitive = params.truth("case");
    let line = params.all_parsed::<u64>("line").pop();
    let next = params.last("next");
    params.finish()?;
    let run = app.run_with_log(&run_id).await?;
    let from = match next {
        Some(next) => SearchFrom::Token(app.service.log_token(Some(&next))?),
        None => SearchFrom::Line(line.unwrap_or(1)),
    };
    let LogHits { lines, next } = app.service.find_in_log(&run, &text, is_case_sensitive, from).await?;
    Ok(ok(&FoundLines { lines, next: next.map(|next| next.to_string()) }))
}

#[cfg(test)]
impl LogPart {
    pub fn sample(run: &Run) -> Self {
        let line = |number, text: &str| Line {
            number,
            bytes: text.as_bytes().to_vec(),
            cut_bytes: 2048,
            written_at: Some(jiff::Timestamp::UNIX_EPOCH),
            style: crate::service::Style::default(),
        };
        let found = vec![line(7, "<script>"), line(8, "\x1b[31m'\"")];
        let extent = LogExtent { lines: 9, bytes: 90, is_complete: false };
        let mut log = LogPart::of(run, LogLines { found, extent });
        let hits = LogHits { lines: vec![7], next: Some(crate::logs::LogToken::default()) };
        log.hits = Some(Hits::new(&log, "<b>\"", hits, &[7], extent));
        log.search = "<b>\"".to_owned();
        log
    }
}

#[cfg(test)]
impl LogPage {
    pub fn sample() -> Self {
        let run = crate::model::sample::run();
        Self {
            log: LogPart::sample(&run),
            layout: Layout::new(Section::Runs),
            name: "train <model>".to_owned(),
            run_address: links::run(run.run_id),
            look: Badge::new(crate::model::Status::Running, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_named_after_the_task_and_the_run() {
        let mut run = crate::model::sample::run();
        let short = words::short_id(run.run_id);
        let long = "x".repeat(200);
        for (alias, expected) in [
            ("hello", format!("hello-{short}.log")),
            ("nightly/train v1.2", format!("nightly-train-v1.2-{short}.log")),
            ("über", format!("über-{short}.log")),
            ("../../.profile", format!("profile-{short}.log")),
            ("a\"b\nc\\d:e", format!("a-b-c-d-e-{short}.log")),
            ("...", format!("{short}.log")),
            (&long, format!("{}-{short}.log", "x".repeat(FILE_NAME_CHARS))),
        ] {
            run.alias = Some(alias.to_owned());
            assert_eq!(file_name(&run), expected, "{alias:?}");
        }
    }
}

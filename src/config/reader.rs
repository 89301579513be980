//! Reads settings one by one out of a file, the variables and the flags over it, and gathers what is wrong with them.
//! What was never asked for is unknown, so a key is written down once, where it is read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::{ConfigError, Overrides};
use crate::words::nearest;

/// Keys whose values are never shown.
const SECRETS: [&str; 1] = ["database_url"];

/// Settings whose variables are not called `FLOTILLA_SECTION_KEY`: those that are flags too, or are set often.
const SHORT_VARIABLES: [(&str, &str, &str); 6] = [
    ("server", "listen", "FLOTILLA_LISTEN"),
    ("server", "data_dir", "FLOTILLA_DATA_DIR"),
    ("server", "database_url", "FLOTILLA_DATABASE_URL"),
    ("server", "database_url_file", "FLOTILLA_DATABASE_URL_FILE"),
    ("telemetry", "log_format", "FLOTILLA_LOG_FORMAT"),
    ("telemetry", "log_filter", "FLOTILLA_LOG"),
];

pub(super) struct Reader<'a> {
    document: Document<'a>,
    findings: Findings,
}

struct Document<'a> {
    file_name: &'a str,
    text: &'a str,
    root: DeTable<'a>,
    overrides: &'a Overrides,
}

/// What reading has shown so far.
#[derive(Default)]
struct Findings {
    /// With the line in the file, if it is the file's.
    faults: Vec<(Option<usize>, String)>,
    /// The keys that were asked for, by section.
    known: BTreeMap<String, Vec<&'static str>>,
}

impl Findings {
    /// A section can be looked at more than once, and a fault is told once.
    fn add(&mut self, line: Option<usize>, text: String) {
        if !self.faults.iter().any(|(_, known)| *known == text) {
            self.faults.push((line, text));
        }
    }
}

/// The settings of one `[section]`.
pub(super) struct Section<'r> {
    document: &'r Document<'r>,
    findings: &'r mut Findings,
    name: String,
    table: Option<&'r DeTable<'r>>,
    /// Where it begins in the file, if it is there.
    start: usize,
    has_variables: bool,
}

/// A kind of value, as TOML and as a variable's text.
pub(super) trait Setting: Sized {
    const NEEDED: &'static str;

    fn from_toml(value: &DeValue<'_>) -> Option<Self>;

    fn from_text(text: &str) -> Option<Self>;
}

impl<'a> Reader<'a> {
    pub fn parse(file_name: &'a str, text: &'a str, overrides: &'a Overrides) -> Result<Self, ConfigError> {
        let root = DeTable::parse(text).map_err(|error| {
            let place = place(file_name, text, error.span().unwrap_or_default());
            ConfigError::Invalid(vec![format!("{place}: {}", error.message())])
        })?;
        let document = Document { file_name, text, root: root.into_inner(), overrides };
        Ok(Self { document, findings: Findings::default() })
    }

    pub fn section(&mut self, name: &str) -> Section<'_> {
        let Self { document, findings } = self;
        let table = document.table(&document.root, name, name, findings);
        findings.known.entry(name.to_owned()).or_default();
        Section { document, findings, name: name.to_owned(), table, start: 0, has_variables: true }
    }

    /// The names of the sections `[parent.…]`, each checked.
    pub fn sections_below(&mut self, parent: &str, check: fn(&str) -> Result<(), String>) -> Vec<String> {
        let Self { document, findings } = self;
        findings.known.entry(parent.to_owned()).or_default();
        let Some(table) = document.table(&document.root, parent, parent, findings) else { return Vec::new() };
        let mut names = Vec::new();
        for name in table.keys() {
            match check(name.get_ref()) {
                Ok(()) => names.push(name.get_ref().to_string()),
                Err(message) => document.fault(findings, name.span(), &format!("a name in [{parent}] {message}")),
            }
        }
        names
    }

    /// `[parent.name]`. No variables stand for what is in it.
    pub fn section_below(&mut self, parent: &str, name: &str) -> Section<'_> {
        let Self { document, findings } = self;
        let full_name = format!("{parent}.{name}");
        let above = document.root.get(parent).and_then(|value| value.get_ref().as_table());
        let table = above.and_then(|above| document.table(above, name, &full_name, findings));
        let start = above.and_then(|above| above.get_key_value(name)).map_or(0, |(key, _)| key.span().start);
        findings.known.entry(full_name.clone()).or_default();
        Section { document, findings, name: full_name, table, start, has_variables: false }
    }

    /// All that was wrong, in the file's order, if anything was.
    pub fn finish(self) -> Result<(), Vec<String>> {
        let Self { document, mut findings } = self;
        document.find_unknown(&mut findings);
        findings.faults.sort_by_key(|(line, _)| line.unwrap_or(usize::MAX));
        let faults: Vec<String> = findings.faults.into_iter().map(|(_, text)| text).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Every section and key that was asked for.
    #[cfg(test)]
    pub fn known(&self) -> &BTreeMap<String, Vec<&'static str>> {
        &self.findings.known
    }
}

impl Section<'_> {
    /// The setting as `check` makes it, from the flag, else the variable, else the file, else the default.
    /// Each of them that is given is checked.
    pub fn read<T: Setting, U>(&mut self, key: &'static str, default: U, check: impl Fn(T) -> Result<U, String>) -> U {
        self.findings.known.entry(self.name.clone()).or_default().push(key);
        let mut result = default;
        if let Some(value) = self.table.and_then(|table| table.get(key)) {
            let checked = T::from_toml(value.get_ref())
                .map_or_else(|| Err(mismatch::<T>(key, &self.document.text[value.span()])), &check);
            match checked {
                Ok(value) => result = value,
                Err(message) => {
                    let text = format!("`{key}` in [{}] {message}", self.name);
                    self.document.fault(self.findings, value.span(), &text);
                }
            }
        }
        for (place, text) in self.overrides(key) {
            let checked = T::from_text(&text).map_or_else(|| Err(mismatch::<T>(key, &format!("{text:?}"))), &check);
            match checked {
                Ok(value) => result = value,
                Err(message) => self.findings.faults.push((None, format!("`{place}` {message}"))),
            }
        }
        result
    }

    /// [`Self::read`] of a text.
    pub fn text<U>(&mut self, key: &'static str, default: U, check: impl Fn(&str) -> Result<U, String>) -> U {
        self.read(key, default, |text: String| check(&text))
    }

    /// The file of a secret that the service manager hands over under this name, where it does.
    pub fn credential(&self, name: &str) -> Option<PathBuf> {
        let path = self.document.overrides.credentials_dir.as_ref()?.join(name);
        // One that can't be looked at is read, and the failure told.
        path.try_exists().unwrap_or(true).then_some(path)
    }

    /// Where the section is in the file, it must hold this key.
    pub fn require(&mut self, key: &str) {
        if self.table.is_some_and(|table| !table.contains_key(key)) {
            let text = format!("[{}] needs the key `{key}`", self.name);
            self.document.fault(self.findings, self.start..self.start, &text);
        }
    }

    /// Tells what is wrong with the section as a whole.
    pub fn fault(&mut self, text: &str) {
        let text = format!("[{}] {text}", self.name);
        match self.table {
            Some(_) => self.document.fault(self.findings, self.start..self.start, &text),
            // No line of the file has to do with it.
            None => self.findings.add(None, text),
        }
    }

    /// The variable, then the flag, as far as they are given.
    fn overrides(&self, key: &str) -> Vec<(String, String)> {
        if !self.has_variables {
            return Vec::new();
        }
        let Overrides { listen, data_dir, database_url, variables, .. } = self.document.overrides;
        let flag = match (self.name.as_str(), key) {
            ("server", "listen") => listen.as_ref().map(|text| ("--listen", text)),
            ("server", "data_dir") => data_dir.as_ref().map(|text| ("--data-dir", text)),
            ("server", "database_url") => database_url.as_ref().map(|text| ("--database-url", text)),
            _ => None,
        };
        let name = variable(&self.name, key);
        let variable = variables.get(&name).map(|text| (name, text.clone()));
        variable.into_iter().chain(flag.map(|(name, text)| (name.to_owned(), text.clone()))).collect()
    }
}

/// The variable that stands for a setting.
pub(super) fn variable(section: &str, key: &str) -> String {
    let short = SHORT_VARIABLES.iter().find(|(of_section, of_key, _)| (*of_section, *of_key) == (section, key));
    match short {
        Some((_, _, name)) => (*name).to_owned(),
        None => format!("FLOTILLA_{section}_{key}").to_uppercase(),
    }
}

impl Document<'_> {
    fn table<'t>(
        &self,
        above: &'t DeTable<'t>,
        name: &str,
        full_name: &str,
        findings: &mut Findings,
    ) -> Option<&'t DeTable<'t>> {
        let value = above.get(name)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.fault(findings, value.span(), &format!("`{full_name}` must be a section, written [{full_name}]"));
        }
        table
    }

    fn fault(&self, findings: &mut Findings, span: Range<usize>, text: &str) {
        let line = line(self.text, span.start);
        findings.add(Some(line), format!("{}: {text}", place(self.file_name, self.text, span)));
    }

    fn find_unknown(&self, findings: &mut Findings) {
        let sections: Vec<String> = findings.known.keys().cloned().collect();
        let top_level: Vec<&str> = sections.iter().map(String::as_str).filter(|name| !name.contains('.')).collect();
        for (key, value) in &self.root {
            if !top_level.contains(&key.get_ref().as_ref()) {
                let message = if value.get_ref().is_table() {
                    format!("unknown section [{}]; {}", key.get_ref(), advice(key.get_ref(), &top_level, "section"))
                } else {
                    let key = key.get_ref();
                    let home = home(&findings.known, key);
                    format!(
                        "unknown key `{key}` outside a section; {}",
                        home.unwrap_or_else(|| advice(key, &[], "key"))
                    )
                };
                self.fault(findings, key.span(), &message);
            }
        }
        for section in &sections {
            let table = match section.split_once('.') {
                None => self.root.get(section.as_str()).and_then(|value| value.get_ref().as_table()),
                Some((parent, name)) => {
                    self.root.get(parent).and_then(|value| value.get_ref().as_table()?.get(name)?.get_ref().as_table())
                }
            };
            // `[clusters]` itself has no keys, only sections below it, which were looked at by name.
            if !section.contains('.') && sections.iter().any(|other| other.starts_with(&format!("{section}."))) {
                continue;
            }
            let known = findings.known[section].clone();
            for key in table.into_iter().flat_map(DeTable::keys) {
                let name = key.get_ref().as_ref();
                if !known.contains(&name) {
                    let home = if nearest(name, &known).is_none() { home(&findings.known, name) } else { None };
                    let advice = home.unwrap_or_else(|| advice(name, &known, "key"));
                    self.fault(findings, key.span(), &format!("unknown key `{name}` in [{section}]; {advice}"));
                }
            }
        }
    }
}

/// Where else a key would be right.
fn home(known: &BTreeMap<String, Vec<&'static str>>, key: &str) -> Option<String> {
    let section = known.iter().find(|(_, keys)| keys.contains(&key)).map(|(section, _)| section)?;
    Some(format!("it belongs in [{section}]"))
}

/// The known name that was probably meant, else all of them.
fn advice(name: &str, known: &[&str], kind: &str) -> String {
    match nearest(name, known) {
        Some(near) if kind == "section" => format!("did you mean [{near}]?"),
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("every {kind} belongs in a section such as [server]"),
        None => format!("the {kind}s are {}", known.join(", ")),
    }
}

fn mismatch<T: Setting>(key: &str, shown: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    if SECRETS.contains(&key) {
        return format!("must be {}", T::NEEDED);
    }
    let mut excerpt: String = shown.lines().next().unwrap_or_default().chars().take(SHOWN_CHARS).collect();
    if excerpt.len() < shown.len() {
        excerpt.push('…');
    }
    format!("must be {}, not {excerpt}", T::NEEDED)
}

fn place(file_name: &str, text: &str, span: Range<usize>) -> String {
    format!("{file_name} line {}", line(text, span.start))
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

impl Setting for String {
    const NEEDED: &'static str = "text in quotes";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Setting for bool {
    const NEEDED: &'static str = "true or false";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Wide enough that a number outside a setting's own range can be told as such.
impl Setting for i128 {
    const NEEDED: &'static str = "a whole number";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_integer().and_then(|number| Self::from_str_radix(number.as_str(), number.radix()).ok())
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Setting for Vec<String> {
    const NEEDED: &'static str = "a list of texts in quotes";

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_array()?.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
    }

    /// A variable holds one text only.
    fn from_text(text: &str) -> Option<Self> {
        Some(vec![text.to_owned()])
    }
}

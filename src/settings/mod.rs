//! Reads settings one by one from a file or a request, and collects all faults.
//!
//! A key that was never read is unknown, so each key is written once, where it is read. Values that take precedence
//! over the file come as [`Overrides`].

pub mod checks;
mod value;

use std::collections::BTreeMap;

use self::value::{Data, Table};
use crate::words::{first_line, nearest};

pub use value::Setting;

/// How much of a value an error text shows.
const SHOWN_CHARS: usize = 60;

/// Values that take precedence over the file, each also over the one before.
#[derive(Clone, Default)]
pub struct Overrides(Vec<Override>);

#[derive(Clone)]
struct Override {
    section: String,
    key: String,
    /// The variable or the flag, for error texts.
    place: String,
    text: String,
}

impl Overrides {
    pub fn add(&mut self, section: &str, key: &str, place: impl Into<String>, text: impl Into<String>) {
        let (section, key) = (section.to_owned(), key.to_owned());
        self.0.push(Override { section, key, place: place.into(), text: text.into() });
    }
}

/// The result of `read` for an empty section.
pub fn defaults<T>(read: impl FnOnce(&mut Section<'_>) -> T) -> T {
    read(&mut Reader::json(&serde_json::Map::new()).section(""))
}

/// A file or a request whose settings are being read.
pub struct Reader {
    document: Document,
    findings: Findings,
}

struct Document {
    /// `None` for a request.
    file_name: Option<String>,
    root: Table,
    overrides: Overrides,
}

/// The findings so far.
#[derive(Default)]
struct Findings {
    /// With the line in the file, if the fault is in the file.
    faults: Vec<(Option<usize>, String)>,
    /// The keys that were read, by section.
    known: BTreeMap<String, Vec<&'static str>>,
}

impl Findings {
    /// Each fault is reported once, though a section can be read more than once.
    fn add(&mut self, line: Option<usize>, text: String) {
        if !self.faults.iter().any(|(_, known)| *known == text) {
            self.faults.push((line, text));
        }
    }
}

/// The settings of one `[section]`.
pub struct Section<'r> {
    document: &'r Document,
    findings: &'r mut Findings,
    name: String,
    table: Option<&'r Table>,
    /// The line where it begins in the file.
    line: Option<usize>,
}

impl Reader {
    /// Reads a TOML file; the error gives the position of invalid TOML. `file_name` is for error texts.
    pub fn toml(file_name: &str, text: &str, overrides: Overrides) -> Result<Self, String> {
        let root =
            Table::from_toml(text).map_err(|(line, message)| format!("{}: {message}", place(file_name, line)))?;
        let document = Document { file_name: Some(file_name.to_owned()), root, overrides };
        Ok(Self { document, findings: Findings::default() })
    }

    /// Reads an object of sections, which are objects.
    pub fn json(object: &serde_json::Map<String, serde_json::Value>) -> Self {
        let document = Document { file_name: None, root: Table::from_json(object), overrides: Overrides::default() };
        Self { document, findings: Findings::default() }
    }

    pub fn section(&mut self, name: &str) -> Section<'_> {
        let Self { document, findings } = self;
        let table = document.table(&document.root, name, name, findings);
        findings.known.entry(name.to_owned()).or_default();
        Section { document, findings, name: name.to_owned(), table, line: Some(1) }
    }

    /// The names of the sections `[parent.…]`, each checked.
    pub fn sections_below(&mut self, parent: &str, check: fn(&str) -> Result<(), String>) -> Vec<String> {
        let Self { document, findings } = self;
        findings.known.entry(parent.to_owned()).or_default();
        let Some(table) = document.table(&document.root, parent, parent, findings) else { return Vec::new() };
        let mut names = Vec::new();
        for entry in &table.0 {
            match check(&entry.name) {
                Ok(()) => names.push(entry.name.clone()),
                Err(message) => document.fault(findings, entry.line, &format!("a name in [{parent}] {message}")),
            }
        }
        names
    }

    /// `[parent.name]`, for which there are no overrides.
    pub fn section_below(&mut self, parent: &str, name: &str) -> Section<'_> {
        let Self { document, findings } = self;
        let full_name = format!("{parent}.{name}");
        let above = document.root.table(parent);
        let table = above.and_then(|above| document.table(above, name, &full_name, findings));
        let line = above.and_then(|above| above.entry(name)).map_or(Some(1), |entry| entry.line);
        findings.known.entry(full_name.clone()).or_default();
        Section { document, findings, name: full_name, table, line }
    }

    /// All faults, in the file's order, if any.
    pub fn finish(self) -> Result<(), Vec<String>> {
        let Self { document, mut findings } = self;
        document.find_unknown(&mut findings);
        findings.faults.sort_by_key(|(line, _)| line.unwrap_or(usize::MAX));
        let faults: Vec<String> = findings.faults.into_iter().map(|(_, text)| text).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Every section and key that was read.
    #[cfg(test)]
    pub fn known(&self) -> &BTreeMap<String, Vec<&'static str>> {
        &self.findings.known
    }
}

impl Section<'_> {
    /// The setting as converted by `check`, from the last override, else from the file, else the default. Every given
    /// value is checked.
    pub fn read<T: Setting, U>(&mut self, key: &'static str, default: U, check: impl Fn(T) -> Result<U, String>) -> U {
        self.read_shown(key, default, check, |shown| format!(", not {}", first_line(shown, SHOWN_CHARS)))
    }

    /// [`Self::read`] of a text.
    pub fn text<U>(&mut self, key: &'static str, default: U, check: impl Fn(&str) -> Result<U, String>) -> U {
        self.read(key, default, |text: String| check(&text))
    }

    /// [`Self::text`] of a secret, which no error text shows.
    pub fn secret<U>(&mut self, key: &'static str, default: U, check: impl Fn(&str) -> Result<U, String>) -> U {
        self.read_shown(key, default, |text: String| check(&text), |_| String::new())
    }

    fn read_shown<T: Setting, U>(
        &mut self,
        key: &'static str,
        default: U,
        check: impl Fn(T) -> Result<U, String>,
        not: impl Fn(&str) -> String,
    ) -> U {
        self.findings.known.entry(self.name.clone()).or_default().push(key);
        let mismatch = |shown: &str| format!("must be {}{}", T::NEEDED, not(shown));
        let mut result = default;
        if let Some(entry) = self.table.and_then(|table| table.entry(key)) {
            match T::from_data(&entry.value.data).ok_or_else(|| mismatch(&entry.value.shown)).and_then(&check) {
                Ok(value) => result = value,
                Err(message) => {
                    let text = format!("`{key}` in [{}] {message}", self.name);
                    self.document.fault(self.findings, entry.value.line, &text);
                }
            }
        }
        let is_of_this = |value: &&Override| value.section == self.name && value.key == key;
        for Override { place, text, .. } in self.document.overrides.0.iter().filter(is_of_this) {
            match T::from_text(text).ok_or_else(|| mismatch(&format!("{text:?}"))).and_then(&check) {
                Ok(value) => result = value,
                Err(message) => self.findings.faults.push((None, format!("`{place}` {message}"))),
            }
        }
        result
    }

    /// If the section is in the file, it must have this key.
    pub fn require(&mut self, key: &str) {
        if self.table.is_some_and(|table| table.entry(key).is_none()) {
            let text = format!("[{}] needs the key `{key}`", self.name);
            self.document.fault(self.findings, self.line, &text);
        }
    }

    /// Reports a fault of the section as a whole.
    pub fn fault(&mut self, text: &str) {
        let text = format!("[{}] {text}", self.name);
        match self.table {
            Some(_) => self.document.fault(self.findings, self.line, &text),
            // The section is not in the file.
            None => self.findings.add(None, text),
        }
    }
}

impl Document {
    fn table<'t>(&self, above: &'t Table, name: &str, full_name: &str, findings: &mut Findings) -> Option<&'t Table> {
        let entry = above.entry(name)?;
        let table = above.table(name);
        if table.is_none() {
            let text = format!("`{full_name}` must be a section, written [{full_name}]");
            self.fault(findings, entry.value.line, &text);
        }
        table
    }

    fn fault(&self, findings: &mut Findings, line: Option<usize>, text: &str) {
        match (&self.file_name, line) {
            (Some(file_name), Some(line)) => findings.add(Some(line), format!("{}: {text}", place(file_name, line))),
            _ => findings.add(None, text.to_owned()),
        }
    }

    fn find_unknown(&self, findings: &mut Findings) {
        let sections: Vec<String> = findings.known.keys().cloned().collect();
        let top_level: Vec<&str> = sections.iter().map(String::as_str).filter(|name| !name.contains('.')).collect();
        for entry in &self.root.0 {
            let name = entry.name.as_str();
            if !top_level.contains(&name) {
                let message = if matches!(entry.value.data, Data::Table(_)) {
                    format!("unknown section [{name}]; {}", advice(name, &top_level, "section"))
                } else {
                    let home = home(&findings.known, name);
                    format!(
                        "unknown key `{name}` outside a section; {}",
                        home.unwrap_or_else(|| advice(name, &[], "key"))
                    )
                };
                self.fault(findings, entry.line, &message);
            }
        }
        for section in &sections {
            let table = match section.split_once('.') {
                None => self.root.table(section),
                Some((parent, name)) => self.root.table(parent).and_then(|above| above.table(name)),
            };
            // `[clusters]` itself has no keys, only sections below it, which were read by name.
            if !section.contains('.') && sections.iter().any(|other| other.starts_with(&format!("{section}."))) {
                continue;
            }
            let known = findings.known[section].clone();
            for entry in table.into_iter().flat_map(|table| &table.0) {
                let name = entry.name.as_str();
                if !known.contains(&name) {
                    let home = if nearest(name, &known).is_none() { home(&findings.known, name) } else { None };
                    let advice = home.unwrap_or_else(|| advice(name, &known, "key"));
                    self.fault(findings, entry.line, &format!("unknown key `{name}` in [{section}]; {advice}"));
                }
            }
        }
    }
}

/// The other section in which a key would be valid.
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

fn place(file_name: &str, line: usize) -> String {
    format!("{file_name} line {line}")
}

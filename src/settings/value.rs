//! Values as TOML and JSON have them, each with its position in its file.

use std::ops::Range;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

/// A value, and how an error text shows it.
#[derive(Debug)]
pub(super) struct Value {
    pub data: Data,
    /// The line of the file, counted from 1; `None` outside of a file.
    pub line: Option<usize>,
    pub shown: String,
}

#[derive(Debug)]
pub enum Data {
    Text(String),
    Integer(i128),
    Bool(bool),
    List(Vec<Data>),
    Table(Table),
    /// A number with a fraction, a date, `null`: never valid for a setting.
    Other,
}

/// Entries in the order of the file.
#[derive(Debug, Default)]
pub struct Table(pub(super) Vec<Entry>);

#[derive(Debug)]
pub(super) struct Entry {
    pub name: String,
    /// The line of its name.
    pub line: Option<usize>,
    pub value: Value,
}

impl Table {
    /// Reads a whole TOML file; the error is its line and what is wrong there.
    pub(super) fn from_toml(text: &str) -> Result<Self, (usize, String)> {
        let root = DeTable::parse(text)
            .map_err(|error| (line(text, &error.span().unwrap_or_default()), error.message().to_owned()))?;
        Ok(Self::of_toml(root.get_ref(), text))
    }

    fn of_toml(table: &DeTable<'_>, text: &str) -> Self {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let entries = entries.into_iter().map(|(name, value)| Entry {
            name: name.get_ref().to_string(),
            line: Some(line(text, &name.span())),
            value: Value {
                data: Data::of_toml(value.get_ref(), text),
                line: Some(line(text, &value.span())),
                shown: text[value.span()].to_owned(),
            },
        });
        Self(entries.collect())
    }

    pub(super) fn from_json(object: &serde_json::Map<String, Json>) -> Self {
        let entries = object.iter().map(|(name, value)| Entry {
            name: name.clone(),
            line: None,
            value: Value { data: Data::of_json(value), line: None, shown: value.to_string() },
        });
        Self(entries.collect())
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.name == name)
    }

    pub(super) fn table(&self, name: &str) -> Option<&Self> {
        match &self.entry(name)?.value.data {
            Data::Table(table) => Some(table),
            _ => None,
        }
    }
}

impl Data {
    fn of_toml(value: &DeValue<'_>, text: &str) -> Self {
        match value {
            DeValue::String(value) => Self::Text(value.to_string()),
            DeValue::Integer(number) => {
                i128::from_str_radix(number.as_str(), number.radix()).map_or(Self::Other, Self::Integer)
            }
            DeValue::Boolean(value) => Self::Bool(*value),
            DeValue::Array(items) => Self::List(items.iter().map(|item| Self::of_toml(item.get_ref(), text)).collect()),
            DeValue::Table(table) => Self::Table(Table::of_toml(table, text)),
            DeValue::Float(_) | DeValue::Datetime(_) => Self::Other,
        }
    }

    fn of_json(value: &Json) -> Self {
        match value {
            Json::String(value) => Self::Text(value.clone()),
            Json::Number(number) => {
                let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
                integer.map_or(Self::Other, Self::Integer)
            }
            Json::Bool(value) => Self::Bool(*value),
            Json::Array(items) => Self::List(items.iter().map(Self::of_json).collect()),
            Json::Object(object) => Self::Table(Table::from_json(object)),
            Json::Null => Self::Other,
        }
    }
}

fn line(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
}

/// A type that a setting's value can have.
pub trait Setting: Sized {
    /// What an error text calls it.
    const NEEDED: &'static str;

    /// `None` where a file's value is of another type.
    fn from_data(data: &Data) -> Option<Self>;

    /// `None` if the text of a variable or a flag is no valid value.
    fn from_text(text: &str) -> Option<Self>;
}

impl Setting for String {
    const NEEDED: &'static str = "text in quotes";

    fn from_data(data: &Data) -> Option<Self> {
        match data {
            Data::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Setting for bool {
    const NEEDED: &'static str = "true or false";

    fn from_data(data: &Data) -> Option<Self> {
        match data {
            Data::Bool(value) => Some(*value),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// Wide enough that a number outside a setting's own range can be reported as such.
impl Setting for i128 {
    const NEEDED: &'static str = "a whole number";

    fn from_data(data: &Data) -> Option<Self> {
        match data {
            Data::Integer(number) => Some(*number),
            _ => None,
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Setting for Vec<String> {
    const NEEDED: &'static str = "a list of texts in quotes";

    fn from_data(data: &Data) -> Option<Self> {
        match data {
            Data::List(items) => items.iter().map(String::from_data).collect(),
            _ => None,
        }
    }

    /// A variable holds one text only.
    fn from_text(text: &str) -> Option<Self> {
        Some(vec![text.to_owned()])
    }
}

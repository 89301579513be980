//! Logs on the wire. Fields beyond those in the API's documents are present only when they carry information.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A piece of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogChunk {
    /// As text; bytes that are not UTF-8 are replaced by U+FFFD.
    pub log: String,
    /// The exact bytes in base64; omitted if `log` already is exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_base64: Option<String>,
    /// Token to request what follows.
    pub last_seen: String,
    /// `false` if the run has stopped but the end of its log is not stored yet: ask again later. Omitted otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_complete: Option<bool>,
}

impl LogChunk {
    #[must_use]
    pub fn new(bytes: Vec<u8>, last_seen: String, is_complete: Option<bool>) -> Self {
        let (log, log_base64) = match String::from_utf8(bytes) {
            Ok(log) => (log, None),
            Err(error) => {
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(BASE64_STANDARD.encode(error.as_bytes())))
            }
        };
        Self { log, log_base64, last_seen, is_complete }
    }

    /// The exact bytes.
    #[must_use]
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        let exact = self.log_base64.as_ref().and_then(|text| BASE64_STANDARD.decode(text).ok());
        exact.map_or(Cow::Borrowed(self.log.as_bytes()), Cow::Owned)
    }
}

/// The last event of a followed log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEnd {
    /// `false` if the run has stopped but the end of its log is not stored yet. Omitted otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_complete: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_through_as_they_were_written() {
        for bytes in
            [&b""[..], b"text \xc3\xa9\n", b"\0\r\n\x1b[1m", b"\xff\xfe", b"half \xe2\x82", b"\xed\xa0\x80 surrogate"]
        {
            let chunk = LogChunk::new(bytes.to_vec(), "f/1/1".to_owned(), None);
            assert_eq!(chunk.log_base64.is_some(), std::str::from_utf8(bytes).is_err(), "{bytes:?}");
            let sent = serde_json::to_string(&chunk).unwrap();
            let received: LogChunk = serde_json::from_str(&sent).unwrap();
            assert_eq!(&*received.bytes(), bytes, "{sent}");
        }
    }

    #[test]
    fn a_piece_of_text_has_only_the_fields_that_clients_have_always_seen() {
        let chunk = LogChunk::new(b"a\n".to_vec(), "f/1/2".to_owned(), None);
        assert_eq!(serde_json::to_value(&chunk).unwrap(), serde_json::json!({"log": "a\n", "last_seen": "f/1/2"}));
    }
}

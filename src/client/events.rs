//! Server-sent events, read within bounds (WHATWG HTML §9.2.6): what an embassy tells those who watch a ceremony.
//!
//! Events are news, never evidence: whoever acts on one asks for the ceremony itself and checks it.

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};

use crate::{client::ClientError, protocol::ids::EmbassyName};

/// The longest event, in bytes.
const MAX_EVENT_BYTES: usize = 64 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// To go on after it, where the embassy numbers its events.
    pub id: Option<String>,
    /// Its kind; `message` where the embassy says none.
    pub kind: String,
    /// What it says.
    pub data: String,
}

/// Events as they come.
#[derive(Debug)]
pub struct Events {
    embassy: EmbassyName,
    body: Incoming,
    parser: Parser,
}

impl Events {
    pub(super) fn new(embassy: EmbassyName, body: Incoming) -> Self {
        Self { embassy, body, parser: Parser::default() }
    }

    /// The next event; `None` when the embassy has ended the stream.
    ///
    /// # Errors
    /// [`ClientError::Lost`], [`ClientError::TooLong`], [`ClientError::Unreadable`].
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = self.parser.event().map_err(|fault| self.fault(fault))? {
                return Ok(Some(event));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.parser.take(&frame.into_data().unwrap_or_else(|_| Bytes::new())),
                Some(Err(error)) => {
                    return Err(ClientError::Lost { embassy: self.embassy.clone(), reason: error.to_string() });
                }
            }
        }
    }

    fn fault(&self, fault: Fault) -> ClientError {
        let embassy = self.embassy.clone();
        match fault {
            Fault::TooLong => ClientError::TooLong { embassy, bound: MAX_EVENT_BYTES },
            Fault::NotText => ClientError::Unreadable { embassy, reason: "an event is not UTF-8".to_owned() },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    TooLong,
    NotText,
}

/// Takes bytes as they arrive and gives whole events.
#[derive(Debug, Default)]
struct Parser {
    bytes: Vec<u8>,
    event: Event,
    has_data: bool,
}

impl Parser {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn event(&mut self) -> Result<Option<Event>, Fault> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = std::str::from_utf8(&line).map_err(|_| Fault::NotText)?.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                let mut event = std::mem::take(&mut self.event);
                if std::mem::take(&mut self.has_data) {
                    if event.kind.is_empty() {
                        "message".clone_into(&mut event.kind);
                    }
                    return Ok(Some(event));
                }
                continue;
            }
            self.line(line)?;
        }
        if self.bytes.len() > MAX_EVENT_BYTES { Err(Fault::TooLong) } else { Ok(None) }
    }

    fn line(&mut self, line: &str) -> Result<(), Fault> {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.kind),
            "id" => self.event.id = Some(value.to_owned()),
            // A line that begins with a colon keeps the connection alive; other fields are not ours.
            _ => {}
        }
        if self.event.data.len() > MAX_EVENT_BYTES { Err(Fault::TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all(parts: &[&[u8]]) -> Result<Vec<Event>, Fault> {
        let (mut parser, mut found) = (Parser::default(), Vec::new());
        for part in parts {
            parser.take(part);
            while let Some(event) = parser.event()? {
                found.push(event);
            }
        }
        Ok(found)
    }

    #[test]
    fn events_come_whole_however_the_bytes_are_cut() {
        let text = b": alive\n\nid: 7\nevent: contributed\ndata: anna\ndata: 2 of 3\n\ndata:late\r\n\r\nevent: empty\n\ndata: cut";
        let whole = all(&[text]).unwrap();
        let first = Event { id: Some("7".to_owned()), kind: "contributed".to_owned(), data: "anna\n2 of 3".to_owned() };
        let second = Event { id: None, kind: "message".to_owned(), data: "late".to_owned() };
        assert_eq!(whole, [first, second]);
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(all(&single).unwrap(), whole);
    }

    #[test]
    fn an_event_without_an_end_is_not_collected_for_ever() {
        let long = [b"data: ".as_slice(), &vec![b'a'; MAX_EVENT_BYTES]].concat();
        assert_eq!(all(&[&long]), Err(Fault::TooLong));
        let many: Vec<&[u8]> = std::iter::repeat_n(b"data: aaaaaaaa\n".as_slice(), MAX_EVENT_BYTES / 8).collect();
        assert_eq!(all(&many), Err(Fault::TooLong));
        assert_eq!(all(&[b"data: \xff\n\n"]), Err(Fault::NotText));
    }
}

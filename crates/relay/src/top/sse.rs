//! Server-sent events, as far as the relay uses them: an event's name and its data.

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: String,
}

/// An event is larger than this reader allows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the relay is too large")]
pub(super) struct TooLarge;

/// Puts events together from the pieces in which they arrive.
#[derive(Debug)]
pub(super) struct Reader {
    limit: usize,
    line: Vec<u8>,
    name: String,
    data: String,
}

impl Reader {
    /// No event may have more than `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            name: String::new(),
            data: String::new(),
        }
    }

    /// The events that `piece` completes.
    ///
    /// # Errors
    /// When an event has too many bytes. The reader is of no use then.
    pub(super) fn read(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            if self.line.len() + self.data.len() + part.len() > self.limit {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(part);
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                events.extend(self.end_of_line(&String::from_utf8_lossy(&line)));
            }
        }
        Ok(events)
    }

    fn end_of_line(&mut self, line: &str) -> Option<Event> {
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let data = std::mem::take(&mut self.data);
            return (!data.is_empty()).then_some(Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // Comments, and `retry`, which our own pace replaces.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "retry: 2000\n\nevent: hello\ndata: {\"a\":\ndata:1}\n\n: still here\n\r\n\
                          event: sample\r\ndata: é\r\n\r\nevent: cut\ndata: off";

    #[test]
    fn events_are_the_same_in_whatever_pieces_they_arrive() {
        let event = |name: &str, data: &str| Event {
            name: name.to_owned(),
            data: data.to_owned(),
        };
        let expected = [event("hello", "{\"a\":\n1}"), event("sample", "é")];
        for size in 1..=STREAM.len() {
            let mut reader = Reader::new(1000);
            let pieces = STREAM.as_bytes().chunks(size);
            let events: Vec<_> = pieces
                .flat_map(|piece| reader.read(piece).unwrap())
                .collect();
            assert_eq!(events, expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_event_without_end_is_an_error_and_not_a_full_memory() {
        let mut reader = Reader::new(100);
        assert_eq!(reader.read(&[b'x'; 101]), Err(TooLarge));
        let mut reader = Reader::new(100);
        let results: Vec<_> = (0..20)
            .map(|_| reader.read(b"data: 0123456789\n"))
            .collect();
        assert!(results.iter().any(Result::is_err));
    }
}

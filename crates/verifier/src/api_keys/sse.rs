//! Reads server-sent events (WHATWG HTML §9.2.6), as far as our server writes them: bounded, and
//! anything else ends the stream.

/// Longest line.
const LONGEST_LINE: usize = 8 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its name.
    pub(super) name: String,
    /// Its data.
    pub(super) data: String,
}

/// Reads pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    event: Event,
}

/// What came is no stream of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Reader {
    /// Takes a piece; returns the events that are whole.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<Vec<Event>, Unreadable> {
        let mut events = Vec::new();
        for byte in piece {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    let line = String::from_utf8(line).map_err(|_| Unreadable)?;
                    let line = line.strip_suffix('\r').unwrap_or(&line);
                    if line.is_empty() {
                        let event = std::mem::take(&mut self.event);
                        if !event.data.is_empty() {
                            events.push(event);
                        }
                    } else {
                        self.field(line)?;
                    }
                }
                byte if self.line.len() < LONGEST_LINE => self.line.push(*byte),
                _ => return Err(Unreadable),
            }
        }
        Ok(events)
    }

    fn field(&mut self, line: &str) -> Result<(), Unreadable> {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if self.event.data.len() + value.len() > LONGEST_LINE {
                    return Err(Unreadable);
                }
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments, ids and what later versions may add.
            _ => {}
        }
        Ok(())
    }
}

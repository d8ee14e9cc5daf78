//! The text of all metrics on its way to the proxy, which serves it to scrapers.
//!
//! The proxy asks with [`ToAgent::MetricsRequest`](crate::ToAgent::MetricsRequest) and not again
//! before the answer is whole. The agent answers in parts, so that nothing else that is to be said
//! waits behind a long text.

use alloc::vec::Vec;

use crate::MAX_METRICS_BYTES;

/// Longest part in bytes.
const PART_BYTES: usize = 256 << 10;

/// Part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsPart {
    pub(crate) text: Vec<u8>,
    pub(crate) is_last: bool,
}

impl MetricsPart {
    /// The parts of an answer, in order. A text longer than [`MAX_METRICS_BYTES`] is not sent: the
    /// answer is one empty part then.
    pub fn answer(text: &str) -> impl Iterator<Item = Self> {
        let text = match text.len() {
            0..=MAX_METRICS_BYTES => text.as_bytes(),
            _ => &[],
        };
        let last = text.len().saturating_sub(1) / PART_BYTES;
        (0..=last).map(move |index| {
            let rest = &text[index * PART_BYTES..];
            Self {
                text: rest[..rest.len().min(PART_BYTES)].to_vec(),
                is_last: index == last,
            }
        })
    }
}

/// Puts the parts of one answer after another together.
#[derive(Debug, Default)]
pub struct MetricsAnswer {
    text: Vec<u8>,
}

impl MetricsAnswer {
    /// Takes a part; gives the text once it is whole. It is empty where the agent's is too long.
    pub fn on_part(&mut self, part: MetricsPart) -> Result<Option<Vec<u8>>, MetricsTooLong> {
        if self.text.len() + part.text.len() > MAX_METRICS_BYTES {
            return Err(MetricsTooLong);
        }
        self.text.extend_from_slice(&part.text);
        Ok(part.is_last.then(|| core::mem::take(&mut self.text)))
    }
}

/// The parts of an answer are longer than any answer: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metrics of more than {MAX_METRICS_BYTES} bytes came")]
pub struct MetricsTooLong;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn text(length: usize) -> String {
        (b'a'..=b'z').cycle().take(length).map(char::from).collect()
    }

    #[test]
    fn a_text_is_whole_however_long_it_is() {
        let mut answer = MetricsAnswer::default();
        for length in [1, PART_BYTES, PART_BYTES + 1, MAX_METRICS_BYTES] {
            let text = text(length);
            let parts: Vec<_> = MetricsPart::answer(&text).collect();
            let (last, before) = parts.split_last().unwrap();
            assert_eq!(parts.len(), length.div_ceil(PART_BYTES));
            for part in before {
                assert_eq!(answer.on_part(part.clone()), Ok(None));
            }
            let whole = answer.on_part(last.clone()).unwrap();
            assert_eq!(whole.as_deref(), Some(text.as_bytes()), "{length} bytes");
        }
    }

    #[test]
    fn what_is_too_long_is_neither_sent_nor_kept() {
        let too_long = text(MAX_METRICS_BYTES + 1);
        let parts: Vec<_> = MetricsPart::answer(&too_long).collect();
        let empty = MetricsPart {
            text: Vec::new(),
            is_last: true,
        };
        assert_eq!(parts, [empty]);
        let part = MetricsPart {
            text: alloc::vec![b'a'; MAX_METRICS_BYTES],
            is_last: false,
        };
        let mut answer = MetricsAnswer::default();
        assert_eq!(answer.on_part(part.clone()), Ok(None));
        assert_eq!(answer.on_part(part), Err(MetricsTooLong));
    }
}

//! What a law remembers, as bytes: numbers bit for bit, in the order of the law's fields.

use alloc::vec::Vec;

/// The layout below; another one has another number.
const LAYOUT: u8 = 2;

/// Writes a memory.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Default for Writer {
    fn default() -> Self {
        Self([LAYOUT].into())
    }
}

impl Writer {
    pub(crate) fn number(&mut self, number: f64) {
        self.count(number.to_bits());
    }

    pub(crate) fn count(&mut self, count: u64) {
        self.0.extend(count.to_le_bytes());
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.0.push(flag.into());
    }

    pub(crate) fn perhaps<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn list<T>(&mut self, values: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.count(values.len() as u64);
        for value in values {
            write(self, value);
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a memory, which may be anything: `None` is what no [`Writer`] wrote.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[LAYOUT])?;
        Some(Self(rest))
    }

    pub(crate) fn number(&mut self) -> Option<f64> {
        self.count().map(f64::from_bits)
    }

    pub(crate) fn count(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }

    /// A count below `end`.
    pub(crate) fn place(&mut self, end: usize) -> Option<usize> {
        let place = usize::try_from(self.count()?).ok()?;
        (place < end).then_some(place)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        let (flag, rest) = self.0.split_first()?;
        self.0 = rest;
        match flag {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn perhaps<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.flag()? {
            true => read(self).map(Some),
            false => Some(None),
        }
    }

    /// Fills the first of `places`; how many.
    pub(crate) fn list<T>(
        &mut self,
        places: &mut [T],
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<usize> {
        let count = self.place(places.len() + 1)?;
        for place in &mut places[..count] {
            *place = read(self)?;
        }
        Some(count)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

//! Room for what comes and goes, by keys that are never another's.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

/// Things of one kind. What is gone is not found by its key any more, though its place is another's.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    /// How many had the place before.
    turn: u32,
    held: Option<T>,
}

/// Where one of them is.
pub(crate) struct Key<T> {
    place: u32,
    turn: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn put(&mut self, thing: T) -> Key<T> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place {
                turn: 0,
                held: None,
            });
            u32::try_from(self.places.len() - 1).expect("a run has fewer at once")
        });
        let held = &mut self.places[place as usize];
        held.held = Some(thing);
        Key {
            place,
            turn: held.turn,
            of: PhantomData,
        }
    }

    pub(crate) fn get(&mut self, key: Key<T>) -> Option<&mut T> {
        let place = &mut self.places[key.place as usize];
        place.held.as_mut().filter(|_| place.turn == key.turn)
    }

    pub(crate) fn take(&mut self, key: Key<T>) -> Option<T> {
        let place = &mut self.places[key.place as usize];
        if place.turn != key.turn {
            return None;
        }
        let taken = place.held.take()?;
        place.turn = place.turn.wrapping_add(1);
        self.free.push(key.place);
        Some(taken)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|place| place.held.as_ref())
    }

    /// What a key that is still one leads to.
    pub(crate) fn look(&self, key: Key<T>) -> Option<&T> {
        let place = &self.places[key.place as usize];
        place.held.as_ref().filter(|_| place.turn == key.turn)
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Key<T> {}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.place, self.turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_anothers() {
        let mut arena = Arena::new();
        let old = arena.put('a');
        assert_eq!(arena.take(old), Some('a'));
        let new = arena.put('b');
        assert_eq!(arena.get(old), None);
        assert_eq!(arena.take(old), None);
        assert_eq!(arena.get(new), Some(&mut 'b'));
        assert_eq!(arena.take(new), Some('b'));
        assert_eq!(arena.iter().count(), 0);
    }
}

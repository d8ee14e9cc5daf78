//! Who may hold how many connections at once, so that no user keeps the others out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections of root at once.
const MAX_OF_ROOT: usize = 32;
/// Connections of any other user at once.
const MAX_OF_USER: usize = 8;
/// Connections of all other users together.
const MAX_OF_USERS: usize = 64;

/// The places of a listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<BTreeMap<u32, usize>>>);

/// A taken place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    uid: u32,
}

impl Places {
    /// A place for a connection of `uid`; `None` at the bound.
    pub(super) fn take(&self, uid: u32) -> Option<Place> {
        let mut taken = self.lock();
        let own = taken.get(&uid).copied().unwrap_or(0);
        let of_users: usize = taken
            .iter()
            .filter(|(of, _)| **of != 0)
            .map(|(_, it)| it)
            .sum();
        let is_free = match uid {
            0 => own < MAX_OF_ROOT,
            _ => own < MAX_OF_USER && of_users < MAX_OF_USERS,
        };
        if !is_free {
            return None;
        }
        taken.insert(uid, own + 1);
        let places = self.clone();
        Some(Place { places, uid })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match taken.get_mut(&self.uid) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.uid)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_keeps_the_others_out() {
        let places = Places::default();
        let greedy: Vec<_> = (0..100).map_while(|_| places.take(1000)).collect();
        assert_eq!(greedy.len(), MAX_OF_USER);
        let others: Vec<_> = (0..1000)
            .filter_map(|uid| places.take(2000 + uid))
            .collect();
        assert_eq!(others.len(), MAX_OF_USERS - MAX_OF_USER);
        let root: Vec<_> = (0..100).map_while(|_| places.take(0)).collect();
        assert_eq!(root.len(), MAX_OF_ROOT, "root is not kept out by users");
        drop(greedy);
        assert!(places.take(1000).is_some());
        drop((others, root));
        assert!(places.lock().is_empty());
    }
}

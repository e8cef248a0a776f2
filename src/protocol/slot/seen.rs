//! The points an official has seen in slots: one point belongs to one slot, for ever. protocol.md §6.3.

use std::collections::BTreeMap;

use crate::protocol::{hash::Hash, slot::VerifiedSlot};

/// A point was shown before, in another slot. The partial for it would open both; refuse, and tell the other officials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the slot's point was seen before, in the slot {earlier}")]
pub struct PointSeen {
    /// That slot's id.
    pub earlier: Hash,
}

/// Every point seen so far, with the slot it belongs to. Kept by the caller.
///
/// A point stands here by its x coordinate: a partial for C is one for −C.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenPoints(BTreeMap<[u8; 32], Hash>);

impl SeenPoints {
    /// None seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What [`SeenPoints::iter`] gave, of one store or of several.
    ///
    /// # Errors
    /// [`PointSeen`] where a point stands under two slots: a store was altered, or two slots with one point were seen.
    pub fn restore(entries: impl IntoIterator<Item = ([u8; 32], Hash)>) -> Result<Self, PointSeen> {
        let mut seen = Self::new();
        entries.into_iter().try_for_each(|(x, slot)| seen.insert(x, slot))?;
        Ok(seen)
    }

    /// Notes a slot's point. The same slot may come again.
    ///
    /// # Errors
    /// [`PointSeen`] where the point stood in another slot; nothing is noted then.
    pub fn note(&mut self, slot: &VerifiedSlot) -> Result<(), PointSeen> {
        self.insert(slot.point().xy().0, slot.id())
    }

    /// The points' x coordinates and the slots' ids, for storing.
    pub fn iter(&self) -> impl Iterator<Item = ([u8; 32], Hash)> + '_ {
        self.0.iter().map(|(x, slot)| (*x, *slot))
    }

    fn insert(&mut self, x: [u8; 32], slot: Hash) -> Result<(), PointSeen> {
        match *self.0.entry(x).or_insert(slot) {
            earlier if earlier == slot => Ok(()),
            earlier => Err(PointSeen { earlier }),
        }
    }
}

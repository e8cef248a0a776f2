//! The points an official has seen in slots: one point belongs to one slot, for ever. protocol.md §6.3.

use std::collections::BTreeMap;

use crate::protocol::{
    group::{POINT_BYTES, Point},
    hash::Hash,
    slot::VerifiedSlot,
};

/// A point was shown before, in another slot. The partial for it would open both; refuse, and tell the other officials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the slot's point was seen before, in the slot {earlier}")]
pub struct PointSeen {
    /// That slot's id.
    pub earlier: Hash,
}

/// Every point seen so far, with the slot it belongs to. Kept by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenPoints(BTreeMap<[u8; POINT_BYTES], Hash>);

impl SeenPoints {
    /// None seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a slot's point. The same slot may come again.
    ///
    /// # Errors
    /// [`PointSeen`] where the point stood in another slot; nothing is noted then.
    pub fn note(&mut self, slot: &VerifiedSlot) -> Result<(), PointSeen> {
        let id = slot.id();
        match self.0.get(&slot.point().encode()) {
            Some(earlier) if *earlier != id => Err(PointSeen { earlier: *earlier }),
            Some(_) => Ok(()),
            None => {
                self.0.insert(slot.point().encode(), id);
                Ok(())
            }
        }
    }

    /// Points and slot ids, for storing.
    pub fn iter(&self) -> impl Iterator<Item = (Point, Hash)> + '_ {
        self.0.iter().filter_map(|(point, slot)| Some((Point::decode(point).ok()?, *slot)))
    }
}

impl FromIterator<(Point, Hash)> for SeenPoints {
    fn from_iter<I: IntoIterator<Item = (Point, Hash)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(point, slot)| (point.encode(), slot)).collect())
    }
}

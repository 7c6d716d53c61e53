//! A map of which the state at one moment can be set aside at once: copy-on-write, in two layers.
//!
//! [`CowMap::freeze`] makes all that is there the *base*, which both sides share and nobody changes.
//! What changes afterwards goes into the *delta*, one value at a time. When the other side has let
//! go of the base, each further change folds some of the delta into it, until the map is plain again.
//!
//! Invariants: the layers cannot be told from outside; a frozen copy never changes; a change copies
//! at most the one value that it is about; and a map that is not frozen is a [`BTreeMap`] behind one
//! branch.

use std::{
    collections::{BTreeMap, btree_map::Range},
    iter::Peekable,
    mem,
    ops::Bound,
    sync::Arc,
};

use crate::codec::{Decode, DecodeError, Encode, Reader, put_count};

/// How much of the delta a change folds into the base. Each adds at most one entry, so that two or
/// more come to an end; few, so that no change takes notably longer than usual.
const FOLDED_AT_ONCE: usize = 4;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum CowMap<K, V> {
    /// Nobody shares it.
    Plain(BTreeMap<K, V>),
    /// It was frozen, and may still be shared.
    Layered(Layers<K, V>),
}

/// What was there when the map was frozen, and what has changed since.
#[derive(Clone, Debug)]
pub(crate) struct Layers<K, V> {
    base: Arc<BTreeMap<K, V>>,
    /// None for what is gone.
    delta: BTreeMap<K, Option<V>>,
    len: usize,
}

impl<K, V> CowMap<K, V> {
    /// An empty map.
    pub(crate) const fn new() -> Self {
        Self::Plain(BTreeMap::new())
    }
}

impl<K, V> Default for CowMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, V: Clone> CowMap<K, V> {
    /// The map as it is now. Takes the same time however large it is; only what has changed since
    /// it was last frozen is copied, if that is not folded in yet.
    pub(crate) fn freeze(&mut self) -> Self {
        if let Self::Plain(map) = self {
            let base = mem::take(map);
            *self = Self::Layered(Layers {
                len: base.len(),
                base: Arc::new(base),
                delta: BTreeMap::new(),
            });
        }
        self.clone()
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Plain(map) => map.len(),
            Self::Layered(layers) => layers.len,
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::Plain(map) => map.get(key),
            Self::Layered(layers) => layers.get(key),
        }
    }

    /// True if the key has a value.
    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// The value of a key, to change it.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.fold();
        match self {
            Self::Plain(map) => map.get_mut(key),
            Self::Layered(layers) => layers.get_mut(key),
        }
    }

    /// The value of a key, to change it; it gets one if it has none.
    pub(crate) fn get_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        self.fold();
        match self {
            Self::Plain(map) => map.entry(key.clone()).or_default(),
            Self::Layered(layers) => layers.get_or_default(key),
        }
    }

    /// Gives a key a value.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.fold();
        match self {
            Self::Plain(map) => {
                map.insert(key, value);
            }
            Self::Layered(layers) => layers.insert(key, value),
        }
    }

    /// Takes a key out.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.fold();
        match self {
            Self::Plain(map) => map.remove(key),
            Self::Layered(layers) => layers.remove(key),
        }
    }

    /// All entries, by key.
    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        self.range_from(Bound::Unbounded)
    }

    /// All values, by key.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entries from a key on.
    pub(crate) fn range_from(&self, first: Bound<&K>) -> Iter<'_, K, V> {
        let range = (first, Bound::Unbounded);
        let (base, delta) = match self {
            Self::Plain(map) => (map.range::<K, _>(range), Range::default()),
            Self::Layered(layers) => (
                layers.base.range::<K, _>(range),
                layers.delta.range::<K, _>(range),
            ),
        };
        Iter {
            base: base.peekable(),
            delta: delta.peekable(),
        }
    }

    /// Brings a layered map nearer to a plain one, if the base is not shared any more.
    #[inline]
    fn fold(&mut self) {
        if let Self::Layered(layers) = self
            && layers.fold()
        {
            let base = mem::take(&mut layers.base);
            *self = Self::Plain(Arc::unwrap_or_clone(base));
        }
    }
}

impl<K: Ord + Clone, V: Clone> Layers<K, V> {
    /// True once the base is not shared and has all.
    #[cold]
    fn fold(&mut self) -> bool {
        let Some(base) = Arc::get_mut(&mut self.base) else {
            return false;
        };
        for _ in 0..FOLDED_AT_ONCE {
            match self.delta.pop_first() {
                Some((key, Some(value))) => {
                    base.insert(key, value);
                }
                Some((key, None)) => {
                    base.remove(&key);
                }
                None => return true,
            }
        }
        self.delta.is_empty()
    }

    #[cold]
    fn get(&self, key: &K) -> Option<&V> {
        match self.delta.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.base.get(key),
        }
    }

    #[cold]
    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        if !self.delta.contains_key(key) {
            let copy = self.base.get(key)?.clone();
            self.delta.insert(key.clone(), Some(copy));
        }
        self.delta.get_mut(key)?.as_mut()
    }

    #[cold]
    fn get_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        if self.get(key).is_none() {
            self.len += 1;
        }
        let base = &self.base;
        self.delta
            .entry(key.clone())
            .or_insert_with(|| base.get(key).cloned())
            .get_or_insert_default()
    }

    #[cold]
    fn insert(&mut self, key: K, value: V) {
        if self.get(&key).is_none() {
            self.len += 1;
        }
        self.delta.insert(key, Some(value));
    }

    #[cold]
    fn remove(&mut self, key: &K) -> Option<V> {
        let value = match self.delta.remove(key) {
            Some(changed) => changed,
            None => self.base.get(key).cloned(),
        };
        if self.base.contains_key(key) {
            self.delta.insert(key.clone(), None);
        }
        if value.is_some() {
            self.len -= 1;
        }
        value
    }
}

impl<K, V> From<BTreeMap<K, V>> for CowMap<K, V> {
    fn from(map: BTreeMap<K, V>) -> Self {
        Self::Plain(map)
    }
}

impl<'a, K: Ord + Clone, V: Clone> IntoIterator for &'a CowMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

/// As of a [`BTreeMap`].
impl<K: Encode + Ord + Clone, V: Encode + Clone> Encode for CowMap<K, V> {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_count(out, self.len());
        for (key, value) in self {
            key.encode_into(out);
            value.encode_into(out);
        }
    }
}

impl<K: Decode + Ord, V: Decode> Decode for CowMap<K, V> {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        BTreeMap::decode_from(input).map(Self::from)
    }
}

/// Both layers as one.
pub(crate) struct Iter<'a, K, V> {
    base: Peekable<Range<'a, K, V>>,
    delta: Peekable<Range<'a, K, Option<V>>>,
}

impl<'a, K: Ord, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((changed, _)) = self.delta.peek() {
            match self.base.peek() {
                Some((key, _)) if key < changed => break,
                Some((key, _)) if key == changed => {
                    self.base.next();
                }
                Some(_) | None => {}
            }
            if let Some((key, Some(value))) = self.delta.next() {
                return Some((key, value));
            }
        }
        self.base.next()
    }
}

#[cfg(test)]
mod tests;

//! Which cluster the nodes of a SyncCluster are, and who is another's.
//!
//! Invariant: nothing is decided by what another cluster says. An address may be a pod's of another cluster by
//! now, and a volume may hold a node of a cluster that was recovered since. So the id is pinned at the
//! SyncCluster (a status is lost when objects are restored) once the pods agree, and then only a person
//! changes it, after a recovery.

use std::{collections::BTreeMap, fmt};

use super::observed::Ordinal;

/// Hexadecimal digits of an id.
const DIGITS: usize = 32;

/// A cluster's id, given when it is founded and when it is recovered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterId(String);

impl ClusterId {
    /// An id as nodes say and print it: 32 hexadecimal digits. None if it is no such.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == DIGITS && text.chars().all(|sign| sign.is_ascii_hexdigit());
        is_id.then(|| Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Which cluster this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// Too few pods agree on one, and none is pinned.
    #[default]
    Unknown,
    /// The pods agree, and it is to be pinned.
    Agreed(ClusterId),
    /// It is pinned.
    Pinned(ClusterId),
}

impl Identity {
    /// The id, if it is known.
    #[must_use]
    pub const fn id(&self) -> Option<&ClusterId> {
        match self {
            Self::Unknown => None,
            Self::Agreed(id) | Self::Pinned(id) => Some(id),
        }
    }
}

/// A pod whose node is of another cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Which pod.
    pub ordinal: Ordinal,
    /// The cluster that it says it is of.
    pub cluster: ClusterId,
}

/// How many pods there are to agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Electorate {
    /// Pods of the set.
    pub pods: u32,
    /// The first ones, which have founded the cluster.
    pub founders: u32,
}

/// The id that a majority of the pods answers; or all that founded it, with nobody to the contrary, because
/// of the others there may be none yet.
#[must_use]
pub fn agreed(electorate: Electorate, answers: &BTreeMap<Ordinal, ClusterId>) -> Option<ClusterId> {
    answers.values().find_map(|id| {
        let by = |ordinal: Ordinal| answers.get(&ordinal) == Some(id);
        let count = (0..electorate.pods).filter(|ordinal| by(*ordinal)).count();
        let is_majority = u32::try_from(count).is_ok_and(|count| count > electorate.pods / 2);
        let is_unanimous = answers.values().all(|other| other == id);
        let is_founders = electorate.founders > 0 && (0..electorate.founders).all(by);
        (is_majority || (is_unanimous && is_founders)).then(|| id.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::{ClusterId, Electorate, agreed};

    #[test]
    fn only_ids_are_ids() {
        let id = "0123456789abcdef0123456789ABCDEF";
        assert_eq!(ClusterId::parse(id).unwrap().to_string(), id.to_lowercase());
        for other in ["", "0", &id[1..], &format!("{id}0"), &id.replace('f', "g")] {
            assert_eq!(ClusterId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_majority_of_the_pods_or_all_founders_agree() {
        let id = |digit: char| ClusterId::parse(&digit.to_string().repeat(32)).unwrap();
        let asked = |pods, answers: &str| {
            let electorate = Electorate { pods, founders: 3 };
            // A dot is a pod that does not answer.
            let answers = (0..)
                .zip(answers.chars())
                .filter(|(_, digit)| *digit != '.');
            agreed(
                electorate,
                &answers.map(|(at, digit)| (at, id(digit))).collect(),
            )
        };
        assert_eq!(asked(3, ""), None);
        assert_eq!(asked(3, "a.."), None);
        assert_eq!(asked(3, "aa."), Some(id('a')));
        assert_eq!(asked(3, "aab"), Some(id('a')));
        assert_eq!(asked(3, "ab."), None);
        // Two of nine; and the others have never started.
        assert_eq!(asked(9, "aa......."), None);
        assert_eq!(asked(9, "aaa......"), Some(id('a')));
        assert_eq!(asked(9, "aaab....."), None);
        assert_eq!(asked(9, "baaaaa..."), Some(id('a')));
        // Pods beyond the set have no say.
        assert_eq!(asked(3, "a..aaa"), None);
    }
}

//! What a client does next, drawn at random from a seed.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};

use crate::history::{Mode, Wait};

/// How clients behave. Shares are in hundredths of the acquisitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Asks for a shared hold.
    pub shared: u32,
    /// Would not wait.
    pub tries: u32,
    /// Would wait for [`Self::timeout`] at most.
    pub timeouts: u32,
    /// How long those would wait.
    pub timeout: Duration,
    /// Takes two locks at once.
    pub pairs: u32,
    /// Asks the server whether a token is valid, while it is held, and after its release.
    pub validations: u32,
    /// Longest critical section.
    pub hold: Duration,
    /// Longest time between two of them.
    pub think: Duration,
}

impl Default for Mix {
    /// Some contention, and a load that leaves two cores time to hold elections.
    fn default() -> Self {
        Self {
            shared: 25,
            tries: 10,
            timeouts: 20,
            timeout: Duration::from_millis(500),
            pairs: 5,
            validations: 3,
            hold: Duration::from_millis(4),
            think: Duration::from_millis(40),
        }
    }
}

/// One turn of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Indices among the locks of the load: one, or two different ones.
    pub(super) locks: Vec<usize>,
    pub(super) mode: Mode,
    pub(super) wait: Wait,
    pub(super) hold: Duration,
    pub(super) validate_held: bool,
    pub(super) validate_released: bool,
    pub(super) think: Duration,
}

impl Mix {
    pub(super) fn draw(&self, rng: &mut StdRng, locks: usize) -> Turn {
        let mut chance = |share: u32| rng.random_range(0..100) < share;
        let mode = if chance(self.shared) {
            Mode::Shared
        } else {
            Mode::Exclusive
        };
        let pair = chance(self.pairs) && locks > 1;
        let validate_held = chance(self.validations);
        let validate_released = chance(self.validations);
        let wait = match rng.random_range(0..100) {
            share if share < self.tries => Wait::Try,
            share if share < self.tries + self.timeouts => Wait::AtMost(self.timeout),
            _ => Wait::Forever,
        };
        let first = rng.random_range(0..locks);
        let mut chosen = vec![first];
        if pair {
            chosen.push((first + rng.random_range(1..locks)) % locks);
        }
        Turn {
            locks: chosen,
            mode,
            wait,
            hold: up_to(rng, self.hold),
            validate_held,
            validate_released,
            think: up_to(rng, self.think),
        }
    }
}

fn up_to(rng: &mut StdRng, limit: Duration) -> Duration {
    limit.mul_f64(rng.random())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn turns_follow_the_shares_and_the_seed() {
        let mix = Mix::default();
        let draw = |seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let turns: Vec<Turn> = (0..2_000).map(|_| mix.draw(&mut rng, 8)).collect();
            turns
        };
        let turns = draw(7);
        assert_eq!(turns, draw(7));
        let share = |of: &dyn Fn(&Turn) -> bool| turns.iter().filter(|turn| of(turn)).count() / 20;
        assert!((20..30).contains(&share(&|turn| turn.mode == Mode::Shared)));
        assert!((6..14).contains(&share(&|turn| turn.wait == Wait::Try)));
        assert!((2..9).contains(&share(&|turn| turn.locks.len() == 2)));
        assert!(turns.iter().all(|turn| match turn.locks.as_slice() {
            [one] => *one < 8,
            [one, other] => one != other && *one < 8 && *other < 8,
            _ => false,
        }));
    }
}

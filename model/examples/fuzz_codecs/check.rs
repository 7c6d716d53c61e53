//! What must hold of every input.
//!
//! Invariant: whatever is found comes with the bytes that show it again.

use std::{
    fmt::{self, Debug},
    panic::{AssertUnwindSafe, catch_unwind},
};

use lockstep_model::{
    Answer, Batch, Command, DecodeError, Machine, Query, Reply, codec::FORMAT_VERSION,
};
use proptest::{prelude::*, test_runner::TestRng};

use crate::small_world::SmallWorld;

/// One input in so many keeps a wrong version, or a wrong checksum: they end most checks at once.
const IMPLAUSIBLE_ONE_IN: u32 = 32;
/// Batches that a restored machine is given.
const BATCHES_AFTER_RESTORE: usize = 3;
/// A checksum's length.
const CHECKSUM: usize = size_of::<u32>();

/// What can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Batch,
    Command,
    Reply,
    Query,
    Answer,
    Snapshot,
}

impl Format {
    pub(crate) const ALL: [Self; 6] = [
        Self::Batch,
        Self::Command,
        Self::Reply,
        Self::Query,
        Self::Answer,
        Self::Snapshot,
    ];

    pub(crate) fn draw(rng: &mut TestRng) -> Self {
        let chosen = Self::ALL.get(rng.random_range(0..Self::ALL.len()));
        chosen.copied().unwrap_or(Self::Batch)
    }

    /// Gives a damaged input the version and the checksum that let it past the first checks.
    pub(crate) fn make_plausible(self, input: &mut Vec<u8>, rng: &mut TestRng) {
        if rng.random_ratio(1, IMPLAUSIBLE_ONE_IN) {
            return;
        }
        if let Some(version) = input.first_mut() {
            *version = FORMAT_VERSION;
        }
        if self == Self::Snapshot {
            let state = input.len().saturating_sub(CHECKSUM);
            input.truncate(state);
            let checksum = crc32fast::hash(input);
            input.extend_from_slice(&checksum.to_le_bytes());
        }
    }
}

/// Something that must not be.
#[derive(Debug)]
pub(crate) struct Violation {
    format: Format,
    what: String,
    input: Vec<u8>,
    /// The machine that the input was given to, if it decodes.
    machine: Option<Vec<u8>>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "violation: {:?}: {}", self.format, self.what)?;
        write!(f, "input: {}", Hex(&self.input))?;
        match &self.machine {
            Some(machine) => write!(f, "\nmachine: {}", Hex(machine)),
            None => Ok(()),
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Decodes an input, and uses what comes out. Says whether something did.
pub(crate) fn check(
    format: Format,
    input: &[u8],
    world: &mut SmallWorld,
    rng: &mut TestRng,
) -> Result<bool, Violation> {
    let violation = |what| Violation {
        format,
        what,
        input: input.to_vec(),
        machine: None,
    };
    let decoded = caught("decoding it", || decode(format, input)).map_err(violation)?;
    let Some(decoded) = decoded else {
        return Ok(false);
    };
    caught("using it", || decoded.use_on(world, rng)).map_err(|what| Violation {
        machine: Some(world.machine().snapshot()),
        ..violation(what)
    })?;
    Ok(true)
}

/// Turns a panic into words.
fn caught<T>(what: &str, act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| Err(format!("{what} panicked")))
}

/// What an input came to.
enum Decoded {
    Batch(Batch),
    Query(Query),
    Machine(Box<Machine>),
    /// Nothing that anything can be done with.
    Value,
}

impl Decoded {
    /// A batch is applied and a query asked where there are sessions and locks; a restored machine
    /// goes on with a few batches.
    fn use_on(self, world: &mut SmallWorld, rng: &mut TestRng) -> Result<(), String> {
        match self {
            Self::Batch(batch) => {
                let mut machine = world.machine().clone();
                apply(&mut machine, batch)?;
                sound(&machine)
            }
            Self::Query(query) => {
                let answer = world.machine().query(&query);
                match Answer::decode(&answer.encode()) {
                    Ok(decoded) if decoded == answer => Ok(()),
                    other => Err(format!("its answer {answer:?} decodes to {other:?}")),
                }
            }
            Self::Machine(mut machine) => {
                for _ in 0..BATCHES_AFTER_RESTORE {
                    apply(&mut machine, world.batch(rng))?;
                }
                sound(&machine)
            }
            Self::Value => Ok(()),
        }
    }
}

fn apply(machine: &mut Machine, batch: Batch) -> Result<(), String> {
    let commands = batch.commands.len();
    let outcomes = machine.apply(batch).outcomes.len();
    if outcomes == commands {
        Ok(())
    } else {
        Err(format!("{outcomes} outcomes of {commands} commands"))
    }
}

/// What a machine came to can be kept and restored.
fn sound(machine: &Machine) -> Result<(), String> {
    let snapshot = machine.snapshot();
    match Machine::restore(&snapshot) {
        Ok(restored) if restored.snapshot() == snapshot => Ok(()),
        Ok(_) => Err("the state that it led to is restored otherwise".to_owned()),
        Err(error) => Err(format!("the state that it led to is not restored: {error}")),
    }
}

/// None if it does not decode, an error if it does and contradicts itself.
fn decode(format: Format, input: &[u8]) -> Result<Option<Decoded>, String> {
    Ok(match format {
        Format::Batch => round_trip(input, Batch::decode, Batch::encode)?.map(Decoded::Batch),
        Format::Command => {
            round_trip(input, Command::decode, Command::encode)?.map(|_| Decoded::Value)
        }
        Format::Reply => round_trip(input, Reply::decode, Reply::encode)?.map(|_| Decoded::Value),
        Format::Query => round_trip(input, Query::decode, Query::encode)?.map(Decoded::Query),
        Format::Answer => {
            round_trip(input, Answer::decode, Answer::encode)?.map(|_| Decoded::Value)
        }
        Format::Snapshot => round_trip(input, restore, |machine| machine.0.snapshot())?
            .map(|machine| Decoded::Machine(Box::new(machine.0))),
    })
}

/// Encodings are canonical: what is decoded encodes to what it was decoded from, and so decodes to
/// the same again. Every element has at least one byte, so this also bounds how many there are.
fn round_trip<T: PartialEq>(
    input: &[u8],
    decode: fn(&[u8]) -> Result<T, DecodeError>,
    encode: fn(&T) -> Vec<u8>,
) -> Result<Option<T>, String> {
    let Ok(value) = decode(input) else {
        return Ok(None);
    };
    let again = encode(&value);
    match decode(&again) {
        Err(error) => Err(format!("its encoding does not decode: {error}")),
        Ok(other) if other != value => Err("its encoding decodes to another value".to_owned()),
        Ok(_) if again != input => Err(format!("it is encoded otherwise: {}", Hex(&again))),
        Ok(_) => Ok(Some(value)),
    }
}

/// Equal machines are those with equal snapshots.
struct Restored(Machine);

impl PartialEq for Restored {
    fn eq(&self, other: &Self) -> bool {
        self.0.snapshot() == other.0.snapshot()
    }
}

fn restore(bytes: &[u8]) -> Result<Restored, DecodeError> {
    Machine::restore(bytes).map(Restored)
}

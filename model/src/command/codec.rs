//! The encoding of batches and commands: what the log holds and what nodes forward.
//!
//! Invariants: a tag keeps its meaning for ever, and a decoded command is within every bound that
//! its fields document.

mod parts;

use super::{
    Batch, Command, GiveBack, Labels, LockSpec, MAX_COMMANDS_PER_BATCH, MAX_LABEL_KEY_BYTES,
    MAX_LABEL_VALUE_BYTES, MAX_LABELS, MAX_LOCKS_PER_ACQUIRE, MAX_SESSION_TTL, MIN_SESSION_TTL,
    MetaCommand,
};
use crate::{
    codec::{
        Decode, DecodeError, Encode, Reader, bounded_list, check_bounds, check_count,
        decode_versioned, encode_versioned,
    },
    id::{FencingToken, LockName, Millis, NodeId},
    locks::deadlock::MAX_CYCLE,
    meta::{MAX_VOTERS, NodeRecord},
    shard::LAST_START,
};

impl Batch {
    /// The version byte and the encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_versioned(self)
    }

    /// Reads what [`Batch::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not exactly one batch whose fields are within their bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_versioned(bytes)
    }
}

impl Command {
    /// The version byte and the encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_versioned(self)
    }

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not exactly one command whose fields are within their bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_versioned(bytes)
    }
}

mod tag {
    pub(super) const OPEN_SESSION: u8 = 1;
    pub(super) const RESUME_SESSION: u8 = 2;
    pub(super) const TOUCH_SHARD: u8 = 3;
    pub(super) const CHECKPOINT_SESSIONS: u8 = 4;
    pub(super) const END_SESSION: u8 = 5;
    pub(super) const SHARD_RELEASED: u8 = 6;
    pub(super) const ATTACH_SESSION: u8 = 7;
    pub(super) const DETACH_SESSION: u8 = 8;
    pub(super) const ACQUIRE: u8 = 9;
    pub(super) const CANCEL_WAIT: u8 = 10;
    pub(super) const RELEASE: u8 = 11;
    pub(super) const UNDO_ACQUIRE: u8 = 12;
    pub(super) const UPGRADE: u8 = 13;
    pub(super) const DOWNGRADE: u8 = 14;
    pub(super) const EXPIRE_WAITS: u8 = 15;
    pub(super) const META: u8 = 16;
    pub(super) const RAISE_TOKENS: u8 = 17;
    pub(super) const PROCLAIM: u8 = 18;
    pub(super) const ABORT_WAIT: u8 = 19;
    pub(super) const REVIVE_SESSION: u8 = 20;
    pub(super) const REVOKE_SESSION: u8 = 21;

    pub(super) const META_FOUND: u8 = 1;
    pub(super) const META_DESCRIBE_NODE: u8 = 2;
    pub(super) const META_JOIN_NODE: u8 = 3;
    pub(super) const META_SET_LIFECYCLE: u8 = 4;
    pub(super) const META_REMOVE_NODE: u8 = 5;
    pub(super) const META_SET_REPLICAS: u8 = 6;
}

impl Encode for Batch {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.at.encode_into(out);
        self.wall.encode_into(out);
        self.commands.encode_into(out);
    }
}

impl Decode for Batch {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = Decode::decode_from(input)?;
        let wall = Decode::decode_from(input)?;
        let commands = bounded_list(input, "number of commands", 0, MAX_COMMANDS_PER_BATCH)?;
        Ok(Self { at, wall, commands })
    }
}

impl Encode for Command {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::OpenSession {
                session,
                ttl,
                priority,
                labels,
            } => put(out, tag::OPEN_SESSION, &[session, ttl, priority, labels]),
            Self::ResumeSession { session } => put(out, tag::RESUME_SESSION, &[session]),
            Self::TouchShard { session, shard } => put(out, tag::TOUCH_SHARD, &[session, shard]),
            Self::CheckpointSessions { remaining } => {
                put(out, tag::CHECKPOINT_SESSIONS, &[remaining]);
            }
            Self::ReviveSession { session } => put(out, tag::REVIVE_SESSION, &[session]),
            Self::RevokeSession { session } => put(out, tag::REVOKE_SESSION, &[session]),
            Self::EndSession { session, reason } => put(out, tag::END_SESSION, &[session, reason]),
            Self::ShardReleased { session, shard } => {
                put(out, tag::SHARD_RELEASED, &[session, shard]);
            }
            Self::AttachSession {
                session,
                priority,
                opened,
                touch,
            } => put(
                out,
                tag::ATTACH_SESSION,
                &[session, priority, opened, touch],
            ),
            Self::DetachSession {
                session,
                reason,
                touch,
            } => put(out, tag::DETACH_SESSION, &[session, reason, touch]),
            Self::AbortWait {
                session,
                serial,
                epoch,
                cycle,
            } => put(out, tag::ABORT_WAIT, &[session, serial, epoch, cycle]),
            Self::CancelWait { session, serial } => put(out, tag::CANCEL_WAIT, &[session, serial]),
            Self::Meta(command) => put(out, tag::META, &[command]),
            Self::Acquire { .. }
            | Self::Proclaim { .. }
            | Self::Release { .. }
            | Self::UndoAcquire { .. }
            | Self::Upgrade { .. }
            | Self::Downgrade { .. }
            | Self::ExpireWaits
            | Self::RaiseTokens { .. } => encode_lock_command(self, out),
        }
    }
}

/// Appends a tag and fields.
fn put(out: &mut Vec<u8>, tag: u8, fields: &[&dyn Encode]) {
    out.push(tag);
    for field in fields {
        field.encode_into(out);
    }
}

/// The second half of [`Command`]'s encoding: what clients ask of locks, and what follows.
fn encode_lock_command(command: &Command, out: &mut Vec<u8>) {
    match command {
        Command::Acquire {
            request,
            owner,
            locks,
            wait,
            value,
        } => {
            put(out, tag::ACQUIRE, &[request, owner, locks, wait, value]);
        }
        Command::Proclaim {
            request,
            name,
            token,
            value,
        } => {
            put(out, tag::PROCLAIM, &[request, name, token, value]);
        }
        Command::Release {
            request,
            name,
            token,
        } => {
            put(out, tag::RELEASE, &[request, name, token]);
        }
        Command::UndoAcquire {
            session,
            serial,
            grants,
            refusal,
        } => {
            put(out, tag::UNDO_ACQUIRE, &[session, serial, grants, refusal]);
        }
        Command::Upgrade {
            request,
            name,
            token,
            wait,
        } => {
            put(out, tag::UPGRADE, &[request, name, token, wait]);
        }
        Command::Downgrade {
            request,
            name,
            token,
        } => {
            put(out, tag::DOWNGRADE, &[request, name, token]);
        }
        Command::ExpireWaits => out.push(tag::EXPIRE_WAITS),
        Command::RaiseTokens { above } => put(out, tag::RAISE_TOKENS, &[above]),
        Command::OpenSession { .. }
        | Command::ResumeSession { .. }
        | Command::TouchShard { .. }
        | Command::CheckpointSessions { .. }
        | Command::ReviveSession { .. }
        | Command::RevokeSession { .. }
        | Command::EndSession { .. }
        | Command::ShardReleased { .. }
        | Command::AttachSession { .. }
        | Command::DetachSession { .. }
        | Command::AbortWait { .. }
        | Command::CancelWait { .. }
        | Command::Meta(_) => {}
    }
}

impl Decode for Command {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            tag::OPEN_SESSION => Self::OpenSession {
                session: Decode::decode_from(input)?,
                ttl: session_ttl(input)?,
                priority: Decode::decode_from(input)?,
                labels: labels(input)?,
            },
            tag::RESUME_SESSION => Self::ResumeSession {
                session: Decode::decode_from(input)?,
            },
            tag::TOUCH_SHARD => Self::TouchShard {
                session: Decode::decode_from(input)?,
                shard: Decode::decode_from(input)?,
            },
            tag::CHECKPOINT_SESSIONS => Self::CheckpointSessions {
                remaining: Decode::decode_from(input)?,
            },
            tag::REVIVE_SESSION => Self::ReviveSession {
                session: Decode::decode_from(input)?,
            },
            tag::REVOKE_SESSION => Self::RevokeSession {
                session: Decode::decode_from(input)?,
            },
            tag::END_SESSION => Self::EndSession {
                session: Decode::decode_from(input)?,
                reason: Decode::decode_from(input)?,
            },
            tag::SHARD_RELEASED => Self::ShardReleased {
                session: Decode::decode_from(input)?,
                shard: Decode::decode_from(input)?,
            },
            tag::ATTACH_SESSION => Self::AttachSession {
                session: Decode::decode_from(input)?,
                priority: Decode::decode_from(input)?,
                opened: Decode::decode_from(input)?,
                touch: Decode::decode_from(input)?,
            },
            tag::DETACH_SESSION => Self::DetachSession {
                session: Decode::decode_from(input)?,
                reason: Decode::decode_from(input)?,
                touch: Decode::decode_from(input)?,
            },
            tag::META => Self::Meta(Decode::decode_from(input)?),
            tag => decode_lock_command(tag, input)?,
        })
    }
}

/// The second half of [`Command`]'s decoding: the commands about locks.
fn decode_lock_command(tag: u8, input: &mut Reader<'_>) -> Result<Command, DecodeError> {
    Ok(match tag {
        tag::ACQUIRE => Command::Acquire {
            request: Decode::decode_from(input)?,
            owner: Decode::decode_from(input)?,
            locks: locks(input)?,
            wait: Decode::decode_from(input)?,
            value: Decode::decode_from(input)?,
        },
        tag::PROCLAIM => Command::Proclaim {
            request: Decode::decode_from(input)?,
            name: Decode::decode_from(input)?,
            token: Decode::decode_from(input)?,
            value: Decode::decode_from(input)?,
        },
        tag::ABORT_WAIT => Command::AbortWait {
            session: Decode::decode_from(input)?,
            serial: Decode::decode_from(input)?,
            epoch: Decode::decode_from(input)?,
            cycle: bounded_list(input, "number of waits", 1, MAX_CYCLE)?,
        },
        tag::CANCEL_WAIT => Command::CancelWait {
            session: Decode::decode_from(input)?,
            serial: Decode::decode_from(input)?,
        },
        tag::RELEASE => Command::Release {
            request: Decode::decode_from(input)?,
            name: Decode::decode_from(input)?,
            token: Decode::decode_from(input)?,
        },
        tag::UNDO_ACQUIRE => Command::UndoAcquire {
            session: Decode::decode_from(input)?,
            serial: Decode::decode_from(input)?,
            grants: bounded_list::<GiveBack>(input, "number of grants", 0, MAX_LOCKS_PER_ACQUIRE)?,
            refusal: Decode::decode_from(input)?,
        },
        tag::UPGRADE => Command::Upgrade {
            request: Decode::decode_from(input)?,
            name: Decode::decode_from(input)?,
            token: Decode::decode_from(input)?,
            wait: Decode::decode_from(input)?,
        },
        tag::DOWNGRADE => Command::Downgrade {
            request: Decode::decode_from(input)?,
            name: Decode::decode_from(input)?,
            token: Decode::decode_from(input)?,
        },
        tag::EXPIRE_WAITS => Command::ExpireWaits,
        tag::RAISE_TOKENS => {
            let above = FencingToken::decode_from(input)?;
            check_bounds("token", above.0, 0, LAST_START)?;
            Command::RaiseTokens { above }
        }
        tag => {
            return Err(DecodeError::UnknownTag {
                what: "command",
                tag,
            });
        }
    })
}

impl Encode for MetaCommand {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Found {
                cluster,
                settings,
                nodes,
                placement,
            } => {
                out.push(tag::META_FOUND);
                cluster.encode_into(out);
                settings.encode_into(out);
                nodes.encode_into(out);
                placement.encode_into(out);
            }
            Self::DescribeNode { node } => {
                out.push(tag::META_DESCRIBE_NODE);
                node.encode_into(out);
            }
            Self::JoinNode { node, nonce } => {
                out.push(tag::META_JOIN_NODE);
                node.encode_description_into(out);
                nonce.encode_into(out);
            }
            Self::SetLifecycle {
                node,
                lifecycle,
                expected,
            } => {
                out.push(tag::META_SET_LIFECYCLE);
                node.encode_into(out);
                lifecycle.encode_into(out);
                expected.encode_into(out);
            }
            Self::RemoveNode { node, expected } => {
                out.push(tag::META_REMOVE_NODE);
                node.encode_into(out);
                expected.encode_into(out);
            }
            Self::SetReplicas {
                shard,
                voters,
                learners,
                as_of,
            } => {
                out.push(tag::META_SET_REPLICAS);
                shard.encode_into(out);
                voters.encode_into(out);
                learners.encode_into(out);
                as_of.encode_into(out);
            }
        }
    }
}

impl Decode for MetaCommand {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            tag::META_FOUND => Self::Found {
                cluster: Decode::decode_from(input)?,
                settings: Decode::decode_from(input)?,
                nodes: Decode::decode_from(input)?,
                placement: Decode::decode_from(input)?,
            },
            tag::META_DESCRIBE_NODE => Self::DescribeNode {
                node: Decode::decode_from(input)?,
            },
            tag::META_JOIN_NODE => Self::JoinNode {
                node: NodeRecord::decode_description_from(NodeId(0), input)?,
                nonce: Decode::decode_from(input)?,
            },
            tag::META_SET_LIFECYCLE => Self::SetLifecycle {
                node: Decode::decode_from(input)?,
                lifecycle: Decode::decode_from(input)?,
                expected: Decode::decode_from(input)?,
            },
            tag::META_REMOVE_NODE => Self::RemoveNode {
                node: Decode::decode_from(input)?,
                expected: Decode::decode_from(input)?,
            },
            tag::META_SET_REPLICAS => Self::SetReplicas {
                shard: Decode::decode_from(input)?,
                voters: bounded_list(input, "number of voters", 1, MAX_VOTERS as usize)?,
                learners: bounded_list(input, "number of learners", 0, MAX_VOTERS as usize)?,
                as_of: Decode::decode_from(input)?,
            },
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "meta command",
                    tag,
                });
            }
        })
    }
}

fn session_ttl(input: &mut Reader<'_>) -> Result<Millis, DecodeError> {
    let ttl = Millis::decode_from(input)?;
    check_bounds(
        "session TTL in ms",
        ttl.0,
        MIN_SESSION_TTL.0,
        MAX_SESSION_TTL.0,
    )?;
    Ok(ttl)
}

fn labels(input: &mut Reader<'_>) -> Result<Labels, DecodeError> {
    check_count("number of labels", input, 0, MAX_LABELS)?;
    let labels = Labels::decode_from(input)?;
    for (key, value) in &labels {
        check_length("label key's length", key, MAX_LABEL_KEY_BYTES)?;
        check_length("label value's length", value, MAX_LABEL_VALUE_BYTES)?;
    }
    Ok(labels)
}

fn locks(input: &mut Reader<'_>) -> Result<Vec<LockSpec>, DecodeError> {
    let locks: Vec<LockSpec> = bounded_list(input, "number of locks", 1, MAX_LOCKS_PER_ACQUIRE)?;
    let mut names: Vec<&LockName> = locks.iter().map(|spec| &spec.name).collect();
    names.sort_unstable();
    if names.is_sorted_by(|before, after| before < after) {
        Ok(locks)
    } else {
        Err(DecodeError::Inconsistent {
            what: "an acquisition names a lock twice",
        })
    }
}

fn check_length(what: &'static str, text: &str, max: usize) -> Result<(), DecodeError> {
    check_bounds(what, text.len() as u64, 0, max as u64)
}

//! Messages that are given up, and what becomes of them.
//!
//! Invariants: a message that moves stays here until it is confirmed to be there; each move has a number
//! of its own, by which its target knows it again; a message that gets another chance goes to the tail,
//! and counts its attempts anew.

use super::{
    Definition, MoveOrder, QueueRefusal, QueueReply, Queues,
    command::{DeathReason, MAX_EXPIRED, MoveCause},
    id::{MoveNumber, PartitionId, Sequence},
    message::{End, Lifted},
    row::{MessageAt, Standing},
};

impl Queues {
    /// A lifted message is given up.
    pub(super) fn die(&mut self, definition: &Definition, lifted: Lifted, reason: DeathReason) {
        let standing = match definition.dead_letter {
            None => Standing::Dead(reason),
            Some(to) => {
                let attempts = lifted.row.attempts;
                Standing::Moving {
                    number: self.next_move(lifted.at.0),
                    to,
                    cause: MoveCause::Dead { reason, attempts },
                }
            }
        };
        self.stand(lifted, standing);
    }

    /// The moves that are not confirmed: what a new leader goes on with.
    pub fn pending_moves(&self) -> impl Iterator<Item = MoveOrder> + '_ {
        let moving = self.index.moving.iter();
        moving.filter_map(|((id, _), sequence)| {
            let at = (*id, *sequence);
            self.rows.get(&at)?.order(at)
        })
    }

    /// The lowest move of a partition that is not confirmed; the next one, if all are.
    #[must_use]
    pub fn confirmed_below(&self, id: PartitionId) -> MoveNumber {
        let first = self.index.moving.range((id, MoveNumber(0))..).next();
        let first = first.filter(|((of, _), _)| *of == id);
        let last = || self.partitions.get(&id).map(|core| core.last_move);
        match first {
            Some(((_, number), _)) => *number,
            None => last().unwrap_or_default().next(),
        }
    }

    pub(super) fn confirm_moves(
        &mut self,
        id: PartitionId,
        moves: &[MoveNumber],
    ) -> Result<QueueReply, QueueRefusal> {
        self.definition(id)?;
        let mut count = 0;
        for number in moves {
            if let Some(at) = self.moving(id, *number) {
                count += u32::from(self.drop_message(at, End::Moved));
            }
        }
        Ok(QueueReply::Handled { count, more: false })
    }

    pub(super) fn abandon_moves(
        &mut self,
        id: PartitionId,
        moves: &[MoveNumber],
    ) -> Result<QueueReply, QueueRefusal> {
        self.definition(id)?;
        let mut count = 0;
        for number in moves {
            let at = self.moving(id, *number);
            let Some(lifted) = at.and_then(|at| self.lift(at)) else {
                continue;
            };
            let standing = match lifted.row.standing {
                Standing::Moving { cause, .. } => match cause {
                    MoveCause::Dead { reason, .. } => Standing::Dead(reason),
                    MoveCause::Redrive => Standing::Ready,
                },
                other @ (Standing::Ready
                | Standing::Delayed(_)
                | Standing::Retrying(_)
                | Standing::Dead(_)) => other,
            };
            self.stand(lifted, standing);
            count += 1;
        }
        Ok(QueueReply::Handled { count, more: false })
    }

    fn moving(&self, id: PartitionId, number: MoveNumber) -> Option<MessageAt> {
        let sequence = self.index.moving.get(&(id, number))?;
        Some((id, *sequence))
    }

    pub(super) fn redrive(
        &mut self,
        id: PartitionId,
        below: Sequence,
    ) -> Result<QueueReply, QueueRefusal> {
        self.definition(id)?;
        let range = (id, Sequence(0))..(id, below);
        let redrivable = self.index.redrivable.range(range.clone());
        let all: Vec<_> = redrivable.copied().take(MAX_EXPIRED).collect();
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        for at in all {
            if let Some(lifted) = self.lift(at) {
                self.try_anew(lifted);
            }
        }
        let more = self.index.redrivable.range(range).next().is_some();
        Ok(QueueReply::Handled { count, more })
    }

    fn try_anew(&mut self, lifted: Lifted) {
        let Lifted { at, mut row } = lifted;
        if let Some(origin) = row.origin {
            let standing = Standing::Moving {
                number: self.next_move(at.0),
                to: origin.source.queue,
                cause: MoveCause::Redrive,
            };
            self.stand(Lifted { at, row }, standing);
            return;
        }
        row.attempts = 0;
        row.expires = None;
        let at = (at.0, self.next_sequence(at.0));
        self.stand(Lifted { at, row }, Standing::Ready);
    }
}

//! Doing what is due.
//!
//! Invariants: only what is due by the shard's time is done, the earliest first, and at most
//! [`MAX_EXPIRED`] of it by one command; each step takes what it did off the list, or puts it later.

use super::{
    QueueEffect, QueueReply, Queues,
    command::MAX_EXPIRED,
    id::{ConsumerEpoch, PartitionId},
    index::Due,
    message::{End, Lifted},
    row::{MessageAt, Standing},
};
use crate::id::Millis;

impl Queues {
    pub(super) fn expire_due(&mut self) -> QueueReply {
        let now = self.entry.at;
        let mut count = 0;
        while count < MAX_EXPIRED
            && let Some((at, due)) = self.index.due.first()
            && *at <= now
        {
            let due = due.clone();
            count += self.expire(due, MAX_EXPIRED - count).max(1);
        }
        let more = self.next_due().is_some_and(|due| due <= now);
        // At most MAX_EXPIRED, and one.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        QueueReply::Handled { count, more }
    }

    /// Does something, in at most so many steps, and says in how many.
    fn expire(&mut self, due: Due, most: usize) -> usize {
        match due {
            Due::Sweep(queue) => return self.sweep(queue, most),
            Due::Lease(at) => self.lapse(at),
            Due::Delay(at) => {
                if let Some(Lifted { at, mut row }) = self.lift(at) {
                    row.standing = Standing::Ready;
                    self.place(at, row);
                }
            }
            Due::Ttl(at) => {
                self.drop_message(at, End::Expired);
            }
            Due::Id(id, message) => self.forget_id(id, message),
            Due::Window(id, of) => self.forget_window(id, of),
            Due::Consumer(id, consumer) => self.outlive(id, consumer),
        }
        1
    }

    fn lapse(&mut self, at: MessageAt) {
        let Some(lease) = self.leases.get(&at).copied() else {
            return;
        };
        match self.definition(at.0) {
            Ok(definition) => self.fail(&definition, at, Millis(0)),
            // It is being swept.
            Err(_) => {
                self.drop_message(at, End::Purged);
            }
        }
        self.effects.push(QueueEffect::Lapsed {
            partition: at.0,
            consumer: lease.consumer,
            number: lease.number,
        });
    }

    /// A consumer's time is over. One that has leases gets more: they may still be settled.
    fn outlive(&mut self, id: PartitionId, consumer: ConsumerEpoch) {
        let known = self.consumers.get(&(id, consumer));
        if known.is_some_and(|known| known.in_flight > 0) {
            self.hear_of(id, consumer);
            return;
        }
        self.forget_consumer(id, consumer);
        let partition = id;
        self.effects.push(QueueEffect::ConsumerGone {
            partition,
            consumer,
        });
    }
}

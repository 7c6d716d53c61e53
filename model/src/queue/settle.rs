//! What consumers say of their deliveries.
//!
//! Invariants: only a lease that is there is settled, by the consumer that has it; attempts are counted
//! when a try fails, not when one begins.

use super::{
    Definition, QueueRefusal, QueueReply, Queues,
    command::{DeathReason, Settlement, Verdict},
    id::{ConsumerEpoch, PartitionId},
    message::{End, Lifted},
    row::{MessageAt, Standing},
};
use crate::id::Millis;

impl Queues {
    pub(super) fn settle(
        &mut self,
        id: PartitionId,
        consumer: ConsumerEpoch,
        verdicts: &[Verdict],
    ) -> Result<QueueReply, QueueRefusal> {
        let definition = self.definition(id)?;
        if !self.consumers.contains_key(&(id, consumer)) {
            return Err(QueueRefusal::NoConsumer { consumer });
        }
        self.hear_of(id, consumer);
        let counts = verdicts.iter().map(|verdict| {
            let deliveries = self.deliveries_of(id, consumer, verdict.from);
            let meant: Vec<_> = deliveries
                .take_while(|((.., number), _)| *number <= verdict.to)
                .map(|(_, sequence)| (id, sequence))
                .collect();
            for at in &meant {
                self.settle_one(&definition, *at, verdict.settlement);
            }
            // At most as many as a consumer may have.
            u32::try_from(meant.len()).unwrap_or(u32::MAX)
        });
        Ok(QueueReply::Settled(counts.collect()))
    }

    fn settle_one(&mut self, definition: &Definition, at: MessageAt, settlement: Settlement) {
        match settlement {
            Settlement::Ack => {
                self.drop_message(at, End::Acked);
            }
            Settlement::Nack { delay } => self.fail(definition, at, delay),
            Settlement::Reject => {
                if let Some(lifted) = self.lift_failed(at) {
                    self.die(definition, lifted, DeathReason::Rejected);
                }
            }
            Settlement::GiveBack => self.give_back(at),
            Settlement::Extend { by } => self.extend_lease(at, self.entry.at.plus(by)),
        }
    }

    /// A try of a leased message failed.
    pub(super) fn fail(&mut self, definition: &Definition, at: MessageAt, delay: Millis) {
        let Some(lifted) = self.lift_failed(at) else {
            return;
        };
        if lifted.row.attempts >= definition.max_deliveries {
            self.die(definition, lifted, DeathReason::MaxDeliveries);
            return;
        }
        let standing = if delay.0 == 0 {
            Standing::Ready
        } else {
            Standing::Retrying(self.entry.at.plus(delay))
        };
        self.stand(lifted, standing);
    }

    fn lift_failed(&mut self, at: MessageAt) -> Option<Lifted> {
        let mut lifted = self.lift(at)?;
        lifted.row.attempts = lifted.row.attempts.saturating_add(1);
        self.partition(at.0).totals.failed += 1;
        Some(lifted)
    }
}

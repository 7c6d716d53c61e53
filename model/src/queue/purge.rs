//! Dropping what waits.
//!
//! Invariant: what is leased, dead or moving stays: leased ones finish.

use super::{
    QueueRefusal, QueueReply, Queues,
    command::MAX_EXPIRED,
    id::{PartitionId, Sequence},
    message::End,
};

impl Queues {
    pub(super) fn purge(
        &mut self,
        id: PartitionId,
        below: Sequence,
    ) -> Result<QueueReply, QueueRefusal> {
        self.definition(id)?;
        let next = |queues: &Self| queues.oldest_waiting(id).filter(|oldest| *oldest < below);
        let mut count = 0;
        while (count as usize) < MAX_EXPIRED
            && let Some(oldest) = next(self)
        {
            count += u32::from(self.drop_message((id, oldest), End::Purged));
        }
        let more = next(self).is_some();
        Ok(QueueReply::Handled { count, more })
    }
}

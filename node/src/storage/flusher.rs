//! Puts what the database has in memory into files, in the background, so that the journal's old
//! segments can be reused.
//!
//! Invariant: one flush runs at a time, and none outlives the writer. One that finds no room on the disk
//! is tried again until there is, so it ends with an error only for other reasons, or when the storage is
//! closed.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::{
    engine::{Engine, EngineError},
    space::{Space, Writes},
};

/// See the module.
pub(crate) struct Flusher {
    engine: Arc<Engine>,
    space: Arc<Space>,
    running: Option<JoinHandle<Result<(), EngineError>>>,
}

impl Flusher {
    pub(crate) const fn new(engine: Arc<Engine>, space: Arc<Space>) -> Self {
        Self {
            engine,
            space,
            running: None,
        }
    }

    /// Begins to flush all that was applied so far. None must be running.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub(crate) fn begin(&mut self) -> Result<(), EngineError> {
        let (engine, space) = (Arc::clone(&self.engine), Arc::clone(&self.space));
        let started = thread::Builder::new()
            .name("storage-flush".to_owned())
            .spawn(move || space.with_room(Writes::Tables, || engine.flush()));
        let running = started.map_err(|error| EngineError::Flush(error.to_string()))?;
        self.running = Some(running);
        Ok(())
    }

    /// How the flush ended, once: none if there is none, or if it goes on and is not to be waited
    /// for.
    pub(crate) fn ended(&mut self, wait: bool) -> Option<Result<(), EngineError>> {
        let running = self
            .running
            .take_if(|running| wait || running.is_finished())?;
        let panicked = |_| Err(EngineError::Flush("it panicked".to_owned()));
        Some(running.join().unwrap_or_else(panicked))
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.ended(true) {
            tracing::error!(%error, "the last flush failed; the journal has it");
        }
    }
}

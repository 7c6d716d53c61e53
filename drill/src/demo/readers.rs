//! Shared readers beside each other, and a writer alone.

use lockstep_client::Mode;

use super::stage::Stage;

const LOCK: &str = "demo/report";

pub(super) async fn show(stage: &Stage) -> anyhow::Result<()> {
    stage.heading(2, "Readers share, a writer does not");
    let one = stage.program("reader 1").await?;
    let two = stage.program("reader 2").await?;
    let three = stage.program("reader 3").await?;
    let writer = stage.program("writer").await?;
    let first = one.lock(LOCK, Mode::Shared).await?;
    let second = two.lock(LOCK, Mode::Shared).await?;
    stage.see(LOCK, 2, 0).await?;
    stage.holds(
        "two readers have it together",
        first.is_held() && second.is_held(),
    )?;
    let write = writer.ask(LOCK, Mode::Exclusive);
    stage.see(LOCK, 2, 1).await?;
    let third = three.ask(LOCK, Mode::Shared);
    stage.see(LOCK, 2, 2).await?;
    let both_wait = !write.is_answered() && !third.is_answered();
    stage.holds(
        "a writer waits for them, and a third reader behind the writer: nobody starves",
        both_wait,
    )?;
    first.release().await?;
    second.release().await?;
    let written = write.granted().await?;
    stage.see(LOCK, 1, 1).await?;
    stage.holds(
        "the readers are gone: the writer has it alone",
        !third.is_answered(),
    )?;
    let write_token = written.token();
    written.release().await?;
    let read = third.granted().await?;
    stage.holds(
        format_args!(
            "then the third reader, token {} after {write_token}",
            read.token()
        ),
        read.token() > write_token,
    )?;
    read.release().await?;
    for program in [one, two, three, writer] {
        program.leave().await?;
    }
    Ok(())
}

//! Two programs contend for one lock.

use lockstep_client::Mode;

use super::stage::Stage;

const LOCK: &str = "demo/orders";

pub(super) async fn show(stage: &Stage) -> anyhow::Result<()> {
    stage.heading(1, "Two programs want one lock");
    let a = stage.program("program A").await?;
    let b = stage.program("program B").await?;
    let held = a.lock(LOCK, Mode::Exclusive).await?;
    let first = held.token();
    stage.tell(format_args!(
        "program A has {LOCK}, under fencing token {first}"
    ));
    let asked = b.ask(LOCK, Mode::Exclusive);
    stage.see(LOCK, 1, 1).await?;
    stage.holds("program B waits in the queue", !asked.is_answered())?;
    held.release().await?;
    let held = asked.granted().await?;
    let second = held.token();
    stage.holds(
        format_args!("A is done, and B has it at once, under token {second}, which is higher"),
        second > first,
    )?;
    let stale = stage.client.validate(LOCK, first).await?;
    stage.holds(
        format_args!("a resource that asks learns that A's token {first} no longer counts"),
        !stale,
    )?;
    held.release().await?;
    a.leave().await?;
    b.leave().await
}

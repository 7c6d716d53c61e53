//! `elect show` and `elect observe`: who leads.
//!
//! Invariant: nobody is said to lead whom the cluster did not name.

use lockstep_client::{Client, Leader, LockInfo, Mode};

use crate::{
    args::Format,
    exit::Failure,
    output::Output,
    row::{Election, Leads},
    span::show_age,
    table::{Table, printable},
};

/// Shows who leads, and who stands by.
pub(crate) async fn show(client: &Client, name: &str, output: &Output) -> Result<(), Failure> {
    let lock = client.get_lock(name).await?;
    match output.format() {
        Format::Json => output.json(&Election::from(&lock)),
        Format::Table => output.write(&in_words(&lock, output.has_colour())),
    }
}

fn in_words(lock: &LockInfo, colour: bool) -> String {
    let name = printable(&lock.name);
    let mut holders = lock.holders.iter();
    let leader = holders.find(|holder| holder.mode == Some(Mode::Exclusive));
    let mut text = match leader {
        None => format!("nobody leads {name}\n"),
        Some(leader) => format!(
            "{name} is led by session {} under token {} for {}{}\n",
            leader.session,
            leader.token,
            show_age(leader.since),
            says(&leader.value),
        ),
    };
    if !lock.waiters.is_empty() {
        let mut table = Table::new(["STANDS BY", "OWNER", "PLACE", "FOR"]);
        for waiter in &lock.waiters {
            table.row([
                waiter.session.to_string().into(),
                waiter.owner.as_str().into(),
                waiter.position.into(),
                show_age(waiter.since).into(),
            ]);
        }
        text += "\n";
        text += &table.render(colour);
    }
    text
}

/// Tells who leads, again and again.
pub(crate) async fn observe(client: &Client, name: &str, output: &Output) -> Result<(), Failure> {
    let mut observer = client.observe(name)?;
    loop {
        let leader = observer.next().await?;
        match output.format() {
            Format::Json => output.json_line(&Leads {
                name: name.to_owned(),
                leader: leader.as_ref().map(Into::into),
            })?,
            Format::Table => output.write(&line(name, leader.as_ref()))?,
        }
    }
}

fn line(name: &str, leader: Option<&Leader>) -> String {
    let name = printable(name);
    match leader {
        None => format!("nobody leads {name}\n"),
        Some(leader) => format!(
            "{name} is led by session {} under token {}{}\n",
            leader.session,
            leader.token,
            says(&leader.value)
        ),
    }
}

fn says(value: &[u8]) -> String {
    if value.is_empty() {
        return String::new();
    }
    format!(": {}", printable(&String::from_utf8_lossy(value)))
}

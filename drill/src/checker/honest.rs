//! A lock server in virtual time that keeps every promise, for testing the checker: what it
//! produces must be found clean, and what is planted into it must be found.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    history::{
        Acquired, Action, ClientId, History, LockId, Mode, Moment, Operation, Released, Session,
        Token, Wait,
    },
    resource::Resource,
};

const MICROSECOND: u64 = 1_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The client asks for a lock.
    Ask(u32),
    /// The server hears it.
    Arrive(u32),
    /// Someone looks whether it is in the queue.
    Look(u32),
    /// The wait's time is over.
    Expire(u32, u64),
    /// The client has its grant.
    Granted(u32),
    /// The server hears its release.
    Leave(u32),
}

#[derive(Clone, Copy)]
struct Client {
    operation: Operation,
    mode: Mode,
    wait: Wait,
    seen: Option<Moment>,
    token: Token,
    /// When its release was asked for.
    asked: Moment,
}

#[derive(Default)]
struct Lock {
    last_token: u64,
    holders: Vec<u32>,
    queue: VecDeque<u32>,
}

struct Server {
    rng: StdRng,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    clients: Vec<Client>,
    locks: Vec<Lock>,
    resource: Resource,
    history: History,
}

/// A history of about `operations` operations.
pub(super) fn history(seed: u64, clients: u32, locks: u32, operations: usize) -> History {
    let idle = Client {
        operation: Operation {
            client: ClientId(0),
            session: Session(0),
            lock: LockId(0),
            invoked: Moment(0),
            returned: Moment(0),
            action: Action::Validate {
                token: Token(0),
                valid: false,
            },
        },
        mode: Mode::Shared,
        wait: Wait::Try,
        seen: None,
        token: Token(0),
        asked: Moment(0),
    };
    let mut server = Server {
        rng: StdRng::seed_from_u64(seed),
        events: BinaryHeap::new(),
        clients: vec![idle; clients as usize],
        locks: (0..locks).map(|_| Lock::default()).collect(),
        resource: Resource::new(locks as usize),
        history: History::default(),
    };
    for (at, client) in server.clients.iter_mut().enumerate() {
        client.operation.client = ClientId(at as u32);
        client.operation.session = Session(at as u64 + 1);
    }
    (0..clients).for_each(|client| server.later(0, Event::Ask(client)));
    while let Some(Reverse((now, event))) = server.events.pop() {
        server.step(now, event, operations);
    }
    server.history
}

impl Server {
    fn later(&mut self, now: u64, event: Event) {
        let delay = self.rng.random_range(1..200) * MICROSECOND;
        self.events.push(Reverse((now + delay, event)));
    }

    fn record(&mut self, client: u32, invoked: Moment, returned: u64, action: Action) {
        let mut operation = self.clients[client as usize].operation;
        operation.invoked = invoked;
        operation.returned = Moment(returned);
        operation.action = action;
        self.history.operations.push(operation);
    }

    fn record_end(&mut self, client: u32, now: u64, outcome: Acquired) {
        let Client {
            operation,
            mode,
            wait,
            seen,
            ..
        } = self.clients[client as usize];
        let action = Action::Acquire {
            mode,
            wait,
            seen_waiting: seen,
            outcome,
        };
        self.record(client, operation.invoked, now, action);
    }

    fn lock_of(&mut self, client: u32) -> &mut Lock {
        let lock = self.clients[client as usize].operation.lock;
        &mut self.locks[lock.0 as usize]
    }

    fn step(&mut self, now: u64, event: Event, operations: usize) {
        match event {
            Event::Ask(client) => {
                if self.history.operations.len() < operations {
                    self.ask(now, client);
                }
            }
            Event::Arrive(client) => self.arrive(now, client),
            Event::Look(client) => {
                if self.lock_of(client).queue.contains(&client) {
                    self.clients[client as usize].seen = Some(Moment(now));
                }
            }
            Event::Expire(client, invoked) => {
                let current = self.clients[client as usize].operation.invoked.0 == invoked;
                let waiting = self.lock_of(client).queue.contains(&client);
                if current && waiting {
                    self.lock_of(client).queue.retain(|other| *other != client);
                    self.serve(now, client);
                    self.record_end(client, now + MICROSECOND, Acquired::TimedOut);
                    self.later(now + MICROSECOND, Event::Ask(client));
                }
            }
            Event::Granted(client) => self.granted(now, client),
            Event::Leave(client) => {
                self.lock_of(client)
                    .holders
                    .retain(|other| *other != client);
                self.serve(now, client);
                self.released(now, client);
            }
        }
    }

    fn ask(&mut self, now: u64, client: u32) {
        let lock = LockId(self.rng.random_range(0..self.locks.len() as u32));
        let mode = match self.rng.random_bool(0.7) {
            true => Mode::Exclusive,
            false => Mode::Shared,
        };
        let wait = match self.rng.random_range(0..10) {
            0 => Wait::Try,
            1..4 => Wait::AtMost(Duration::from_micros(500)),
            _ => Wait::Forever,
        };
        let state = &mut self.clients[client as usize];
        state.operation.lock = lock;
        state.operation.invoked = Moment(now);
        (state.mode, state.wait, state.seen) = (mode, wait, None);
        self.later(now, Event::Arrive(client));
    }

    fn arrive(&mut self, now: u64, client: u32) {
        self.lock_of(client).queue.push_back(client);
        self.serve(now, client);
        if !self.lock_of(client).queue.contains(&client) {
            return;
        }
        let Client {
            wait, operation, ..
        } = self.clients[client as usize];
        match wait {
            Wait::Try => {
                self.lock_of(client).queue.retain(|other| *other != client);
                self.record_end(client, now + MICROSECOND, Acquired::Unavailable);
                self.later(now + MICROSECOND, Event::Ask(client));
            }
            Wait::AtMost(limit) => {
                let expire = Event::Expire(client, operation.invoked.0);
                let at = now + limit.as_nanos() as u64;
                self.events.push(Reverse((at, expire)));
                self.later(now, Event::Look(client));
            }
            Wait::Forever => self.later(now, Event::Look(client)),
        }
    }

    /// Grants from the head of the queue of the client's lock while that is possible.
    fn serve(&mut self, now: u64, client: u32) {
        let at = self.clients[client as usize].operation.lock.0 as usize;
        while let Some(head) = self.locks[at].queue.front().copied() {
            let exclusive = self.clients[head as usize].mode == Mode::Exclusive;
            let holders = &self.locks[at].holders;
            let shared_held = holders
                .iter()
                .all(|holder| self.clients[*holder as usize].mode == Mode::Shared);
            if !(holders.is_empty() || shared_held && !exclusive) {
                return;
            }
            let lock = &mut self.locks[at];
            lock.queue.pop_front();
            lock.holders.push(head);
            lock.last_token += 1;
            self.clients[head as usize].token = Token(lock.last_token);
            self.later(now, Event::Granted(head));
        }
    }

    fn granted(&mut self, now: u64, client: u32) {
        let Client {
            operation,
            token,
            mode,
            ..
        } = self.clients[client as usize];
        self.record_end(client, now, Acquired::Granted(token));
        let accepted = self.resource.access(operation.lock, mode, token);
        let after = Moment(now + MICROSECOND);
        self.record(client, after, after.0, Action::Access { token, accepted });
        if self.rng.random_bool(0.1) {
            let valid = true;
            let answered = after.0 + MICROSECOND;
            self.record(client, after, answered, Action::Validate { token, valid });
        }
        self.clients[client as usize].asked = Moment(now + 3 * MICROSECOND);
        self.later(now + 3 * MICROSECOND, Event::Leave(client));
    }

    fn released(&mut self, now: u64, client: u32) {
        let Client { asked, token, .. } = self.clients[client as usize];
        let returned = now + MICROSECOND;
        let outcome = Released::Done;
        self.record(client, asked, returned, Action::Release { token, outcome });
        if self.rng.random_bool(0.1) {
            let valid = false;
            let after = Moment(returned + 1);
            let answered = returned + MICROSECOND;
            self.record(client, after, answered, Action::Validate { token, valid });
        }
        self.later(returned + MICROSECOND, Event::Ask(client));
    }
}

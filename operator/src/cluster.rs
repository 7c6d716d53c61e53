//! One cluster, from what is to what is wanted, in six steps: dereference, validate, plan, build,
//! apply, status.
//!
//! Invariant: only dereference, apply and status talk to anybody; the steps between are functions.
//! A spec that is not valid changes nothing: the cluster is kept by the last one that was. Nothing is touched
//! of a cluster that is paused.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod identity;
mod keeper;
mod machines;
mod memory;
pub mod observed;
pub mod plan;
pub mod status;
pub mod validate;

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    core::error_boundary::InvalidObject,
    runtime::{
        controller::Action as Requeue,
        events::{Event, EventType},
        reflector::ObjectRef,
    },
};
use serde_json::{Value, json};
use tracing::{Instrument as _, Span, field, info_span};

use crate::{
    context::Context,
    crd::v1alpha1::{ConditionKind, DesiredState, SyncCluster, SyncClusterStatus},
    sentinel::Watched,
};
use build::MANAGER;
pub use memory::Memory;
use observed::{Members, RefusedGrowth};
use plan::{Plan, Step};
use status::Outcome;

/// After an action: what it did is looked at as soon as it can be seen.
const AFTER_ACTION: Duration = Duration::from_millis(500);
/// While something is waited for that makes no event, such as replicas that are moved.
const WHILE_WAITING: Duration = Duration::from_secs(2);
/// While something is refused: it is named, and may have gone away by itself.
const WHILE_REFUSED: Duration = Duration::from_secs(5);
/// After so many reconciles with the same step the pause is doubled.
const OFTEN: u32 = 10;
/// While another operator keeps the cluster: longer than its lease lasts unless it is renewed.
const WHILE_KEPT: Duration = Duration::from_secs(30);
/// The longest pause while something is waited for or refused: one cluster that is stuck, or silent, must not
/// take much from the others.
const WHILE_STUCK: Duration = Duration::from_secs(30);
/// While an object is missing that the cluster can be kept without.
const WHILE_MISSING: Duration = Duration::from_secs(60);
/// While all is well: events and the [`crate::sentinel`] say what changes, so this only heals what
/// was missed.
const WHILE_WELL: Duration = Duration::from_secs(300);
/// After so many failures in a row to read a cluster, nothing is known about it any more.
const UNREAD: u32 = 3;
/// How often a spec that is not valid is looked at again: it changes by an event.
const WHILE_INVALID: Duration = Duration::from_secs(600);

/// Why a reconcile came to no end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Not everything could be read.
    #[error(transparent)]
    Dereference(#[from] dereference::DereferenceError),
    /// The status could not be written.
    #[error("cannot write the status: {0}")]
    Status(#[source] Box<kube::Error>),
    /// Something was not applied or carried out; the status says so too.
    #[error("{0}")]
    Failed(String),
}

impl ReconcileError {
    /// A stable name, for metrics.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Dereference(_) => "dereference",
            Self::Status(_) => "status",
            Self::Failed(_) => "apply",
        }
    }
}

/// Brings a cluster one step nearer to what is wanted. It and each of its steps is a span of a trace.
///
/// # Errors
/// If the API server or the members do not do as asked. It is tried again then.
pub async fn reconcile(
    cluster: Arc<SyncCluster>,
    context: Arc<Context>,
) -> Result<Requeue, ReconcileError> {
    let span = info_span!(
        "reconcile",
        cluster = %cluster.name_any(),
        namespace = cluster.namespace(),
        generation = cluster.metadata.generation,
        step = field::Empty,
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
    );
    let result = Box::pin(steps(&cluster, &context, None))
        .instrument(span.clone())
        .await;
    match &result {
        Ok(_) => {}
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", error.to_string());
        }
    }
    result
}

/// `unread`: why the spec could not be read, if it could not.
async fn steps(
    cluster: &SyncCluster,
    context: &Context,
    unread: Option<&str>,
) -> Result<Requeue, ReconcileError> {
    let this = ObjectRef::from_obj(cluster);
    if cluster.metadata.deletion_timestamp.is_some() {
        // What it owns goes with it, by its owner references.
        context.memory.forget(&this);
        return Ok(Requeue::await_change());
    }
    let seen = dereference::dereference(&context.client, cluster, &context.memory);
    let seen = match seen.instrument(info_span!("dereference")).await {
        Ok(seen) => seen,
        Err(dereference::DereferenceError::Gone) => return Ok(Requeue::await_change()),
        Err(error @ dereference::DereferenceError::Foreign { .. }) => {
            return report_invalid(cluster, context, &error.to_string()).await;
        }
        Err(error) => return report_unread(cluster, context, error).await,
    };
    if let Some(other) = keeper::other(context, &seen).await {
        return Ok(report_other(cluster, context, &other).await);
    }
    let (decided, invalid) = match decide(cluster, &seen, context, unread) {
        Ok(decided) => (decided, None),
        Err(why) => match decide_by_last(cluster, &seen, context) {
            Some(decided) => (decided, Some(why)),
            None => return report_invalid(cluster, context, &why).await,
        },
    };
    let Decided {
        valid,
        plan,
        objects,
    } = decided;
    Span::current().record("step", plan.step.reason());
    let done = if plan.step == Step::Refuse(plan::Refusal::Paused) {
        Done::default()
    } else {
        Box::pin(act(context, cluster, &valid, &seen, objects, &plan)).await
    };
    let outcome = Outcome::Valid {
        valid: &valid,
        observed: &seen.observed,
        plan: &plan,
        failure: done.failure.as_deref(),
        missing: &done.missing,
        invalid: invalid.as_deref(),
    };
    write_status(cluster, context, &outcome).await?;
    context.sentinel.watch(
        this.clone(),
        Watched::new(
            valid.name.clone(),
            seen.doors,
            seen.observed.identity.id().cloned(),
            seen.observed.members.as_ref(),
        ),
    );
    if let Some(failure) = done.failure {
        return Err(ReconcileError::Failed(failure));
    }
    let again = context.memory.repeated(&this, plan.step.reason());
    Ok(Requeue::requeue(
        pause(&plan.step, again).min(done.at_most()),
    ))
}

/// What is to be done, and what there is to be.
struct Decided {
    valid: validate::Valid,
    plan: Plan,
    objects: build::Objects,
}

/// The steps that are functions: validate, plan, build.
///
/// # Errors
/// With what is wrong with the spec, in words.
fn decide(
    cluster: &SyncCluster,
    seen: &dereference::Dereferenced,
    context: &Context,
    unread: Option<&str>,
) -> Result<Decided, String> {
    if let Some(why) = unread {
        return Err(why.to_owned());
    }
    let valid = info_span!("validate")
        .in_scope(|| validate::validate(cluster, seen.founded.as_ref(), &context.default_image));
    let valid = valid.map_err(|problems| {
        let why: Vec<String> = problems.iter().map(ToString::to_string).collect();
        why.join("; ")
    })?;
    let plan = info_span!("plan").in_scope(|| plan::plan(&valid.desired, &seen.observed));
    let served = context.served();
    let members = seen.observed.members.as_ref();
    let evictable = members.map_or(1, Members::evictable);
    let objects = info_span!("build")
        .in_scope(|| build::build(&valid, &plan, served, evictable, &context.keeper));
    Ok(Decided {
        objects: objects.map_err(|error| error.to_string())?,
        valid,
        plan,
    })
}

/// What the last spec that was valid asks for, if there was one: a cluster whose spec was spoiled is still to
/// be repaired. That it is paused counts all the same.
fn decide_by_last(
    cluster: &SyncCluster,
    seen: &dereference::Dereferenced,
    context: &Context,
) -> Option<Decided> {
    let mut last = seen.last_spec.clone()?;
    match cluster.spec.state {
        DesiredState::Paused => last.state = DesiredState::Paused,
        DesiredState::Running | DesiredState::Stopped => {}
    }
    let mut before = cluster.clone();
    before.spec = last;
    decide(&before, seen, context, None).ok()
}

/// What came of the objects and the action.
#[derive(Debug, Default)]
struct Done {
    /// Objects that the cluster has to do without for now.
    missing: Vec<apply::ApplyError>,
    /// Why the action, or what it needs, was not carried out.
    failure: Option<String>,
}

impl Done {
    /// The longest until the cluster is looked at again.
    const fn at_most(&self) -> Duration {
        if self.missing.is_empty() {
            Duration::MAX
        } else {
            // No event tells that a webhook has changed its mind.
            WHILE_MISSING
        }
    }
}

/// How long until the cluster is looked at again, if nothing happens before; `again` is how often the step has
/// been the same: what does not come about is looked at less and less.
fn pause(step: &Step, again: u32) -> Duration {
    let first = match step {
        Step::Act(_) => AFTER_ACTION,
        Step::Wait(waiting) if waiting.is_final() => return WHILE_WELL,
        Step::Wait(_) => WHILE_WAITING,
        Step::Refuse(plan::Refusal::Paused) | Step::Done => return WHILE_WELL,
        Step::Refuse(_) => WHILE_REFUSED,
    };
    let factor = 2_u32.saturating_pow((again / OFTEN).min(10));
    first.saturating_mul(factor).min(WHILE_STUCK.max(first))
}

/// Applies the objects and carries out the action.
async fn act(
    context: &Context,
    cluster: &SyncCluster,
    valid: &validate::Valid,
    seen: &dereference::Dereferenced,
    objects: build::Objects,
    plan: &Plan,
) -> Done {
    let served = context.served();
    let applied = apply::apply(&context.client, valid, seen, objects, served);
    let applied = applied.instrument(info_span!("apply")).await;
    let missing = match applied {
        Ok(missing) => missing,
        Err(error) => {
            return Done {
                missing: Vec::new(),
                failure: Some(error.to_string()),
            };
        }
    };
    for error in &missing {
        tracing::warn!(cluster = %cluster.name_any(), namespace = %valid.namespace, %error, "an object is missing");
    }
    let Step::Act(action) = &plan.step else {
        return Done {
            missing,
            failure: None,
        };
    };
    tracing::info!(cluster = %cluster.name_any(), namespace = %valid.namespace, reason = action.reason(), %action, "acting");
    context.metrics.action(action.reason());
    let done = apply::carry_out(&context.client, valid, seen, served, action);
    let span = info_span!("act", action = action.reason());
    let failure = match done.instrument(span).await {
        // The budget has just grown, or somebody else drains: it is asked again at once.
        Err(error @ apply::ActionError::BudgetSpent(_)) => {
            tracing::info!(%error, "not yet");
            return Done {
                missing,
                failure: None,
            };
        }
        done => done.err(),
    };
    if let (Some(failure), plan::Action::GrowVolumes { bytes, .. }) = (&failure, action) {
        let why = failure.to_string();
        let refused = RefusedGrowth { bytes: *bytes, why };
        let this = ObjectRef::from_obj(cluster);
        context.memory.growth_refused(&this, refused);
    }
    if failure.is_none() {
        let note = action.to_string();
        publish(context, cluster, EventType::Normal, action.reason(), &note).await;
    }
    Done {
        missing,
        failure: failure.map(|error| error.to_string()),
    }
}

/// Other operators keep the cluster: an event says so.
async fn report_other(cluster: &SyncCluster, context: &Context, other: &str) -> Requeue {
    let why = keeper::words(other);
    tracing::warn!(cluster = %cluster.name_any(), namespace = ?cluster.namespace(), why);
    publish(context, cluster, EventType::Warning, "OtherOperator", &why).await;
    Requeue::requeue(WHILE_KEPT)
}

/// What there is could not be read: of a cluster of which this is so for some time nothing is known any more.
async fn report_unread(
    cluster: &SyncCluster,
    context: &Context,
    error: dereference::DereferenceError,
) -> Result<Requeue, ReconcileError> {
    let failures = context.failures(&ObjectRef::from_obj(cluster));
    if failures.saturating_add(1) >= UNREAD {
        let why = error.to_string();
        write_status(cluster, context, &Outcome::Unread(&why)).await?;
    }
    Err(error.into())
}

/// Nothing is touched; the status and an event say why.
async fn report_invalid(
    cluster: &SyncCluster,
    context: &Context,
    why: &str,
) -> Result<Requeue, ReconcileError> {
    write_status(cluster, context, &Outcome::Invalid(why)).await?;
    Ok(Requeue::requeue(WHILE_INVALID))
}

/// A cluster whose spec cannot be read: the definition has let something pass, or is newer than this
/// operator. It is kept by the last one that could; the status and an event say why.
///
/// # Errors
/// If the API server does not do as asked.
pub async fn report_unreadable(
    unread: &InvalidObject,
    context: &Context,
) -> Result<Requeue, ReconcileError> {
    let name = unread.metadata.name.clone().unwrap_or_default();
    let namespace = unread.metadata.namespace.clone().unwrap_or_default();
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    let found = loose(context, &namespace).list(&only).await;
    let found = found.map_err(|error| ReconcileError::Status(Box::new(error)))?;
    let Some(found) = found.items.into_iter().next() else {
        return Ok(Requeue::await_change());
    };
    // What cannot be read is its spec; the rest is enough to keep it as it last was.
    let status: Option<SyncClusterStatus> = found
        .data
        .get("status")
        .and_then(|status| serde_json::from_value(status.clone()).ok());
    let is_paused = found.data.pointer("/spec/state") == Some(&json!("Paused"));
    let spec = if is_paused {
        json!({"state": "Paused"})
    } else {
        json!({})
    };
    let rest = json!({
        "apiVersion": SyncCluster::api_version(&()), "kind": SyncCluster::kind(&()),
        "metadata": found.metadata, "spec": spec, "status": status,
    });
    let cluster: SyncCluster =
        serde_json::from_value(rest).map_err(|error| ReconcileError::Failed(error.to_string()))?;
    let why = format!(
        "this operator cannot read the object: {}. Correct it; or, if the definition is newer than the operator, upgrade that",
        unread.error
    );
    Box::pin(steps(&cluster, context, Some(&why))).await
}

/// Clusters as they are, whether or not they can be read.
fn loose(context: &Context, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<SyncCluster>(&());
    Api::namespaced_with(context.client.clone(), namespace, &resource)
}

/// True if all fields that were written are there: what a definition does not know is dropped without a
/// word.
fn has_all(written: &Value, found: &Value) -> bool {
    match (written, found) {
        (Value::Object(written), Value::Object(found)) => written
            .iter()
            .all(|(name, value)| found.get(name).is_some_and(|found| has_all(value, found))),
        (Value::Array(written), Value::Array(found)) => written
            .iter()
            .zip(found)
            .all(|(value, found)| has_all(value, found)),
        // Somebody else may have written it, too.
        _ => true,
    }
}

/// Writes the status if it has changed, and publishes what became wrong.
async fn write_status(
    cluster: &SyncCluster,
    context: &Context,
    outcome: &Outcome<'_>,
) -> Result<(), ReconcileError> {
    put_status(cluster, context, outcome)
        .instrument(info_span!("status"))
        .await
}

async fn put_status(
    cluster: &SyncCluster,
    context: &Context,
    outcome: &Outcome<'_>,
) -> Result<(), ReconcileError> {
    let status = status::status(cluster, outcome, Timestamp::now());
    let before = cluster.status.clone().unwrap_or_default();
    if status == before {
        return Ok(());
    }
    let namespace = cluster.namespace().unwrap_or_default();
    let status_written = json!(status);
    let patch = json!({"status": status_written});
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let written = loose(context, &namespace)
        .patch_status(&cluster.name_any(), &parameters, &Patch::Merge(&patch))
        .await;
    match written {
        Ok(written) => {
            let is_kept = written
                .data
                .get("status")
                .is_some_and(|found| has_all(&status_written, found));
            if !is_kept && context.definition_is_stale() {
                const WHY: &str = "the definition of SyncCluster in this API server lacks fields that this operator writes: upgrade the chart lockstep-crds";
                tracing::warn!(WHY);
                publish(context, cluster, EventType::Warning, "StaleDefinition", WHY).await;
            }
        }
        // It was deleted meanwhile.
        Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
        Err(error) => return Err(ReconcileError::Status(Box::new(error))),
    }
    if let Some((reason, message)) = newly_degraded(&before, &status) {
        context.metrics.refusal(&reason);
        publish(context, cluster, EventType::Warning, &reason, &message).await;
    }
    Ok(())
}

/// What became wrong: the reason of `Degraded`, where it is not the one before.
fn newly_degraded(before: &SyncClusterStatus, now: &SyncClusterStatus) -> Option<(String, String)> {
    let degraded = |status: &SyncClusterStatus| {
        let mut conditions = status.conditions.iter();
        let found = conditions.find(|condition| {
            condition.kind == ConditionKind::Degraded && condition.status == "True"
        });
        found.map(|condition| (condition.reason.clone(), condition.message.clone()))
    };
    let (reason, message) = degraded(now)?;
    let is_new = degraded(before).is_none_or(|(was, _)| was != reason)
        || before.observed_generation != now.observed_generation;
    is_new.then_some((reason, message))
}

/// Tells notes apart. The recorder counts events as one whose reason and action are the same, and would
/// show the first one's note for ever.
fn digest(note: &str) -> u32 {
    // FNV-1a, by Fowler, Noll and Vo.
    note.bytes().fold(0x811c_9dc5, |digest: u32, byte| {
        (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Most bytes of an event's note, as Kubernetes has it.
const MAX_NOTE: usize = 1_000;

async fn publish(
    context: &Context,
    cluster: &SyncCluster,
    kind: EventType,
    reason: &str,
    note: &str,
) {
    let mut end = note.len().min(MAX_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    let event = Event {
        type_: kind,
        reason: reason.to_owned(),
        note: note.get(..end).map(str::to_owned),
        action: format!("Reconcile-{:08x}", digest(note)),
        secondary: None,
    };
    if let Err(error) = context
        .recorder
        .publish(&event, &cluster.object_ref(&()))
        .await
    {
        tracing::warn!(%error, reason, "an event was not published");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        WHILE_REFUSED, WHILE_STUCK, WHILE_WELL, pause,
        plan::{Refusal, Step},
    };

    #[test]
    fn what_stays_stuck_is_looked_at_less_and_less() {
        let silent = Step::Refuse(Refusal::MembersSilent);
        assert_eq!(pause(&silent, 0), WHILE_REFUSED);
        let pauses: Vec<Duration> = (0..200).map(|again| pause(&silent, again)).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&WHILE_STUCK));
        assert_eq!(pause(&Step::Done, 1_000), WHILE_WELL);
    }
}

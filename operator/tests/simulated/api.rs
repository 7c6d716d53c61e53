//! The API server's side of the world, as a service that the operator's client talks to.

use std::{convert::Infallible, sync::Arc};

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower::{Service, service_fn};

use super::world::{Refused, Shared, World};

type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// Answers requests by the world; never, if the operator was killed after the request.
pub(crate) fn service(
    world: Shared,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>
+ Send
+ Clone {
    service_fn(move |request: Request<Body>| -> Answer {
        let world = Arc::clone(&world);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let query = head.uri.query().unwrap_or_default();
            let (answer, is_killed) = {
                let mut world = world.lock();
                let answer = handle(&mut world, &head.method, head.uri.path(), query, &body);
                (answer, world.is_killed())
            };
            if is_killed {
                std::future::pending::<()>().await;
            }
            let (code, body) = match answer {
                Ok(object) => (200, object),
                Err(refused) => (refused.code(), status(&refused)),
            };
            let mut response = Response::new(Body::from(body.to_string().into_bytes()));
            *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
            Ok(response)
        })
    })
}

fn status(refused: &Refused) -> Value {
    let (code, reason) = (refused.code(), format!("{refused:?}"));
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
        "reason": reason, "code": code})
}

fn handle(
    world: &mut World,
    method: &Method,
    path: &str,
    query: &str,
    body: &Value,
) -> Result<Value, Refused> {
    if path.contains("/events") {
        return Ok(match method.as_str() {
            "GET" => {
                json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": world.creation_failures()})
            }
            _ => body.clone(),
        });
    }
    if let Some(("GET", name)) = path
        .strip_prefix("/api/v1/nodes/")
        .map(|name| (method.as_str(), name))
    {
        return Ok(world.machine(name));
    }
    // .../namespaces/NAMESPACE/PLURAL[/NAME[/PART]]
    let (_, inner) = path.split_once("/namespaces/").unwrap();
    let parts: Vec<&str> = inner.split('/').skip(1).collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", [plural, ..]) if world.is_hidden(plural) => Err(Refused::Broken),
        ("GET", [plural]) => Ok(
            json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": world.list(plural)}),
        ),
        ("GET", [plural, name]) => world.get(plural, name),
        ("PATCH", [plural, name]) => {
            let is_apply = query.contains("force=true");
            let is_whole = is_apply && query.contains("fieldManager=lockstep-operator&");
            world.patch(plural, name, body, is_apply, is_whole)
        }
        ("PATCH", [plural, name, "status"]) => world.patch_status(plural, name, body),
        ("POST", ["pods", name, "eviction"]) => {
            let options = &body["deleteOptions"];
            let is_trial = options["dryRun"] == json!(["All"]);
            world.evict(name, options.get("preconditions"), is_trial)?;
            Ok(deleted())
        }
        ("DELETE", [plural, name]) => {
            world.delete(plural, name, body.get("preconditions"))?;
            Ok(deleted())
        }
        other => panic!("the operator asks for {other:?}"),
    }
}

fn deleted() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 200})
}

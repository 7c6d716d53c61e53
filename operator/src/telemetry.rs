//! What the operator tells of itself while it runs: log lines on standard error, and, where somebody
//! collects them, traces of its reconciles by OTLP over gRPC.
//!
//! Invariants: without an endpoint nothing is recorded and nothing is sent. A collector that is away
//! costs traces, never a reconcile: they are sent from a thread of their own, and its queue is bounded.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, filter::Targets, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Whose spans are sent: the operator's own, and not those of its libraries.
const OURS: &str = "lockstep_operator";
/// How long one batch may take to be sent.
const SEND: Duration = Duration::from_secs(5);
/// How long the last batches may take when the operator stops: less than Kubernetes leaves it.
const FLUSH: Duration = Duration::from_secs(5);

/// What is told, and where.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "telemetry")]
pub struct Options {
    /// What to log: a filter such as info,lockstep_operator=debug.
    #[arg(long, env = "LOCKSTEP_OPERATOR_LOG", default_value = "info")]
    pub log: String,
    /// How to log: one JSON object a line, instead of text.
    #[arg(long, env = "LOCKSTEP_OPERATOR_LOG_JSON")]
    pub log_json: bool,
    /// Where traces are sent, by OTLP over gRPC: http://HOST:4317 [default: nowhere].
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// The traces under way.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts to tell. Needs a tokio runtime with several threads, because traces are sent by it.
    ///
    /// # Errors
    /// If the filter is none, or the endpoint cannot be one.
    pub fn start(options: &Options) -> anyhow::Result<Self> {
        let filter = EnvFilter::try_new(&options.log)
            .with_context(|| format!("{:?} is no filter of log lines", options.log))?;
        let endpoint = options.otlp_endpoint.as_deref();
        let traces = endpoint
            .filter(|endpoint| !endpoint.is_empty())
            .map(provider)
            .transpose()?;
        let spans = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer(OURS))
                .with_filter(Targets::new().with_target(OURS, tracing::Level::INFO))
        });
        let lines = tracing_subscriber::fmt::layer::<Registry>().with_writer(std::io::stderr);
        let lines = if options.log_json {
            let lines = lines.json().with_current_span(false).with_span_list(false);
            lines.with_filter(filter).boxed()
        } else {
            let lines = lines.with_ansi(std::io::stderr().is_terminal());
            lines.with_filter(filter).boxed()
        };
        tracing_subscriber::registry()
            .with(lines)
            .with(spans)
            .try_init()?;
        Ok(Self { traces })
    }

    /// Sends what was not sent yet.
    pub async fn stop(self) {
        let Some(traces) = self.traces else { return };
        // It waits for its thread, which waits for this runtime to send.
        let flushed =
            tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(FLUSH)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn provider(endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(SEND)
        .build()
        .with_context(|| {
            format!("traces cannot be sent to {endpoint:?}: http://HOST:4317 is meant")
        })?;
    let resource = Resource::builder()
        .with_service_name("lockstep-operator")
        .with_attribute(opentelemetry::KeyValue::new(
            "service.version",
            env!("CARGO_PKG_VERSION"),
        ))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    };
    use tokio::{net::TcpListener, sync::mpsc};
    use tonic::{
        Request, Response, Status,
        transport::{Server, server::TcpIncoming},
    };

    use super::*;

    /// Tells the names of the spans that come in.
    struct Collector(mpsc::UnboundedSender<String>);

    #[tonic::async_trait]
    impl TraceService for Collector {
        async fn export(
            &self,
            request: Request<ExportTraceServiceRequest>,
        ) -> Result<Response<ExportTraceServiceResponse>, Status> {
            let resources = request.into_inner().resource_spans.into_iter();
            let scopes = resources.flat_map(|resource| resource.scope_spans);
            for span in scopes.flat_map(|scope| scope.spans) {
                self.0.send(span.name).unwrap();
            }
            Ok(Response::new(ExportTraceServiceResponse::default()))
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_recorded_is_sent_before_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (names, mut received) = mpsc::unbounded_channel();
        let server = Server::builder().add_service(TraceServiceServer::new(Collector(names)));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));

        let traces = provider(&endpoint).unwrap();
        let layer = tracing_opentelemetry::layer().with_tracer(traces.tracer(OURS));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info_span!("reconcile").in_scope(|| {});
        });
        let traces = Some(traces);
        Telemetry { traces }.stop().await;
        assert_eq!(received.try_recv().unwrap(), "reconcile");
    }

    #[test]
    fn what_is_no_endpoint_is_named() {
        let error = provider("not a url").unwrap_err();
        assert!(error.to_string().contains("not a url"), "{error:#}");
    }
}

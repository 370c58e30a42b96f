//! What is served: `/metrics`, `/healthz`, `/readyz`; everything else is a problem.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{header, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::Router;

use super::problem::Problem;
use super::state::{Phase, State};

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state)
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Response {
    // Asking the shards blocks, though not for long; other requests go on meanwhile.
    let page = tokio::task::spawn_blocking(move || state.metrics().map(|metrics| metrics.page()));
    match page.await {
        Ok(Some(page)) => ([(header::CONTENT_TYPE, METRICS_TYPE)], page).into_response(),
        Ok(None) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the shards are starting").into_response()
        }
        Err(error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

async fn alive() -> &'static str {
    "alive\n"
}

async fn ready(Shared(state): Shared<Arc<State>>) -> Response {
    match state.phase() {
        Phase::Serving => "ready\n".into_response(),
        Phase::Starting => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is starting").into_response()
        }
        Phase::Draining => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the gateway is draining").into_response()
        }
    }
}

async fn not_found(uri: Uri) -> Problem {
    let detail = format!(
        "nothing is at {}; try /metrics, /healthz or /readyz",
        uri.path()
    );
    Problem::new(StatusCode::NOT_FOUND, detail)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}, only GET and HEAD", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

//! A page for the operator, and the figures that it shows.
//!
//! The page is one file in the binary. It asks for nothing from elsewhere, and its policy would not let it.

mod figures;
mod topics;

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, Request, State};
use axum::http::header::{self, HeaderName};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ControlSource;
use super::api::{Api, ApiError, ErrorCode, PeerAddr, authorize};
use figures::Figures;
use topics::{Parameters, Topics};

/// What every request finds.
#[derive(Clone)]
struct Dashboard {
    source: Arc<dyn ControlSource>,
    /// Reaches topics, where there are any.
    api: Option<Api>,
}

/// `/dashboard` and what is below it.
pub(super) fn routes(source: Arc<dyn ControlSource>, api: Option<Api>) -> Router {
    let dashboard = Dashboard { source, api };
    let guarded = Router::new()
        .route("/dashboard/figures", get(figures))
        .route("/dashboard/topics", get(topics))
        .layer(from_fn_with_state(dashboard.clone(), guard))
        .with_state(dashboard);
    Router::new().route("/dashboard", get(page)).merge(guarded)
}

/// Figures and topics are for those who may use the API.
async fn guard(
    State(dashboard): State<Dashboard>,
    Extension(PeerAddr(peer)): Extension<PeerAddr>,
    request: Request,
    next: Next,
) -> Response {
    let keys = dashboard.api.as_ref().and_then(Api::keys);
    match authorize(keys.as_deref(), peer, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn figures(State(dashboard): State<Dashboard>) -> Json<Figures> {
    Json(Figures::read(&*dashboard.source, dashboard.api.is_some()))
}

async fn topics(
    State(dashboard): State<Dashboard>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Json<Topics>, ApiError> {
    let Some(api) = &dashboard.api else {
        return Err(ApiError::new(ErrorCode::NotFound, "only `corewire serve` has topics"));
    };
    let Query(parameters) = parameters.map_err(|rejection| ApiError::bad_field(rejection.body_text()))?;
    let watch = parameters.watch().map_err(ApiError::bad_topic)?;
    Ok(Json(Topics::of(api.watch(&watch).await)))
}

/// `GET /dashboard`. It tells nothing of the server: who may not ask for figures sees an empty page.
async fn page() -> impl IntoResponse {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, &POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // It fits the server that it came from.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE)
}

/// Lets in what stands in the page itself, known by its hash, and connections to where it came from.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let [style, script] = ["style", "script"].map(|element| hash_of(PAGE, element));
    format!(
        "default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The hash of the content of the page's only element of this name, as a policy names it (CSP Level 3 §2.3.1).
fn hash_of(page: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let content = page.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).map(|(content, _)| content);
    let hash = digest(&SHA256, content.expect("the page has it").as_bytes());
    format!("sha256-{}", STANDARD.encode(hash))
}

const PAGE: &str = include_str!("dashboard/page.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_nothing_that_its_policy_would_not_let_in() {
        for element in ["<style>", "<script>"] {
            assert_eq!(PAGE.matches(element).count(), 1, "{element}");
        }
        // Styles and handlers in attributes have no hash; what comes from elsewhere has no place.
        for refused in [" style=\"", " onclick=", " onload=", " src=", "@import", "url(", "eval(", "innerHTML"] {
            assert!(!PAGE.contains(refused), "{refused}");
        }
        let addresses: Vec<_> = PAGE.match_indices("://").map(|(at, _)| &PAGE[at.saturating_sub(5)..at + 20]).collect();
        assert!(addresses.iter().all(|address| address.contains("www.w3.org/2000")), "{addresses:?}");
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"), "{}", *POLICY);
    }

    #[test]
    fn the_hash_is_that_of_the_content() {
        // printf 'a' | openssl dgst -sha256 -binary | base64
        let page = "<x><script>a</script>";
        assert_eq!(hash_of(page, "script"), "sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=");
    }
}

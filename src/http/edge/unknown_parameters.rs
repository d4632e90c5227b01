//! Warnings about query parameters that a route does not know (contract, section 1, Success).

use std::sync::OnceLock;

use actix_web::HttpRequest;
use serde_json::Value;

use super::extract::{ANY_NAME, UnknownParameters};
use super::router;
use crate::input::json::{nearest, shown};

/// The most parameters that have a warning each.
const MAX_WARNINGS: usize = 8;
/// The most calls that a warning names.
const MAX_CALLS: usize = 3;

/// A query parameter, with the calls that know it.
struct Known {
    name: String,
    calls: Vec<String>,
}

impl Known {
    /// Whether the parameter has this name, or takes it as one of many.
    fn is(&self, name: &str) -> bool {
        match self.name.strip_suffix(ANY_NAME) {
            Some(prefix) => name.starts_with(prefix),
            None => self.name == name,
        }
    }
}

/// The parameters of all routes.
fn known() -> &'static [Known] {
    static KNOWN: OnceLock<Vec<Known>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let mut known: Vec<Known> = Vec::new();
        for row in router::table() {
            let call = format!("{} {}", row.method, row.path);
            for (name, _) in row.operation.query {
                match known.iter_mut().find(|known| known.name == name) {
                    Some(known) => known.calls.push(call.clone()),
                    None => known.push(Known {
                        name,
                        calls: vec![call.clone()],
                    }),
                }
            }
        }
        known
    })
}

/// The warnings about the query parameters of a request that its route does not know. A filter that
/// only another list has would otherwise give the whole list without a word.
pub(super) fn warnings(request: &HttpRequest) -> Vec<String> {
    if request.query_string().is_empty() {
        return Vec::new();
    }
    let UnknownParameters { names, known } = UnknownParameters::take(request);
    if names.is_empty() {
        return Vec::new();
    }
    let own = known();
    let mut warnings: Vec<String> = names
        .iter()
        .take(MAX_WARNINGS)
        .map(|name| warning(name, &own))
        .collect();
    let more = names.len() - warnings.len();
    if more > 0 {
        warnings.push(format!("Query parameters that were ignored too: {more}."));
    }
    warnings
}

fn warning(name: &str, own: &[(String, Value)]) -> String {
    let ignored = format!(
        "The query parameter {} was ignored: this call does not have it.",
        shown(name)
    );
    if let Some(elsewhere) = known().iter().find(|known| known.is(name)) {
        let calls = &elsewhere.calls;
        let named = calls[..calls.len().min(MAX_CALLS)].join(", ");
        let more = match calls.len().saturating_sub(MAX_CALLS) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return format!("{ignored} Calls that have it: {named}{more}.");
    }
    match nearest(name, own.iter().map(|(name, _)| name.as_str())) {
        Some((nearest, true)) => format!("{ignored} Did you mean {nearest}?"),
        Some((_, false)) | None => ignored,
    }
}

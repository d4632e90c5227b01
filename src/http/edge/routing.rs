//! Routing: matches a request by path and method, and admits it before the handler runs.

use std::borrow::Cow;
use std::fmt;
use std::future::ready;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::BoxBody;
use actix_web::dev::{Extensions, Service, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::uri::PathAndQuery;
use actix_web::http::{Method, Uri, header};
use actix_web::{HttpRequest, HttpResponse, Route, web};
use futures_util::future::{LocalBoxFuture, try_join_all};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;

use super::admission::{Callers, Rules, admit, settle};
use super::reply_limiter::{KIB_PER_REPLY, NeedsRoom, RoomOf, reserve};
use crate::error::{Code, Error, Refusal};
use crate::input::fields::shortened;

/// The methods of the server as a whole, which `OPTIONS *` and `OPTIONS /` ask for.
const ALL_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// The prefix of the API. The same handlers also serve every path without it.
pub const PREFIX: &str = "/public-api";

/// The path pattern that matched a request, for the log and the metrics.
#[derive(Clone, Copy)]
pub(in crate::http) struct MatchedRoute {
    pub(in crate::http) pattern: &'static str,
    /// The index among all patterns; [`MatchedRoute::NONE`] is the first.
    pub(in crate::http) index: usize,
}

impl MatchedRoute {
    /// The value for a request that no pattern matches.
    pub(in crate::http) const NONE: Self = Self {
        pattern: "-",
        index: 0,
    };

    /// The pattern that matched a request.
    pub(in crate::http) fn of(request: &HttpRequest) -> Self {
        request.app_data().copied().unwrap_or(Self::NONE)
    }
}

/// The routes of one path.
pub(in crate::http) struct PathRoutes {
    /// The path without the prefix. A `{name}` matches any one segment.
    pub(in crate::http) path: &'static str,
    /// Whether the path is also served below the prefix.
    pub(in crate::http) is_prefixed: bool,
    pub(in crate::http) methods: Vec<MethodRoute>,
}

impl PathRoutes {
    /// A public page or file outside the API, served without the prefix.
    pub(in crate::http) fn public_get(path: &'static str, route: Route) -> Self {
        Self {
            path,
            is_prefixed: false,
            methods: vec![MethodRoute {
                method: Method::GET,
                rules: Rules::PUBLIC,
                route,
            }],
        }
    }

    /// The methods of the path, for `Allow`.
    fn allow(&self) -> String {
        let mut allow = String::new();
        for route in &self.methods {
            allow.push_str(route.method.as_str());
            allow.push_str(if route.method == Method::GET {
                ", HEAD, "
            } else {
                ", "
            });
        }
        allow + Method::OPTIONS.as_str()
    }
}

/// The route of one method at one path. A route for GET also serves HEAD.
pub(in crate::http) struct MethodRoute {
    pub(in crate::http) method: Method,
    pub(in crate::http) rules: Rules,
    pub(in crate::http) route: Route,
}

type RouteService = <Route as ServiceFactory<ServiceRequest>>::Service;

/// Creates the router on each of the framework's worker threads.
pub(in crate::http) struct RouterFactory(Vec<PathRoutes>);

impl RouterFactory {
    /// A factory of routers over these routes.
    pub(in crate::http) fn of(paths: Vec<PathRoutes>) -> Self {
        Self(paths)
    }
}

impl ServiceFactory<ServiceRequest> for RouterFactory {
    type Response = ServiceResponse<BoxBody>;
    type Error = actix_web::Error;
    type Config = ();
    type Service = RouterService;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<RouterService, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let mut matcher = matchit::Router::new();
        let mut paths = Vec::with_capacity(self.0.len());
        for (position, path_routes) in self.0.iter().enumerate() {
            if let Err(error) = matcher.insert(path_routes.path, position) {
                log::error!("cannot add the route {}: {error}", path_routes.path);
                return Box::pin(ready(Err(())));
            }
            // Index 0 is for requests that no pattern matches.
            paths.push(start(path_routes, position + 1));
        }
        Box::pin(async move {
            Ok(RouterService {
                matcher,
                paths: try_join_all(paths).await?,
            })
        })
    }
}

fn start(
    path_routes: &PathRoutes,
    index: usize,
) -> LocalBoxFuture<'static, Result<PathService, ()>> {
    let methods: Vec<(Method, Rules)> = path_routes
        .methods
        .iter()
        .map(|route| (route.method.clone(), route.rules))
        .collect();
    let mut data = Extensions::new();
    data.insert(MatchedRoute {
        pattern: path_routes.path,
        index,
    });
    let allow = path_routes.allow();
    let refused_with = allow.clone();
    let wrong_method = web::to(move || wrong_method(refused_with.clone())).new_service(());
    let services = path_routes.methods.iter();
    let services = try_join_all(services.map(|method| method.route.new_service(())));
    let is_prefixed = path_routes.is_prefixed;
    Box::pin(async move {
        Ok(PathService {
            is_prefixed,
            allow,
            data: Rc::new(data),
            methods: methods
                .into_iter()
                .zip(services.await?)
                .map(|((method, rules), service)| MethodService {
                    method,
                    rules,
                    service: Rc::new(service),
                })
                .collect(),
            wrong_method: wrong_method.await?,
        })
    })
}

/// The routes of one path, on one thread.
struct PathService {
    is_prefixed: bool,
    allow: String,
    data: Rc<Extensions>,
    methods: Vec<MethodService>,
    wrong_method: RouteService,
}

impl PathService {
    fn route(&self, method: &Method) -> Option<&MethodService> {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        self.methods.iter().find(|route| route.method == *method)
    }
}

/// The route of one method, on one thread.
struct MethodService {
    method: Method,
    rules: Rules,
    service: Rc<RouteService>,
}

/// The router, on one thread.
pub(in crate::http) struct RouterService {
    matcher: matchit::Router<usize>,
    paths: Vec<PathService>,
}

impl RouterService {
    fn find(&self, path: &str) -> Option<&PathService> {
        let (has_prefix, path) = split_prefix(path);
        let found = self.matcher.at(path).ok()?;
        let service = self.paths.get(*found.value)?;
        (service.is_prefixed || !has_prefix).then_some(service)
    }

    /// The route of a request whose path has a slash too many. The request gets the path that was
    /// meant. A page's links to its files are relative to its path, so that a page is not served at
    /// another path: the refusal names the path that was meant.
    fn find_meant(&self, request: &mut ServiceRequest) -> Result<&PathService, Error> {
        let uri = without_extra_slashes(request.uri()).ok_or(Code::NotFound)?;
        let meant = self.find(uri.path()).ok_or(Code::NotFound)?;
        if !meant.is_prefixed {
            let path = shortened(&Value::from(uri.path()));
            let path = path.trim_matches('"');
            let message = format!("This path does not exist. Did you mean {path}?");
            let refusal = Refusal::new(Code::NotFound).saying(message);
            return Err(refusal.with("path", path).into());
        }
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
        Ok(meant)
    }
}

/// The URI without empty segments in its path and without a slash at the end of the path. `None` if
/// the path has neither.
fn without_extra_slashes(uri: &Uri) -> Option<Uri> {
    if !uri.path().starts_with('/') {
        return None;
    }
    let segments = uri.path().split('/').filter(|segment| !segment.is_empty());
    let mut path: String = segments.flat_map(|segment| ["/", segment]).collect();
    if path.is_empty() || path == uri.path() {
        return None;
    }
    if let Some(query) = uri.query() {
        path = format!("{path}?{query}");
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

impl Service<ServiceRequest> for RouterService {
    type Response = ServiceResponse<BoxBody>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let found = match self.find(request.match_info().as_str()) {
            Some(path) => Ok(path),
            None => self.find_meant(&mut request),
        };
        if *request.method() == Method::OPTIONS {
            // A health checker of a proxy asks for `/` or `*`.
            let allow = match &found {
                Ok(path) => Some(path.allow.as_str()),
                Err(_) => matches!(request.path(), "/" | "*").then_some(ALL_METHODS),
            };
            if let Some(allow) = allow {
                let reply = HttpResponse::NoContent()
                    .insert_header((header::ALLOW, allow))
                    .finish();
                if let Ok(path) = found {
                    request.add_data_container(Rc::clone(&path.data));
                }
                return Box::pin(ready(Ok(request.into_response(reply))));
            }
        }
        let path = match found {
            Ok(path) => path,
            Err(refused) => return Box::pin(ready(Ok(request.error_response(refused)))),
        };
        request.add_data_container(Rc::clone(&path.data));
        let Some(route) = path.route(request.method()) else {
            return path.wrong_method.call(request);
        };
        if route.rules.callers == Callers::Public {
            return route.service.call(request);
        }
        let (rules, service) = (route.rules, Rc::clone(&route.service));
        Box::pin(async move {
            if let Err(refused) = admit(&mut request, rules).await {
                return Ok(request.error_response(refused));
            }
            let mut response = service.call(request).await?;
            if NeedsRoom::is_in(&response) {
                let (request, _) = response.into_parts();
                response = Box::pin(call_with_room(service, request)).await?;
            }
            settle(&response);
            Ok(response)
        })
    }
}

/// Calls the handler of a reading request again, once there is room for its reply.
async fn call_with_room(
    service: Rc<RouteService>,
    request: HttpRequest,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    match reserve(&request, RoomOf::Reads, KIB_PER_REPLY).await {
        Ok(()) => service.call(ServiceRequest::from_request(request)).await,
        Err(refused) => Ok(ServiceResponse::from_err(refused, request)),
    }
}

/// Whether a path begins with the prefix, and the path without it.
fn split_prefix(path: &str) -> (bool, &str) {
    let rest = path.strip_prefix(PREFIX);
    match rest.filter(|rest| rest.starts_with('/')) {
        Some(rest) => (true, rest),
        None => (false, path),
    }
}

/// The path of a request without the prefix.
pub(super) fn path_of(request: &HttpRequest) -> &str {
    split_prefix(request.match_info().as_str()).1
}

/// The segment of a request's path that the pattern's `{name}` matches.
pub(in crate::http) fn segment<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    let MatchedRoute { pattern, .. } = request.app_data()?;
    let path = path_of(request);
    let is_named = |part: &str| {
        part.strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
            == Some(name)
    };
    let mut segments = pattern.split('/').zip(path.split('/'));
    segments
        .find(|(part, _)| is_named(part))
        .map(|(_, value)| value)
}

/// The text of a path segment that the pattern's `{name}` matches. The path is split before this
/// text is decoded, so that a `%2F` is part of the text.
pub(in crate::http) fn decoded_segment<'a>(
    request: &'a HttpRequest,
    name: &str,
) -> Option<Cow<'a, str>> {
    // The framework has decoded all bytes but those of `%`, `/` and `+`.
    let segment = segment(request, name)?;
    Some(percent_decode_str(segment).decode_utf8_lossy())
}

/// The bytes of a path segment that a URL must escape (RFC 3986, section 3.3, and all delimiters).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Text as one segment of a path.
pub(in crate::http) fn as_segment(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, ESCAPED)
}

async fn wrong_method(allow: String) -> Result<&'static str, Error> {
    let mut refusal = Refusal::new(Code::MethodNotAllowed);
    refusal.allow = Some(allow);
    Err(refusal.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_segments_leave_a_path_and_its_query_stays() {
        let tidied = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            without_extra_slashes(&uri).map(|uri| uri.to_string())
        };
        for (text, meant) in [
            ("/agents/", Some("/agents")),
            (
                "//public-api///agents//7//?a=//b/",
                Some("/public-api/agents/7?a=//b/"),
            ),
            ("/agents/%2F/", Some("/agents/%2F")),
            ("http://host//agents", Some("http://host/agents")),
            ("/agents", None),
            ("/", None),
            ("//", None),
            ("*", None),
        ] {
            assert_eq!(tidied(text).as_deref(), meant, "{text}");
        }
    }
}

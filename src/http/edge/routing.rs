//! Routing: matches a request by path and method, and admits it before the handler runs.

use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::BoxBody;
use actix_web::dev::{Extensions, Service, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::{HttpRequest, Route, web};
use futures_util::future::{LocalBoxFuture, try_join_all};

use super::admission::{Callers, Rules, admit, settle};
use super::reply_limiter::{KIB_PER_REPLY, NeedsRoom, reserve};
use crate::error::{Code, Error, Refusal};

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
    /// A public page or file outside the API: served without the prefix, for GET and HEAD.
    pub(in crate::http) fn public_get(path: &'static str, route: fn() -> Route) -> Self {
        let for_method = |method: Method| MethodRoute {
            route: route().method(method.clone()),
            method,
            rules: Rules::PUBLIC,
        };
        Self {
            path,
            is_prefixed: false,
            methods: [Method::GET, Method::HEAD].map(for_method).into(),
        }
    }
}

/// The route of one method at one path.
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
                return Box::pin(std::future::ready(Err(())));
            }
            // Index 0 is for requests that no pattern matches.
            paths.push(start(path_routes, position + 1));
        }
        let unknown = web::to(unknown_route).new_service(());
        Box::pin(async move {
            Ok(RouterService {
                matcher,
                paths: try_join_all(paths).await?,
                unknown: unknown.await?,
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
    let allow: Vec<&str> = methods.iter().map(|(method, ..)| method.as_str()).collect();
    let allow = allow.join(", ");
    let wrong_method = web::to(move || wrong_method(allow.clone())).new_service(());
    let services = path_routes.methods.iter();
    let services = try_join_all(services.map(|method| method.route.new_service(())));
    let is_prefixed = path_routes.is_prefixed;
    Box::pin(async move {
        Ok(PathService {
            is_prefixed,
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
    data: Rc<Extensions>,
    methods: Vec<MethodService>,
    wrong_method: RouteService,
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
    unknown: RouteService,
}

impl RouterService {
    fn find(&self, path: &str) -> Option<&PathService> {
        let (has_prefix, path) = split_prefix(path);
        let found = self.matcher.at(path).ok()?;
        let service = self.paths.get(*found.value)?;
        (service.is_prefixed || !has_prefix).then_some(service)
    }
}

impl Service<ServiceRequest> for RouterService {
    type Response = ServiceResponse<BoxBody>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let Some(path) = self.find(request.match_info().as_str()) else {
            return self.unknown.call(request);
        };
        request.add_data_container(Rc::clone(&path.data));
        let mut methods = path.methods.iter();
        let Some(route) = methods.find(|route| route.method == *request.method()) else {
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
    match reserve(&request, KIB_PER_REPLY).await {
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

/// The segment of a request's path that the pattern's `{name}` matches.
pub(in crate::http) fn segment<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    let MatchedRoute { pattern, .. } = request.app_data()?;
    let (_, path) = split_prefix(request.match_info().as_str());
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

async fn wrong_method(allow: String) -> Result<&'static str, Error> {
    let mut refusal = Refusal::new(Code::MethodNotAllowed);
    refusal.allow = Some(allow);
    Err(refusal.into())
}

async fn unknown_route() -> Result<&'static str, Error> {
    Err(Code::NotFound.into())
}

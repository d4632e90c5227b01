//! Finds what a request is for: its path among the addresses of the server, then its method among the calls there.

use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::BoxBody;
use actix_web::dev::{Extensions, Service, ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::{HttpRequest, Route, web};
use futures_util::future::{LocalBoxFuture, try_join_all};

use super::admission::{Callers, admit};
use crate::error::{Code, Error, Refusal};

/// Every path of the API is served below this prefix, and by the same handler without it.
pub const PREFIX: &str = "/public-api";

/// The pattern of the path that was matched, for the log and the metrics.
#[derive(Clone, Copy)]
pub(in crate::http) struct RoutePath {
    pub(in crate::http) pattern: &'static str,
    /// Its place among all patterns, behind [`RoutePath::NOWHERE`].
    pub(in crate::http) number: usize,
}

impl RoutePath {
    /// What was matched by none of them.
    pub(in crate::http) const NOWHERE: Self = Self {
        pattern: "-",
        number: 0,
    };

    /// The pattern that a request was matched by.
    pub(in crate::http) fn of(request: &HttpRequest) -> Self {
        request.app_data().copied().unwrap_or(Self::NOWHERE)
    }
}

/// What is served at one path.
pub(in crate::http) struct Address {
    /// The path, without the prefix; a `{name}` is any one segment.
    pub(in crate::http) path: &'static str,
    /// Whether the prefix may stand before it.
    pub(in crate::http) is_prefixed: bool,
    pub(in crate::http) calls: Vec<Call>,
}

impl Address {
    /// What browsers and programs fetch without the prefix, and without a credential.
    pub(in crate::http) fn to_fetch(path: &'static str, route: fn() -> Route) -> Self {
        let call = |method: Method| Call {
            route: route().method(method.clone()),
            method,
            callers: Callers::Public,
        };
        Self {
            path,
            is_prefixed: false,
            calls: [Method::GET, Method::HEAD].map(call).into(),
        }
    }
}

/// What is served at one path by one method.
pub(in crate::http) struct Call {
    pub(in crate::http) method: Method,
    pub(in crate::http) callers: Callers,
    pub(in crate::http) route: Route,
}

type Serves = <Route as ServiceFactory<ServiceRequest>>::Service;

/// All addresses, as the framework starts them on each of its threads.
pub(in crate::http) struct Routing(Vec<Address>);

impl Routing {
    /// Serves these addresses.
    pub(in crate::http) fn of(addresses: Vec<Address>) -> Self {
        Self(addresses)
    }
}

impl ServiceFactory<ServiceRequest> for Routing {
    type Response = ServiceResponse<BoxBody>;
    type Error = actix_web::Error;
    type Config = ();
    type Service = Routed;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<Routed, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let mut places = matchit::Router::new();
        let mut starting = Vec::with_capacity(self.0.len());
        for (number, address) in self.0.iter().enumerate() {
            if let Err(error) = places.insert(address.path, number) {
                log::error!("{} cannot be told from others: {error}", address.path);
                return Box::pin(std::future::ready(Err(())));
            }
            starting.push(start(address, number + 1));
        }
        let unknown = web::to(unknown_route).new_service(());
        Box::pin(async move {
            Ok(Routed {
                places,
                addresses: try_join_all(starting).await?,
                unknown: unknown.await?,
            })
        })
    }
}

fn start(address: &Address, number: usize) -> LocalBoxFuture<'static, Result<Started, ()>> {
    let calls: Vec<(Method, Callers)> = address
        .calls
        .iter()
        .map(|call| (call.method.clone(), call.callers))
        .collect();
    let mut facts = Extensions::new();
    facts.insert(RoutePath {
        pattern: address.path,
        number,
    });
    let allow: Vec<&str> = calls.iter().map(|(method, _)| method.as_str()).collect();
    let allow = allow.join(", ");
    let wrong_method = web::to(move || wrong_method(allow.clone())).new_service(());
    let services = address.calls.iter().map(|call| call.route.new_service(()));
    let services = try_join_all(services);
    let is_prefixed = address.is_prefixed;
    Box::pin(async move {
        Ok(Started {
            is_prefixed,
            facts: Rc::new(facts),
            calls: calls
                .into_iter()
                .zip(services.await?)
                .map(|((method, callers), service)| StartedCall {
                    method,
                    callers,
                    service: Rc::new(service),
                })
                .collect(),
            wrong_method: wrong_method.await?,
        })
    })
}

/// An address on one thread.
struct Started {
    is_prefixed: bool,
    facts: Rc<Extensions>,
    calls: Vec<StartedCall>,
    wrong_method: Serves,
}

/// A call on one thread.
struct StartedCall {
    method: Method,
    callers: Callers,
    service: Rc<Serves>,
}

/// All addresses on one thread.
pub(in crate::http) struct Routed {
    places: matchit::Router<usize>,
    addresses: Vec<Started>,
    unknown: Serves,
}

impl Routed {
    fn address(&self, path: &str) -> Option<&Started> {
        let (is_prefixed, path) = without_prefix(path);
        let found = self.places.at(path).ok()?;
        let address = self.addresses.get(*found.value)?;
        (address.is_prefixed || !is_prefixed).then_some(address)
    }
}

impl Service<ServiceRequest> for Routed {
    type Response = ServiceResponse<BoxBody>;
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let Some(address) = self.address(request.match_info().as_str()) else {
            return self.unknown.call(request);
        };
        request.add_data_container(Rc::clone(&address.facts));
        let mut calls = address.calls.iter();
        let Some(call) = calls.find(|call| call.method == *request.method()) else {
            return address.wrong_method.call(request);
        };
        if call.callers == Callers::Public {
            return call.service.call(request);
        }
        let (callers, service) = (call.callers, Rc::clone(&call.service));
        Box::pin(async move {
            match admit(&mut request, callers).await {
                Ok(()) => service.call(request).await,
                Err(refused) => Ok(request.error_response(refused)),
            }
        })
    }
}

/// Whether the prefix stands before a path, and the path without it.
fn without_prefix(path: &str) -> (bool, &str) {
    let rest = path.strip_prefix(PREFIX);
    match rest.filter(|rest| rest.starts_with('/')) {
        Some(rest) => (true, rest),
        None => (false, path),
    }
}

/// What stands in a request's path where its pattern has `{name}`.
pub(in crate::http) fn segment<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    let RoutePath { pattern, .. } = request.app_data()?;
    let (_, path) = without_prefix(request.match_info().as_str());
    let is_it = |part: &str| {
        part.strip_prefix('{')
            .and_then(|part| part.strip_suffix('}'))
            == Some(name)
    };
    let mut parts = pattern.split('/').zip(path.split('/'));
    parts.find(|(part, _)| is_it(part)).map(|(_, value)| value)
}

async fn wrong_method(allow: String) -> Result<&'static str, Error> {
    let mut refusal = Refusal::new(Code::MethodNotAllowed);
    refusal.allow = Some(allow);
    Err(refusal.into())
}

async fn unknown_route() -> Result<&'static str, Error> {
    Err(Code::NotFound.into())
}

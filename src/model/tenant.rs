//! A tenant, as far as rules and messages need one.

use super::names::{ClientId, TenantNo};

/// A tenant (an MSP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The database's number of the tenant.
    pub no: TenantNo,
    /// The API's name of the tenant.
    pub client_id: ClientId,
    /// The name that messages to end users show.
    pub name: String,
    /// The tenant's own limit of requests per minute, if it has one; 0 means no limit.
    pub rate_limit_per_minute: Option<i64>,
}

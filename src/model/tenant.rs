//! An MSP as rules and messages need it.

use super::names::{ClientId, TenantNo};

/// A tenant (an MSP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// As the file names it.
    pub no: TenantNo,
    /// As the wire names it.
    pub client_id: ClientId,
    /// For messages to its clients' staff.
    pub name: String,
}

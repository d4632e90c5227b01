//! A broken rule, as the API refuses it and as an import lists it.

use std::borrow::Cow;

use crate::error::{Error, Refusal, Result};
use crate::input::draft::CompanyDraft;
use crate::input::fields::Field;
use crate::model::directory::{DirectoryId, DirectoryRule};
use crate::model::names::M365TenantId;

/// A rule that a change would break. An API call is refused with the first violation. An import
/// lists all of them.
///
/// The two texts differ, since the operator who imports may know what another tenant has.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// The field that breaks the rule.
    pub field: Cow<'static, str>,
    /// The field's value.
    pub value: String,
    /// Why the rule is broken: a phrase that follows the field and its value.
    pub reason: String,
    /// The API's refusal.
    pub refusal: Refusal,
}

impl Violation {
    /// The violation of a change of a field that cannot change (`validation_error`).
    pub(super) fn fixed(field: &'static str, value: impl ToString) -> Self {
        const REASON: &str = "cannot change";
        Self {
            field: field.into(),
            value: value.to_string(),
            reason: REASON.to_owned(),
            refusal: Refusal::invalid(field, REASON),
        }
    }
}

/// The violation (`validation_error`) if no person may give this id to a directory. An id that is
/// already `stored` may stay.
pub fn unfit_directory(
    field: &'static str,
    named: &Field<DirectoryId>,
    stored: Option<&M365TenantId>,
    rule: DirectoryRule,
) -> Option<Violation> {
    match named {
        Field::Set(directory) => unfit_id(field, directory, stored.into_iter(), rule),
        Field::Null | Field::Absent => None,
    }
}

/// As [`unfit_directory`], for each of a company's directories.
pub fn unfit_links(
    draft: &CompanyDraft,
    stored: &[M365TenantId],
    rule: DirectoryRule,
) -> Vec<Violation> {
    let named = draft.named_directories();
    let unfit = named.filter_map(|(field, named)| unfit_id(field, named, stored.iter(), rule));
    unfit.collect()
}

/// As [`unfit_directory`], for an id that is there. An id among the `stored` ones may stay.
pub(super) fn unfit_id<'a>(
    field: impl Into<Cow<'static, str>>,
    directory: &DirectoryId,
    mut stored: impl Iterator<Item = &'a M365TenantId>,
    rule: DirectoryRule,
) -> Option<Violation> {
    if stored.any(|stored| stored == directory.id()) {
        return None;
    }
    let reason = directory.accepted(rule).err()?;
    let field = field.into();
    Some(Violation {
        value: directory.written().to_owned(),
        refusal: Refusal::invalid(field.as_ref(), reason.clone()),
        field,
        reason,
    })
}

/// The violations of a change of fields that cannot change. Each field comes with its value before
/// and after.
pub(super) fn changed_fixed_fields(fields: &[(&'static str, &str, &str)]) -> Vec<Violation> {
    let changed = fields.iter().filter(|(_, before, after)| before != after);
    changed
        .map(|(field, _, after)| Violation::fixed(field, after))
        .collect()
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        violation.refusal.into()
    }
}

/// Refuses the first of the violations.
pub fn refuse(violations: impl IntoIterator<Item = Violation>) -> Result<()> {
    match violations.into_iter().next() {
        None => Ok(()),
        Some(violation) => Err(violation.into()),
    }
}

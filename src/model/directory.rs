//! Ids of Microsoft directories as people write them, and ids that name no organization (contract,
//! section 1, Ids).

use super::names::M365TenantId;

/// What an id that names no organization stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOrganization {
    /// All private Microsoft accounts, whose owners may be anybody.
    PrivateAccounts,
    /// A directory of Microsoft's own services, in which nobody works.
    MicrosoftServices,
    /// A word or number that is written where an id is not known.
    Placeholder,
}

use NoOrganization::{MicrosoftServices, Placeholder, PrivateAccounts};

/// The ids that name no organization. Microsoft publishes no list of them: each is in the document
/// beside it. Microsoft's corporate directory, 72f988bf-86f1-41af-91ab-2d7cd011db47, is not here,
/// because an organization works in it.
const NO_ORGANIZATION: [(&str, NoOrganization); 9] = [
    // learn.microsoft.com/entra/identity-platform/id-token-claims-reference, `tid`
    ("9188040d-6c67-4c5b-b112-36a304b66dad", PrivateAccounts),
    // learn.microsoft.com/troubleshoot/entra/entra-id/governance/verify-first-party-apps-sign-in
    ("f8cdef31-a31e-4b4a-93e4-5f571e91255a", MicrosoftServices),
    // learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication:
    // the Bot Framework's own directory, and the directory of its cloud for the US government
    ("d6d49420-f39b-4df7-a1dc-d59a935871db", MicrosoftServices),
    ("cab8a31a-1906-4287-a0d8-4eef66b95f6e", MicrosoftServices),
    // RFC 9562, sections 5.9 and 5.10
    ("00000000-0000-0000-0000-000000000000", Placeholder),
    ("ffffffff-ffff-ffff-ffff-ffffffffffff", Placeholder),
    // learn.microsoft.com/entra/identity-platform/v2-protocols, `{tenant}` of an endpoint
    ("common", Placeholder),
    ("organizations", Placeholder),
    ("consumers", PrivateAccounts),
];

/// Where an administrator finds the id of an organization's directory.
const WHERE: &str = "find it in the Microsoft Entra admin center under Overview > Tenant ID";

impl M365TenantId {
    /// What the id stands for, if it names no organization.
    pub fn no_organization(&self) -> Option<NoOrganization> {
        let mut known = NO_ORGANIZATION.iter();
        known
            .find(|(id, _)| *id == self.as_str())
            .map(|(_, kind)| *kind)
    }

    /// Whether a person may give this id to a directory.
    pub fn is_fit(&self, rule: DirectoryRule) -> bool {
        self.no_organization().is_none() && (rule == DirectoryRule::AnyId || self.is_guid())
    }

    /// Whether the id is a GUID in lower case with dashes, as Microsoft writes the ids of
    /// directories.
    pub fn is_guid(&self) -> bool {
        guid(self.as_str()).is_some_and(|guid| guid == self.as_str())
    }
}

/// The ids that name no organization.
pub fn no_organizations() -> impl Iterator<Item = &'static str> {
    NO_ORGANIZATION.iter().map(|(id, _)| *id)
}

/// The ids that people may give to a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DirectoryRule {
    /// GUIDs, as all Microsoft directories have them.
    #[default]
    Guid,
    /// Names too, for tests.
    AnyId,
}

/// A Microsoft directory as a person names it. [`DirectoryId::accepted`] says whether it may be
/// written.
#[derive(Clone, Debug)]
pub struct DirectoryId {
    id: M365TenantId,
    written: String,
    shown: String,
}

impl PartialEq for DirectoryId {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for DirectoryId {}

impl DirectoryId {
    /// The form in the OpenAPI document: GUIDs of organizations. The server reads other spellings
    /// of a GUID too.
    pub const PATTERN: &'static str = "^(?!(0{8}-(0{4}-){3}0{12}|[Ff]{8}-([Ff]{4}-){3}[Ff]{12})$)[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$";

    /// Reads an id, and ignores white space before and after. A GUID may have any common spelling:
    /// upper case, no dashes, braces, parentheses, `urn:uuid:`. Other text is read only in the form
    /// in which older versions stored ids.
    ///
    /// # Errors
    /// The reason, as the rest of a sentence that begins with the field's name. `shown` is the text
    /// as a message may show it.
    pub fn parse(text: &str, shown: &str) -> Result<Self, String> {
        let text = text.trim();
        let id = match guid(text) {
            Some(guid) => M365TenantId::parse(&guid),
            None => M365TenantId::parse(text),
        };
        Ok(Self {
            id: id.ok_or_else(|| not_a_guid(shown))?,
            written: text.to_owned(),
            shown: shown.to_owned(),
        })
    }

    /// The id, if a person may give it to a directory.
    ///
    /// # Errors
    /// The reason, as the rest of a sentence that begins with the field's name.
    pub fn accepted(&self, rule: DirectoryRule) -> Result<&M365TenantId, String> {
        match self.id.no_organization() {
            Some(kind) => Err(stands_for(&self.shown, kind)),
            None if self.id.is_fit(rule) => Ok(&self.id),
            None => Err(not_a_guid(&self.shown)),
        }
    }

    /// The id, whether or not a person may give it to a directory: for what is stored already.
    pub fn id(&self) -> &M365TenantId {
        &self.id
    }

    /// The id as the person wrote it.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// The id, whether or not a person may give it to a directory: for what is stored already.
    pub fn into_id(self) -> M365TenantId {
        self.id
    }
}

/// The reason why a stored id, which [`M365TenantId::is_fit`] excludes, cannot be used. `shown` is
/// the text as a message may show it.
pub fn unusable(stored: &str, shown: &str) -> String {
    match M365TenantId::parse(stored).and_then(|id| id.no_organization()) {
        Some(kind) => stands_for(shown, kind),
        None => not_a_guid(shown),
    }
}

/// Whether this stored text is a GUID without dashes. The upgrade leaves such an id only beside the
/// same id with dashes.
pub fn lacks_dashes(stored: &str) -> bool {
    stored.len() == 32 && guid(stored).is_some()
}

fn stands_for(shown: &str, kind: NoOrganization) -> String {
    let meaning = match kind {
        PrivateAccounts => "all private Microsoft accounts, which cannot be served",
        MicrosoftServices => "a directory of Microsoft's own services",
        Placeholder => "no directory in particular",
    };
    format!(
        "must be the id of an organization's directory, but {shown} stands for {meaning}; {WHERE}"
    )
}

fn not_a_guid(shown: &str) -> String {
    format!("must be the GUID of a Microsoft directory, but {shown} is not one; {WHERE}")
}

/// Reads a GUID in any common spelling, and writes it in lower case with dashes.
pub fn guid(text: &str) -> Option<String> {
    const URN: &str = "urn:uuid:";
    let text = match text.get(..URN.len()) {
        Some(start) if start.eq_ignore_ascii_case(URN) => text.get(URN.len()..)?,
        Some(_) | None => text,
    };
    let inner = |open, close| text.strip_prefix(open)?.strip_suffix(close);
    let text = inner('{', '}').or_else(|| inner('(', ')')).unwrap_or(text);
    let dashes = [8, 13, 18, 23];
    let has_dashes = match text.len() {
        36 => true,
        32 => false,
        _ => return None,
    };
    let is_in_place = |(at, byte): (usize, u8)| match has_dashes && dashes.contains(&at) {
        true => byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    if !text.bytes().enumerate().all(is_in_place) {
        return None;
    }
    let mut guid = String::with_capacity(36);
    for digit in text.chars().filter(|digit| *digit != '-') {
        if dashes.contains(&guid.len()) {
            guid.push('-');
        }
        guid.push(digit.to_ascii_lowercase());
    }
    Some(guid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e";

    #[test]
    fn a_guid_in_any_common_spelling_is_one_directory() {
        let upper = GUID.to_uppercase();
        let plain = GUID.replace('-', "");
        for text in [
            GUID.to_owned(),
            format!(" \t{GUID}\u{a0}\n"),
            format!("{{{GUID}}}"),
            format!("({GUID})"),
            format!(" {{{}}} ", plain.to_uppercase()),
            format!("urn:uuid:{GUID}"),
            format!("URN:UUID:{upper}"),
            upper,
            plain,
        ] {
            let read = DirectoryId::parse(&text, &text).unwrap();
            let accepted = read.accepted(DirectoryRule::Guid).unwrap();
            assert_eq!(accepted.as_str(), GUID, "{text}");
        }
    }

    #[test]
    fn other_text_is_refused_with_the_text_and_where_to_find_the_id() {
        let refused = |text: &str, rule| {
            DirectoryId::parse(text, &format!("{text:?}"))
                .and_then(|read| read.accepted(rule).map(drop))
                .unwrap_err()
        };
        for text in [
            "contoso.onmicrosoft.com",
            "none",
            "n/a",
            "-",
            "",
            "{ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e)",
            "{ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5e",
            "ca5cade04ce5-4d0e-9b1d-0f0a51deca5e",
            "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5",
            "ca5cade0-4ce5-4d0e-9b1d-0f0a51deca5g",
            "ca5cade0-4ce5-4d0e-9b1d0-f0a51deca5e",
            "é5cade0-4ce5-4d0e-9b1d-0f0a51deca5e",
        ] {
            assert_eq!(
                refused(text, DirectoryRule::Guid),
                format!(
                    "must be the GUID of a Microsoft directory, but {text:?} is not one; {WHERE}"
                )
            );
        }
        for (id, _) in NO_ORGANIZATION {
            let spelled = format!(" {} ", id.to_uppercase());
            for rule in [DirectoryRule::Guid, DirectoryRule::AnyId] {
                let reason = refused(&spelled, rule);
                let start = "must be the id of an organization's directory, but ";
                assert!(reason.starts_with(&format!("{start}{spelled:?} stands for ")));
            }
        }
    }

    #[test]
    fn names_are_accepted_only_where_the_rule_says_so() {
        let read = DirectoryId::parse(" Contoso-Dir ", "").unwrap();
        assert!(read.accepted(DirectoryRule::Guid).is_err());
        let accepted = read.accepted(DirectoryRule::AnyId).unwrap();
        assert_eq!(accepted.as_str(), "contoso-dir");
    }
}

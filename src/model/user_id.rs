//! Ids of users as people write them: object ids of Microsoft Entra ID (contract, section 7).

use super::directory::{DirectoryRule, guid};

/// Where an administrator finds the id of a person.
const WHERE: &str =
    "find it in the Microsoft Entra admin center under Users > the person > Object ID";

/// A user as a person names it. [`UserId::accepted`] says whether the user may be added.
#[derive(Clone, Debug)]
pub struct UserId {
    id: String,
    is_guid: bool,
    shown: String,
}

impl UserId {
    /// Reads an id. `shown` is the text as a message may show it.
    pub fn read(text: &str, shown: &str) -> Self {
        let guid = guid(text.trim());
        Self {
            is_guid: guid.is_some(),
            id: guid.unwrap_or_else(|| text.to_owned()),
            shown: shown.to_owned(),
        }
    }

    /// The id, if a person may add a user with it: a GUID, unless the rule is for tests.
    ///
    /// # Errors
    /// The reason, as the rest of a sentence that begins with the field's name.
    pub fn accepted(self, rule: DirectoryRule) -> Result<String, String> {
        match self.is_guid || rule == DirectoryRule::AnyId {
            true => Ok(self.id),
            false => Err(format!(
                "must be the GUID of a user, but {} is not one; {WHERE}",
                self.shown
            )),
        }
    }
}

/// The id of a user with a GUID as Microsoft writes it: in lower case, with dashes. Other text stays.
pub fn normalized(text: String) -> String {
    guid(text.trim()).unwrap_or(text)
}

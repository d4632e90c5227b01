//! Decides who answers an activity: by the resolver's rules a to c, as for a relay's call.

use crate::digest::sha256;
use crate::error::{Code, Error, Refusal, Result};
use crate::model::author::{Author, Authorship, END_USER};
use crate::model::caller::Actor;
use crate::model::ids::{ChannelId, KeyId};
use crate::model::names::{BotId, ExternalId, M365TenantId, TenantNo};
use crate::model::session::{EndUser, ExternalCall, Metadata, Session};
use crate::model::words::{CallerKind, ManagedAgentKey, SessionChannel};
use crate::resolver::{
    self, Asker, Choice, Directory, NotMapped, Purpose, Refused, Request, Resolution,
};
use crate::store::cache::Cached;
use crate::store::sessions::NewSession;
use crate::store::sql::Reader;
use crate::store::tenants;

use super::activity::Activity;

/// The name of the account that owns the sessions of Teams.
const ACCOUNT_NAME: &str = "Microsoft Teams";
/// The id of that account, which no API key has.
const ACCOUNT: [u8; 16] = [
    0, 0, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0x7e, 0xa3, 0x5b, 0x07,
];
/// What a person reads whose chat is of two organizations.
const TWO_DIRECTORIES: &str = "This chat belongs to two organizations, so this bot cannot tell for which one it would answer. \
                               Please write to it in a chat of your own organization.";

/// The account of this server's own that owns the sessions of Teams.
fn account() -> Actor {
    Actor {
        kind: CallerKind::ServiceAccount,
        id: KeyId::from_bytes(ACCOUNT).to_string(),
        name: Some(ACCOUNT_NAME.to_owned()),
    }
}

/// Why nobody answers an activity.
#[derive(Clone, Debug)]
pub struct Unanswerable {
    /// What the person reads.
    pub refusal: Refusal,
    /// What an administrator has to link, if that is the reason.
    pub not_mapped: Option<NotMapped>,
    /// The acting tenant, if there is one.
    pub tenant: Option<TenantNo>,
    /// The channel that routed the activity.
    pub channel: Option<ChannelId>,
}

impl Unanswerable {
    /// A refusal without an acting tenant.
    fn of_nobody(refusal: Refusal) -> Self {
        Self {
            refusal,
            not_mapped: None,
            tenant: None,
            channel: None,
        }
    }

    /// The refusal of a message that would be routed like this.
    pub fn of(resolution: &Resolution, refusal: Refusal) -> Self {
        Self {
            refusal,
            not_mapped: None,
            tenant: Some(resolution.tenant.no),
            channel: resolution.channel.as_ref().map(|channel| channel.id),
        }
    }
}

/// Who answers an activity.
///
/// # Errors
/// The store's. A refusal is inside the result.
pub fn route(
    cached: &Cached<'_, Reader<'_>>,
    bot: &BotId,
    activity: &Activity,
) -> Result<Result<Resolution, Unanswerable>> {
    let directory = match activity.directory() {
        Ok(directory) => directory,
        Err([one, other]) => {
            log::info!(
                "teams: an activity for the bot {bot} is refused: its conversation is of the M365 tenant {one:?}, its channel data of {other:?}"
            );
            let refusal = Refusal::new(Code::Forbidden).saying(TWO_DIRECTORIES);
            return Ok(Err(Unanswerable::of_nobody(refusal)));
        }
    };
    let Some(inbound) = directory.and_then(M365TenantId::parse) else {
        log::info!("teams: an activity for the bot {bot} is refused: it names no M365 tenant");
        return Ok(Err(nobody()));
    };
    let own = tenants::of_directory(cached.reader(), &inbound)?;
    let installed = cached.installed_channel(bot, &inbound)?;
    let home = match (&own, &installed) {
        (Some(own), _) => own.clone(),
        (None, Some(channel)) => cached.tenant_by_no(channel.owner)?,
        (None, None) => {
            log::info!(
                "teams: a message to the bot {bot} is refused: no channel is installed for the M365 tenant {inbound}, and no tenant has it"
            );
            return Ok(Err(nobody()));
        }
    };
    let request = Request {
        choice: Choice::Managed(ManagedAgentKey::NeoSupport),
        client_id: own.map(|own| own.client_id.as_str().to_owned()),
        bot_id: Some(bot.clone()),
        inbound_tenant_id: Some(inbound),
        end_company_id: None,
    };
    let asker = Asker::Platform(home);
    let refused = match resolver::resolve(cached, &asker, &request, Purpose::Create)? {
        Ok(resolution) => return Ok(Ok(resolution)),
        Err(refused) => refused,
    };
    let acting = resolver::acting(cached, &asker, &request)?;
    let mut not_mapped = None;
    if let Refused::EndCompanyNotMapped(found) = &refused {
        not_mapped = Some(NotMapped::clone(found));
    }
    Ok(Err(Unanswerable {
        channel: match (&not_mapped, installed) {
            (Some(not_mapped), _) => Some(not_mapped.channel),
            (None, Some(channel)) => Some(channel.id),
            (None, None) => None,
        },
        refusal: refused.into(),
        not_mapped,
        tenant: acting.map(|tenant| tenant.no),
    }))
}

/// The refusal of an organization for which nobody has set the bot up.
fn nobody() -> Unanswerable {
    Unanswerable::of_nobody(Refusal::new(Code::EndCompanyNotMapped))
}

/// Whether a session goes on with this resolution. Otherwise the next message makes another one.
pub fn goes_on(session: &Session, resolution: &Resolution) -> bool {
    let channel = resolution.channel.as_ref().map(|channel| channel.id);
    let company = resolution.company.as_ref().map(|company| company.row);
    session.archived_at.is_none()
        && session.agent_id == resolution.agent.id
        && session.resolution.rule == resolution.rule
        && session.channel_id == channel
        && session.internals.tenant == resolution.tenant.no
        && session.internals.company == company
        && session.internals.pinned_by == resolution.pinned_by
}

/// The external id of a bot's conversation: two bots share the id of a group's conversation.
fn external_id(bot: &BotId, directory: &str, conversation: &str) -> Option<ExternalId> {
    let plain = format!("{bot}/{directory}/{conversation}");
    ExternalId::parse(&plain).or_else(|| {
        // An id that is too long, or has other characters than visible ones.
        let digest: String = sha256(conversation)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        ExternalId::parse(&format!("{bot}/{directory}/{digest}"))
    })
}

/// Who writes a message. In a group, the message names its author; in a private chat, the session
/// does.
pub fn authorship(activity: &Activity) -> Authorship {
    Authorship {
        author: Author {
            kind: END_USER.to_owned(),
            id: activity.from.person().to_owned(),
            name: activity.from.name.clone(),
        },
        is_given: activity.is_group(),
        sent_by: Some(account().id),
    }
}

/// The session of a bot's conversation.
///
/// # Errors
/// None that a caller can cause.
pub fn new_session(resolution: Resolution, bot: &BotId, activity: &Activity) -> Result<NewSession> {
    let directory = activity.directory().ok().flatten();
    let external = external_id(bot, directory.unwrap_or_default(), &activity.conversation);
    let call = ExternalCall {
        bot: Some(bot.clone()),
        directory: directory.and_then(M365TenantId::parse),
    };
    let end_user = (!activity.is_group()).then(|| EndUser {
        id: activity.from.person().to_owned(),
        name: activity.from.name.clone(),
        email: None,
    });
    let metadata = Metadata::from([
        (
            "teams_conversation_id".to_owned(),
            metadata_text(&activity.conversation),
        ),
        (
            "teams_conversation_type".to_owned(),
            activity.kind.as_str().to_owned(),
        ),
    ]);
    Ok(NewSession {
        external: external.map(|id| (id, call)),
        end_user,
        metadata_json: serde_json::to_string(&metadata)
            .map_err(|error| Error::Internal(error.into()))?,
        metadata,
        ..NewSession::of(resolution, SessionChannel::Teams, account())
    })
}

/// A value that fits into the metadata of a session.
fn metadata_text(text: &str) -> String {
    text.chars().take(512).collect()
}

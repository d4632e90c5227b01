//! Drafts: the fields that a request body or a seed file sets, read in the same way from both.

use std::borrow::Cow;

use crate::input::fields::{Field, Fields};
use crate::model::directory::DirectoryId;
use crate::model::names::{AgentId, BotId, CompanyId, M365TenantId};
use crate::model::user_id;
use crate::model::words::{
    Access, AgentState, Audience, AutonomyType, ChannelStatus, GroupReplies, Transport,
};

/// The maximum length of instructions, descriptions and welcome messages, in characters.
pub const LONG_TEXT: usize = 32_000;
/// The maximum length of an article's body, in characters and in bytes.
pub const ARTICLE_BYTES: usize = 64 * 1_024;
/// The maximum length of names and titles, in characters.
pub const NAME: usize = 200;
/// The maximum number of users in an agent's list.
const ALLOWED_USERS: usize = 10_000;
/// The maximum number of agents in an article's list.
const ARTICLE_AGENTS: usize = 1_000;
/// The maximum number of a company's directories.
pub const COMPANY_DIRECTORIES: usize = 100;
/// The largest whole number that all JSON parsers read exactly (RFC 8259, section 6).
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// The fields of an agent.
#[derive(Clone, Debug, Default)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 6"
)]
pub struct AgentDraft {
    pub name: Field<String>,
    pub description: Field<String>,
    pub autonomy_type: Field<AutonomyType>,
    pub audience: Field<Audience>,
    pub access: Field<Access>,
    pub allowed_users: Field<Vec<String>>,
    pub state: Field<AgentState>,
    pub settings: Field<SettingsDraft>,
}

/// The fields of an agent's settings.
#[derive(Clone, Debug, Default)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 6"
)]
pub struct SettingsDraft {
    pub custom_instructions: Field<String>,
    pub welcome_message: Field<String>,
    pub suggested_prompts: Field<Vec<String>>,
    pub show_reasoning: Field<bool>,
}

impl AgentDraft {
    /// Reads the fields of a JSON object.
    pub fn read(fields: &Fields<'_>) -> Self {
        let settings = match fields.object("agent_settings") {
            Field::Absent => Field::Absent,
            Field::Null => Field::Null,
            Field::Set(settings) => Field::Set(SettingsDraft {
                custom_instructions: settings.text("custom_instructions", 0..=LONG_TEXT),
                welcome_message: settings.text("welcome_message", 0..=LONG_TEXT),
                suggested_prompts: settings.texts("suggested_prompts", 20, 1..=500),
                show_reasoning: settings.boolean("show_reasoning"),
            }),
        };
        Self {
            name: fields.text("name", 1..=NAME),
            description: fields.text("description", 0..=LONG_TEXT),
            autonomy_type: fields.word(
                "autonomy_type",
                AutonomyType::parse,
                &AutonomyType::choices(),
            ),
            audience: fields.word("audience", Audience::parse, &Audience::choices()),
            access: fields.word("access", Access::parse, &Access::choices()),
            allowed_users: (fields.texts("allowed_users", ALLOWED_USERS, 1..=128))
                .map(|ids| ids.into_iter().map(user_id::normalized).collect()),
            state: fields.word("state", AgentState::parse, &AgentState::choices()),
            settings,
        }
    }
}

/// The fields of an end company.
#[derive(Clone, Debug, Default)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 6"
)]
pub struct CompanyDraft {
    pub psa_company_name: Field<String>,
    pub tenant_id: Field<DirectoryId>,
    pub tenant_ids: Field<Vec<DirectoryId>>,
    pub custom_instructions: Field<String>,
    pub custom_instructions_for_user_facing_chat: Field<String>,
}

impl CompanyDraft {
    /// Reads the fields of a JSON object.
    pub fn read(fields: &Fields<'_>) -> Self {
        let draft = Self {
            psa_company_name: fields.text("psa_company_name", 1..=NAME),
            tenant_id: fields.directory("tenant_id"),
            tenant_ids: fields.directories("tenant_ids", COMPANY_DIRECTORIES),
            custom_instructions: fields.text("custom_instructions", 0..=LONG_TEXT),
            custom_instructions_for_user_facing_chat: fields
                .text("custom_instructions_for_user_facing_chat", 0..=LONG_TEXT),
        };
        if draft.contradicts_itself() {
            fields.refuse(
                "tenant_id",
                "must be the first of tenant_ids, or null if there is none; send tenant_ids alone to set the whole list",
            );
        }
        draft
    }

    /// Whether both fields are given, and `tenant_id` is not the first of `tenant_ids`.
    fn contradicts_itself(&self) -> bool {
        let first = match &self.tenant_ids {
            Field::Absent => return false,
            Field::Null => None,
            Field::Set(list) => list.first(),
        };
        match &self.tenant_id {
            Field::Absent => false,
            Field::Null => first.is_some(),
            Field::Set(named) => first.map(DirectoryId::id) != Some(named.id()),
        }
    }

    /// The company's directories: `tenant_ids`, or the one that `tenant_id` alone names.
    pub fn directories(&self) -> Field<Vec<M365TenantId>> {
        let list = match &self.tenant_ids {
            Field::Absent => self.tenant_id.clone().map(|only| vec![only]),
            list @ (Field::Null | Field::Set(_)) => list.clone(),
        };
        list.map(|list| list.into_iter().map(DirectoryId::into_id).collect())
    }

    /// The directories that the draft names, each with its field.
    pub fn named_directories(&self) -> impl Iterator<Item = (Cow<'static, str>, &DirectoryId)> {
        let (only, list) = match (&self.tenant_ids, &self.tenant_id) {
            (Field::Set(list), _) => (None, list.as_slice()),
            (Field::Absent, Field::Set(only)) => (Some(only), [].as_slice()),
            (Field::Absent | Field::Null, _) => (None, [].as_slice()),
        };
        let only = only.map(|only| (Cow::from("tenant_id"), only));
        let list = list.iter().enumerate();
        let list = list.map(|(index, named)| (Cow::from(format!("tenant_ids[{index}]")), named));
        only.into_iter().chain(list)
    }
}

/// The fields of a channel.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 6"
)]
pub struct ChannelDraft {
    pub internal_name: Field<String>,
    pub audience: Field<Audience>,
    pub transport: Field<Transport>,
    pub status: Field<ChannelStatus>,
    pub bot_id: Field<BotId>,
    pub agent_id: Field<AgentId>,
    pub display_name: Field<String>,
    pub description: Field<String>,
    pub welcome_message: Field<String>,
    pub color_icon_url: Field<String>,
    pub outline_icon_url: Field<String>,
    pub relay_prefix: Field<String>,
    pub show_agent_progress_steps: Field<bool>,
    pub group_replies: Field<GroupReplies>,
}

impl ChannelDraft {
    /// Reads the fields of a JSON object.
    pub fn read(fields: &Fields<'_>) -> Self {
        Self {
            internal_name: fields.text("internal_name", 1..=NAME),
            audience: fields.word("audience", Audience::parse, &Audience::choices()),
            transport: fields.word("transport", Transport::parse, &Transport::choices()),
            status: fields.word("status", ChannelStatus::parse, &ChannelStatus::choices()),
            bot_id: fields.named("bot_id"),
            agent_id: match fields.integer("agent_id", i64::MIN..=i64::MAX) {
                Field::Set(agent) => Field::Set(AgentId(agent)),
                Field::Null => Field::Null,
                Field::Absent => Field::Absent,
            },
            display_name: fields.text("display_name", 0..=NAME),
            description: fields.text("description", 0..=LONG_TEXT),
            welcome_message: fields.text("welcome_message", 0..=LONG_TEXT),
            color_icon_url: fields.url("color_icon_url", &["https"]),
            outline_icon_url: fields.url("outline_icon_url", &["https"]),
            relay_prefix: fields.text("relay_prefix", 0..=NAME),
            show_agent_progress_steps: fields.boolean("show_agent_progress_steps"),
            group_replies: fields.word(
                "group_replies",
                GroupReplies::parse,
                &GroupReplies::choices(),
            ),
        }
    }
}

/// The fields of a knowledge article.
#[derive(Clone, Debug, Default)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 6"
)]
pub struct ArticleDraft {
    pub title: Field<String>,
    pub body: Field<String>,
    pub url: Field<String>,
    pub audience: Field<Audience>,
    pub end_company_id: Field<CompanyId>,
    pub agent_ids: Field<Vec<AgentId>>,
}

impl ArticleDraft {
    /// Reads the fields of a JSON object.
    pub fn read(fields: &Fields<'_>) -> Self {
        let body = fields.text("body", 1..=ARTICLE_BYTES);
        if let Field::Set(text) = &body
            && text.len() > ARTICLE_BYTES
        {
            fields.refuse("body", format!("must have at most {ARTICLE_BYTES} bytes"));
        }
        Self {
            title: fields.text("title", 1..=NAME),
            body,
            url: fields.url("url", &["https", "http"]),
            audience: fields.word("audience", Audience::parse, &Audience::choices()),
            end_company_id: fields.named("end_company_id"),
            agent_ids: match fields.integers("agent_ids", ARTICLE_AGENTS) {
                Field::Set(ids) => Field::Set(ids.into_iter().map(AgentId).collect()),
                Field::Null => Field::Null,
                Field::Absent => Field::Absent,
            },
        }
    }
}

/// The fields of a tenant.
#[derive(Clone, Debug, Default)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 7"
)]
pub struct TenantDraft {
    pub name: Field<String>,
    pub entra_tenant_id: Field<DirectoryId>,
    pub rate_limit_per_minute: Field<i64>,
    pub retention_days: Field<i64>,
    pub pages: PagesDraft,
}

/// The addresses of a tenant's pages, which it may set itself.
#[derive(Clone, Debug, Default)]
#[expect(
    missing_docs,
    reason = "the contract describes the fields in section 7"
)]
pub struct PagesDraft {
    pub website_url: Field<String>,
    pub privacy_url: Field<String>,
    pub terms_url: Field<String>,
}

impl PagesDraft {
    /// Reads the fields of a JSON object.
    pub fn read(fields: &Fields<'_>) -> Self {
        Self {
            website_url: fields.url("website_url", &["https"]),
            privacy_url: fields.url("privacy_url", &["https"]),
            terms_url: fields.url("terms_url", &["https"]),
        }
    }
}

impl TenantDraft {
    /// Reads the fields of a JSON object.
    pub fn read(fields: &Fields<'_>) -> Self {
        Self {
            name: fields.text("name", 1..=NAME),
            entra_tenant_id: fields.directory("entra_tenant_id"),
            rate_limit_per_minute: fields.integer("rate_limit_per_minute", 0..=1_000_000),
            retention_days: fields.integer("retention_days", 1..=36_500),
            pages: PagesDraft::read(fields),
        }
    }
}

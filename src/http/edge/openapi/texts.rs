//! The sentences of the OpenAPI document: its groups, operations and fields. The contract says
//! more about each of them.

/// The groups of operations in reading order: the name, what it is about, and the first segments of
/// its paths.
pub(super) const TAGS: &[(&str, &str, &[&str])] = &[
    (
        "chat",
        "Sessions, messages, turns, the stream of answers, and files.",
        &["chat"],
    ),
    (
        "tokens",
        "Tokens that let a client's user into one session.",
        &["sessions"],
    ),
    (
        "agents",
        "The agents that answer, and their settings.",
        &["agents"],
    ),
    (
        "articles",
        "The knowledge articles that answers quote.",
        &["knowledge-articles"],
    ),
    (
        "companies",
        "The MSP's client companies, their links to M365 tenants, and what is wrong with them.",
        &["end-companies"],
    ),
    (
        "channels",
        "Channels, which bind an agent to a bot, and the M365 tenants that they are installed for.",
        &["channels"],
    ),
    (
        "access",
        "Sign-in, users and API keys.",
        &["auth", "whoami", "users", "api-keys"],
    ),
    (
        "tenants",
        "The MSPs on this server.",
        &["tenant", "tenants"],
    ),
    (
        "reports",
        "Statistics, and the log of changes and refused attempts.",
        &["stats", "audit-events"],
    ),
    (
        "server",
        "The server's state and its documentation.",
        &["health", "ready", "openapi.json", "docs"],
    ),
];

/// What an operation does, by its `operationId`, beyond its summary.
pub(super) const OPERATIONS: &[(&str, &str)] = &[
    (
        "health",
        "Needs no credential and reads nothing, so that it answers whenever the process runs. Use it as the liveness probe.",
    ),
    (
        "ready",
        "Needs no credential. After a failed write, each call tries a write, and the reply is 503 until one succeeds. Use it as the readiness probe.",
    ),
    (
        "openapi",
        "The document describes every route of the API. The dashboard and the metrics are not in it. Generate a client from it.",
    ),
    (
        "docs",
        "The page needs no network. A credential that is entered there is sent to this server only.",
    ),
    (
        "docsFile",
        "The page at `/docs` and the guide load these files.",
    ),
    (
        "guide",
        "The first page of the guide, with links to all others.",
    ),
    ("guidePage", "A page of the guide, or a picture in one."),
    (
        "getSignInConfig",
        "A dashboard asks this before anybody signs in. `entra` is null if no `--entra-client-id` is given.",
    ),
    (
        "exchangeCode",
        "The command `switchboard login-link` prints the link. After 20 wrong codes from one address within a minute, further wrong codes get 429.",
    ),
    (
        "signOut",
        "The call ends the local sign-in whose token the request carries. Any other caller gets 403.",
    ),
    (
        "whoAmI",
        "Shows the kind of caller, its tenant and its role, for whichever credential the request carries.",
    ),
    (
        "getTenant",
        "The reply has the name, the directory that people sign in with, the retention, the addresses of the tenant's pages and the time of creation.",
    ),
    (
        "updateOwnTenant",
        "Absent fields stay as they are; null removes an address, and app packages then lead to a page of the server. A platform account manages the other fields.",
    ),
    (
        "listAgents",
        "Every caller but a session token sees all agents of the tenant, whatever their `access`. Filters narrow the list together.",
    ),
    (
        "createAgent",
        "The new agent answers nobody until a channel or a caller names it. Agents of other kinds come from a seed file.",
    ),
    (
        "getAgent",
        "An agent of another tenant is 404, as one that does not exist.",
    ),
    (
        "updateAgent",
        "Send `version` to refuse the update if somebody else changed the agent meanwhile. Audience and kind cannot change.",
    ),
    (
        "deleteAgent",
        "Delete the agent's channels or bind them to another agent first. An article that is for this agent alone also blocks the deletion. The managed agent cannot be deleted.",
    ),
    (
        "listArticles",
        "Filters narrow the list together. `q` searches titles.",
    ),
    (
        "createArticle",
        "An article belongs to an audience and, optionally, to one company, to some agents, or to both. Answers can quote it at once.",
    ),
    (
        "getArticle",
        "An article of another tenant is 404, as one that does not exist.",
    ),
    (
        "updateArticle",
        "Absent fields stay as they are; `null` restores a default, except that `title` and `body` cannot be null. Answers that were given before keep their sources.",
    ),
    (
        "deleteArticle",
        "The article is quoted in no further answer. Answers that were given before keep their sources.",
    ),
    (
        "listApiKeys",
        "The server does not store the keys themselves, so the list shows only their last four characters.",
    ),
    (
        "createApiKey",
        "Store the key at once: the server keeps its digest alone. An `Idempotency-Key` is ignored here, because the reply holds a secret.",
    ),
    (
        "rotateApiKey",
        "Give the new key to the program within 24 hours. The reply holds the new key, which is shown once.",
    ),
    (
        "revokeApiKey",
        "Programs that use the key get 401 from then on, and so do the holders of tokens that the key minted.",
    ),
    (
        "listUsers",
        "The list holds the people whom an ADMIN or a seed file added, and the members whom the server recorded at their first request.",
    ),
    (
        "createUser",
        "A guest of the directory is let in if the guest is added or the guest's token has a role. Members are recorded as USER at their first request, unless `--entra-first-sight` is `none`.",
    ),
    (
        "updateUser",
        "The role counts from the user's next request, unless the user's token has a role. The last ADMIN cannot be demoted.",
    ),
    (
        "deleteUser",
        "A removed member of the directory is recorded as USER at the next request, unless `--entra-first-sight` is `none`. The last ADMIN cannot be removed.",
    ),
    (
        "listTenants",
        "The call is for platform accounts. `bot_id` finds the tenants that carry a bot, `entra_tenant_id` the MSP of a technician's directory.",
    ),
    (
        "createTenant",
        "The tenant gets its managed agent `NEO_SUPPORT`. `switchboard login-link --tenant CLIENT_ID` prints a link to sign in as its first administrator.",
    ),
    (
        "getAnyTenant",
        "The call is for platform accounts. Other callers, except session tokens, read their own tenant at `/tenant`.",
    ),
    (
        "updateTenant",
        "Absent fields stay as they are; `null` restores a default.",
    ),
    (
        "getStats",
        "Days are in UTC. `median_first_word_ms` is the median over the turns of the total, the day or the agent.",
    ),
    (
        "getActiveUsers",
        "A person is an author of users' messages, by kind and id. `company_name` is null if the company no longer exists.",
    ),
    (
        "listAuditEvents",
        "The list is append-only. `request.refused` events show attempts refused with a 403, `install_conflict`, `company_already_bound` or `last_admin`, and refused dry runs, up to a quota per minute.",
    ),
    (
        "listEndCompanies",
        "Filters narrow the list together. `q` finds names and ids.",
    ),
    (
        "createEndCompany",
        "Messages from a linked M365 tenant to an `END_USER` channel are answered for this company, if no other company is linked to the same M365 tenant.",
    ),
    (
        "getEndCompanyHealth",
        "The reply shows installed M365 tenants without a company, M365 tenants that several companies carry, duplicate names, channels whose agent cannot answer, unusable ids, and M365 tenants that another tenant serves.",
    ),
    (
        "listUnlinkedTenants",
        "Staff of such an M365 tenant can chat as soon as exactly one company is linked to it. `linked_companies` shows how many are linked now.",
    ),
    (
        "deleteUnlinkedTenant",
        "Use it for an M365 tenant that belongs to nobody. The next refused message records it again.",
    ),
    (
        "getEndCompany",
        "A company of another tenant is 404, as one that does not exist. Percent-encode the id in the path.",
    ),
    (
        "updateEndCompany",
        "Absent fields stay as they are. Sessions that were pinned through a link that the update removes refuse further turns.",
    ),
    (
        "deleteEndCompany",
        "A company that is created again with the same id sees nothing of the deleted one.",
    ),
    ("listChannels", "Filters narrow the list together."),
    (
        "createChannel",
        "Install a channel of the audience END_USER for the clients' M365 tenants afterwards.",
    ),
    (
        "installEvent",
        "A relay calls this when somebody installs a bot, to know whether and how to greet.",
    ),
    (
        "getChannel",
        "A channel of another tenant is 404, except for a platform account that names the tenant.",
    ),
    (
        "getChannelTeams",
        "A channel whose bot a relay connects has no traffic here. A deleted channel is 404.",
    ),
    (
        "updateChannel",
        "A new `bot_id` checks every install of the channel again. Audience and transport cannot change.",
    ),
    (
        "deleteChannel",
        "The channel's sessions remain and refuse new turns.",
    ),
    (
        "getAppPackage",
        "A ZIP file with `manifest.json` of version 1.19 and two icons, which an administrator of Teams uploads. Its version grows with each change of what is in it.",
    ),
    (
        "getIcon",
        "The reply is a PNG. A drawn icon shows the initials of the bot's name.",
    ),
    (
        "putIcon",
        "The color icon has 192 x 192 pixels. The outline icon has 32 x 32 pixels, white on a transparent ground. A later upload replaces the icon.",
    ),
    (
        "deleteIcon",
        "The reply is the same if no icon was uploaded.",
    ),
    (
        "listInstalls",
        "A deleted channel's installs are listed too, because they still hold their bot and M365 tenant.",
    ),
    (
        "createInstall",
        "Name the company to link it in the same step. For each M365 tenant, a bot has at most one install on the server, and an MSP has at most one install, whichever bot.",
    ),
    (
        "deleteInstall",
        "New sessions from the M365 tenant are routed by the other rules. Sessions that the install routed refuse new turns.",
    ),
    (
        "createSession",
        "The reply names the agent, the acting tenant, the company and the rule that decided. A retry with the same `Idempotency-Key` and body within 24 hours gets the first reply again, while the session exists and is not archived. With `external_id` and `if_exists: return`, the reply is 200 with the open session of that id, if there is one.",
    ),
    (
        "listSessions",
        "An ADMIN or a service account sees all sessions of the tenant; a USER or VIEWER sees their own and the shared ones. With `client_id`, a platform account sees the sessions that its tenant's platform accounts created in that tenant.",
    ),
    (
        "resolveSession",
        "The call makes the decision of `createSession` and creates no session; a refusal is an audit event. An ADMIN or a service account may send `bot_id` and `inbound_tenant_id` to see what the relay would get.",
    ),
    (
        "getSession",
        "A session that the caller may not read is 404, as one that does not exist.",
    ),
    (
        "updateSession",
        "Changes the title, the metadata, and whether the session is archived or shared.",
    ),
    (
        "deleteSession",
        "The content leaves the database in small steps, and cannot be restored.",
    ),
    (
        "resetSession",
        "New messages need a new session, or `archived` set to false. The messages of the archived session stay readable.",
    ),
    (
        "appendMessage",
        "The reply comes before the answer. Read the answer from the stream at `since_cursor`, or wait for the turn.",
    ),
    (
        "listMessages",
        "Pages go from the oldest message to the newest, or the other way with `order=desc`.",
    ),
    (
        "editMessage",
        "`chat_turn_id` of the reply is the turn that answers the new text. A turn that may have read the old text is cancelled.",
    ),
    (
        "regenerateAnswer",
        "`message_id` is the question or an answer to it. The new answer takes the place of the earlier one, which is kept as a version.",
    ),
    (
        "getTurn",
        "`assistant_message` holds the answer, or the part of it that is stored. `error` says why a turn failed.",
    ),
    (
        "giveFeedback",
        "Only answers are rated. A later call replaces the rating and the comment; an absent field or `null` clears it.",
    ),
    (
        "cancelTurns",
        "Text that was streamed before stays in the conversation.",
    ),
    (
        "streamEvents",
        "Reconnect with `Last-Event-Id` to continue where the connection broke. Proxies must not buffer the stream.",
    ),
    (
        "createUploadUrl",
        "The link lives 15 minutes and takes one file. Name its `blob_path` in the message that the file belongs to.",
    ),
    (
        "putAttachment",
        "The content must be of the announced media type.",
    ),
    (
        "getAttachment",
        "The links are in the `attachments` of messages and live 15 minutes.",
    ),
    (
        "mintSessionToken",
        "Give the token to a client's user: it allows reading and chatting in this session, and `/whoami`. The reply holds the token, which is shown once.",
    ),
    (
        "revokeSessionToken",
        "Streams that the token opened end, and further requests get 401.",
    ),
];

/// What a field or a parameter means, by `owner.field` or by the field's name alone. The owner is
/// an `operationId` or the name of a schema.
pub(super) const FIELDS: &[(&str, &str)] = &[
    // Parameters of lists.
    ("page_size", "How many items a page has at most."),
    (
        "cursor",
        "The `next_cursor` of the page before. Absent: the first page.",
    ),
    ("q", "Text to search for."),
    ("order", "Oldest first (`asc`) or newest first (`desc`)."),
    (
        "action",
        "Only events of this action, such as `company.update`.",
    ),
    ("actor", "Only events of the account with this id."),
    ("archived", "Whether the session is archived."),
    (
        "listSessions.archived",
        "`false` (the default): sessions that are not archived; `true`: archived ones; `all`: both.",
    ),
    ("listSessions.agent_id", "Only sessions of this agent."),
    (
        "listSessions.channel_id",
        "Only sessions that came through this channel.",
    ),
    (
        "listSessions.end_company_id",
        "Only sessions that show this company id, including those of a removed company.",
    ),
    (
        "listSessions.external_id",
        "Only sessions with this `external_id`, of whichever account.",
    ),
    (
        "metadata.<key>",
        "Only sessions whose metadata has this value under the key that stands in place of `<key>`, as in `metadata.ticket=4711`. Several keys narrow the list together.",
    ),
    (
        "listSessions.end_user_id",
        "Only sessions in which the person with this id talks.",
    ),
    (
        "listSessions.client_id",
        "For a platform account: only sessions that its tenant's platform accounts created in this tenant.",
    ),
    (
        "listArticles.agent_id",
        "Only articles that this agent uses.",
    ),
    (
        "listArticles.end_company_id",
        "Only articles for this company.",
    ),
    ("listChannels.agent_id", "Only channels of this agent."),
    ("listChannels.bot_id", "Only channels of this bot."),
    (
        "listChannels.client_id",
        "For a platform account: the tenant whose channels are listed.",
    ),
    (
        "getChannel.client_id",
        "For a platform account: the tenant of the channel.",
    ),
    (
        "getAppPackage.client_id",
        "For a platform account: the tenant of the channel.",
    ),
    (
        "getIcon.client_id",
        "For a platform account: the tenant of the channel.",
    ),
    (
        "updateChannel.client_id",
        "For a platform account: the tenant of the channel.",
    ),
    ("listTenants.bot_id", "Only tenants that carry this bot."),
    (
        "listTenants.entra_tenant_id",
        "Only the tenant whose people sign in with this directory.",
    ),
    (
        "listUnlinkedTenants.client_id",
        "For a platform account: the tenant that refused the M365 tenants.",
    ),
    ("listAgents.state", "Only agents in this state."),
    ("listAgents.audience", "Only agents of this audience."),
    ("listAgents.autonomy_type", "Only agents of this kind."),
    ("listArticles.audience", "Only articles for this audience."),
    ("listChannels.audience", "Only channels of this audience."),
    ("listChannels.status", "Only channels with this status."),
    ("listUsers.role", "Only users with this role."),
    (
        "listEndCompanies.tenant_id",
        "Only companies that are linked to this M365 tenant.",
    ),
    (
        "from",
        "The start, inclusive, as a date-time. Absent: a week before `to`.",
    ),
    (
        "month",
        "The month in UTC, as `2026-01`. Absent: the current month.",
    ),
    ("to", "The end, exclusive, as a date-time. Absent: now."),
    ("since", "Start strictly after this cursor."),
    (
        "follow",
        "`true`: the stream stays open over all coming turns.",
    ),
    (
        "resume",
        "`true`: the reply is 204 if no turn waits or runs, unless `follow` is true.",
    ),
    (
        "wait_seconds",
        "How many seconds the reply may wait for the end of the turn.",
    ),
    (
        "expires",
        "When the link expires, in Unix seconds. Part of the signed link.",
    ),
    ("signature", "The signature of the link."),
    // Parameters of paths.
    ("agent_id", "The agent's number."),
    ("article_id", "The article's id."),
    ("attachment_id", "The file's id."),
    ("channel_id", "The channel's id."),
    ("chat_turn_id", "The turn's id."),
    ("client_id", "The tenant's id."),
    (
        "createSession.client_id",
        "For a platform account: the acting tenant. An `END_USER` install overrides it.",
    ),
    (
        "resolveSession.client_id",
        "For a platform account: the acting tenant. An `END_USER` install overrides it.",
    ),
    (
        "mintSessionToken.client_id",
        "For a platform account: the tenant of the session.",
    ),
    (
        "createTenant.client_id",
        "The new tenant: 1 to 63 characters of a-z, 0-9 and -. It cannot change.",
    ),
    ("file", "The name of the file."),
    ("page", "The name of the page or of the picture."),
    (
        "inbound_tenant_id",
        "The M365 tenant that the message comes from.",
    ),
    (
        "deleteUnlinkedTenant.inbound_tenant_id",
        "The M365 tenant that was refused.",
    ),
    ("install_id", "The install's id."),
    ("jti", "The token's id, from the reply that minted it."),
    ("key_id", "The key's id, which is not the key."),
    ("message_id", "The message's id."),
    (
        "psa_company_id",
        "The company's id in the MSP's PSA. Percent-encode it in a path.",
    ),
    (
        "updateEndCompany.psa_company_id",
        "The id in the path. Another id is 400.",
    ),
    ("session_id", "The session's id."),
    ("user_id", "The user's object id in Entra ID."),
    // Agents.
    ("name", "The name that people see."),
    (
        "audience",
        "The trust domain: `MSP` for technicians, `END_USER` for clients' staff.",
    ),
    (
        "updateAgent.autonomy_type",
        "The kind of agent. It cannot change.",
    ),
    (
        "createAgent.autonomy_type",
        "The kind of agent. Must be `CONVERSATIONAL`.",
    ),
    ("state", "Whether the agent answers."),
    ("access", "Which dashboard users may use the agent."),
    ("allowed_users", "The users' ids, for `SPECIFIC_USERS`."),
    (
        "managed_agent_key",
        "`NEO_SUPPORT`: the tenant's managed agent.",
    ),
    (
        "resolveSession.managed_agent_key",
        "`NEO_SUPPORT`: the tenant's managed agent. From a platform account it does not override the route.",
    ),
    (
        "createSession.managed_agent_key",
        "`NEO_SUPPORT`: the tenant's managed agent. From a platform account it does not override the route.",
    ),
    (
        "createAgent.managed_agent_key",
        "Reserved for the managed agent: must be null.",
    ),
    (
        "agent_settings",
        "What the agent says and is told. An update replaces the object whole.",
    ),
    (
        "show_reasoning",
        "Whether session tokens and readers of white-label sessions also see the model's reasoning.",
    ),
    ("suggested_prompts", "Questions that a client can offer."),
    ("welcome_message", "The agent's greeting. Null: none."),
    (
        "Greeting.welcome_message",
        "The channel's welcome message. Null if there is none or `matched` is false.",
    ),
    (
        "updateChannel.welcome_message",
        "What the bot says when it is installed. Null: nothing.",
    ),
    (
        "createChannel.welcome_message",
        "What the bot says when it is installed. Null: nothing.",
    ),
    ("custom_instructions", "Instructions for the model."),
    (
        "updateEndCompany.custom_instructions",
        "Instructions about the company. The model does not get them in chats of the company's staff.",
    ),
    (
        "createEndCompany.custom_instructions",
        "Instructions about the company. The model does not get them in chats of the company's staff.",
    ),
    (
        "custom_instructions_for_user_facing_chat",
        "Instructions for the model when this company's staff talk.",
    ),
    (
        "version",
        "The version that the update is based on. 409 if it is no longer the current one.",
    ),
    ("description", "What the bot is for."),
    ("updateAgent.description", "What the agent is for."),
    ("createAgent.description", "What the agent is for."),
    // Articles.
    ("title", "The title."),
    ("body", "The text, in Markdown or HTML."),
    ("url", "Where the original is, for readers of an answer."),
    ("agent_ids", "The agents that use the article. Empty: all."),
    (
        "updateArticle.end_company_id",
        "The company that the article is for. Null: the article is shared.",
    ),
    (
        "createArticle.end_company_id",
        "The company that the article is for. Null: the article is shared.",
    ),
    (
        "mintSessionToken.end_company_id",
        "The person's company, for the record. The token's claim is the session's company.",
    ),
    (
        "resolveSession.end_company_id",
        "For an ADMIN or a service account: the company to try an `END_USER` agent as.",
    ),
    (
        "createSession.end_company_id",
        "For an ADMIN or a service account: the company to try an `END_USER` agent as.",
    ),
    // Companies and channels.
    ("psa_company_name", "The company's name."),
    (
        "createInstall.psa_company_id",
        "The company to link to the M365 tenant in the same step.",
    ),
    (
        "tenant_id",
        "The only M365 tenant of the company, or the first of `tenant_ids` if both are sent. Null: none.",
    ),
    (
        "end_client_tenant_id",
        "The M365 tenant that the bot serves.",
    ),
    (
        "installEvent.end_client_tenant_id",
        "The M365 tenant in which the bot was installed.",
    ),
    (
        "tenant_ids",
        "The M365 tenants that the company is linked to. The list replaces the stored one.",
    ),
    (
        "createEndCompany.tenant_ids",
        "The M365 tenants that the company is linked to.",
    ),
    (
        "add_directory",
        "`true`: adds the M365 tenant to a company that is linked to others, instead of a 409. It needs `psa_company_id`; a company has at most 100 M365 tenants.",
    ),
    ("bot_id", "The bot, by its Microsoft app id."),
    ("internal_name", "The name for administrators."),
    ("display_name", "The bot's name for its users. Null: none."),
    (
        "Greeting.display_name",
        "The channel's display name. Null if there is none or `matched` is false.",
    ),
    (
        "group_replies",
        "Which messages of a group the bot answers: those that mention it, or all.",
    ),
    (
        "color_icon_uploaded",
        "Whether the color icon of the app package was uploaded. `false`: the server draws it.",
    ),
    (
        "outline_icon_uploaded",
        "Whether the outline icon of the app package was uploaded. `false`: the server draws it.",
    ),
    (
        "kind",
        "The icon: in color, or white on a transparent ground.",
    ),
    (
        "website_url",
        "The address of the MSP's website. Null: app packages lead to a page of the server.",
    ),
    (
        "privacy_url",
        "The address of the MSP's privacy statement. Null: app packages lead to a page of the server.",
    ),
    (
        "terms_url",
        "The address of the MSP's terms of use. Null: app packages lead to a page of the server.",
    ),
    ("color_icon_url", "The bot's icon in color."),
    ("outline_icon_url", "The bot's icon in outline."),
    (
        "relay_prefix",
        "What the relay puts in front of its messages.",
    ),
    (
        "Greeting.relay_prefix",
        "The channel's prefix of messages. Null if there is none or `matched` is false.",
    ),
    (
        "show_agent_progress_steps",
        "Whether clients show the agent's steps.",
    ),
    (
        "updateChannel.show_agent_progress_steps",
        "Whether clients show the agent's steps. `false`: nobody sees the model's reasoning in the channel's sessions.",
    ),
    (
        "createChannel.show_agent_progress_steps",
        "Whether clients show the agent's steps. `false`: nobody sees the model's reasoning in the channel's sessions.",
    ),
    ("status", "Whether the channel routes messages."),
    (
        "transport",
        "`TEAMS`. Reserved words (`SLACK`, `PORTAL`, `EMAIL`) are 400.",
    ),
    (
        "Greeting.matched",
        "Whether the bot is installed for the M365 tenant on an `ACTIVE` channel that is not deleted.",
    ),
    // Access.
    (
        "platform",
        "Must not be true: platform keys are created at the command line or by a seed file.",
    ),
    ("expires_at", "When the key expires. Null: never."),
    ("exchangeCode.code", "The code from the sign-in link."),
    ("createUser.id", "The user's object id in Entra ID."),
    ("email", "The user's address."),
    ("role", "What the user may do."),
    (
        "entra_tenant_id",
        "The directory that the tenant's people sign in with.",
    ),
    (
        "retention_days",
        "For how many days idle sessions are kept. Null: for ever.",
    ),
    (
        "rate_limit_per_minute",
        "The tenant's own rate limit. 0: none. Null: the server's.",
    ),
    // Chat.
    (
        "external_id",
        "The caller's own id of the conversation, 1 to 255 visible characters. An account has one session of an id, in each tenant that it acts in, that is neither archived nor deleted.",
    ),
    (
        "if_exists",
        "`return`: if the account has an open session with this `external_id`, the reply is 200 with that session. Otherwise such a session is 409.",
    ),
    ("metadata", "Text values by name, for the caller's own use."),
    (
        "shared",
        "Whether the tenant's other users may read the session.",
    ),
    ("content_type", "The file's media type."),
    ("filename", "The file's name."),
    ("attachments", "Uploaded files that belong to the message."),
    ("alt", "What the file shows, in words."),
    (
        "blob_path",
        "The file, as the reply that gave its link names it.",
    ),
    ("mime", "The file's media type."),
    ("bytes", "The file's size in bytes."),
    (
        "Attachment.url",
        "A signed link to the file, which lives 15 minutes.",
    ),
    ("message", "The text of the message."),
    (
        "author",
        "Who wrote the message. Only a service account names another author than itself.",
    ),
    (
        "appendMessage.kind",
        "The kind of person, in a word of the client; `end_user` if absent.",
    ),
    (
        "appendMessage.id",
        "The person's id among those of the kind.",
    ),
    ("appendMessage.name", "The person's name."),
    (
        "client_message_id",
        "The caller's id of the message, so that a retry is no second message.",
    ),
    (
        "model_tier",
        "`FAST` (the default) or `SMART`: which tier's model answers.",
    ),
    ("rating", "`UP`, `DOWN`, or null to clear the rating."),
    ("comment", "What the rating is about, in words."),
    (
        "allowed_agent_ids",
        "Refuses the token unless the session's agent is among these.",
    ),
    (
        "end_user",
        "The person who talks in the session. A signed-in user's session is that user's own. Null: several people, such as a group, or nobody in particular.",
    ),
    (
        "mintSessionToken.end_user",
        "Whom the token is for: `{id, name, email}`, or a string that is both id and name. A session without an `end_user` gets it.",
    ),
    (
        "createSession.id",
        "The person's id, as the caller names people.",
    ),
    (
        "resolveSession.id",
        "The person's id, as the caller names people.",
    ),
    (
        "mintSessionToken.id",
        "The person's id, as the caller names people.",
    ),
    (
        "createSession.name",
        "The person's name, which searches find.",
    ),
    (
        "resolveSession.name",
        "The person's name, which searches find.",
    ),
    (
        "mintSessionToken.name",
        "The person's name, which searches find.",
    ),
    ("createSession.email", "The person's address."),
    ("resolveSession.email", "The person's address."),
    ("mintSessionToken.email", "The person's address."),
    ("end_user_email", "That person's address."),
    ("ttl_seconds", "For how many seconds the token is valid."),
    // Envelopes.
    ("Error.error", "What is wrong."),
    ("Error.meta", "The id of the request."),
    ("Error.code", "The code, on which a client branches."),
    ("details", "What else a program can use, by code."),
    ("data", "The result."),
    ("meta", "What the server says about the request."),
    (
        "request_id",
        "The id of the request, which is in the log too.",
    ),
    ("timings_ms", "How long the server took."),
    ("total", "Milliseconds in all."),
    (
        "warnings",
        "Sentences about what was ignored or is incomplete.",
    ),
    ("pagination", "How to read on."),
    ("has_more", "Whether there is another page."),
    (
        "next_cursor",
        "The cursor of the next page. Null: there is none.",
    ),
    (
        "Parts.type",
        "`text`, `reasoning`, `file` or a kind of source.",
    ),
];

/// The text for a key of [`OPERATIONS`].
pub(super) fn operation(id: &str) -> &'static str {
    find(OPERATIONS, id).unwrap_or_default()
}

/// The description of an owner's field.
pub(super) fn field(owner: &str, name: &str) -> Option<&'static str> {
    find(FIELDS, &format!("{owner}.{name}")).or_else(|| find(FIELDS, name))
}

fn find(table: &'static [(&'static str, &'static str)], key: &str) -> Option<&'static str> {
    let (_, text) = table.iter().find(|(known, _)| *known == key)?;
    Some(text)
}

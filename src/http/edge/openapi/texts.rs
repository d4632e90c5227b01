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
        "The document describes every route of this server. Generate a client from it.",
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
        "A dashboard asks this before anybody has signed in: whether Entra ID is configured, and with which client.",
    ),
    (
        "exchangeCode",
        "The command `switchboard login-link` prints the link. Wrong codes make further wrong codes from the same address wait.",
    ),
    (
        "signOut",
        "Ends the sign-in whose token the request carries. A token of Entra ID is not affected.",
    ),
    (
        "whoAmI",
        "Shows the kind of caller, its tenant and its role, for whichever credential the request carries.",
    ),
    (
        "getTenant",
        "Shows the name, the directory that people sign in with, the retention and the rate limit.",
    ),
    (
        "listAgents",
        "Every member of the tenant sees the agents that the member may use. Filters narrow the list together.",
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
        "Disconnect or delete the agent's channels first. The managed agent cannot be deleted.",
    ),
    (
        "listArticles",
        "Filters narrow the list together. `q` finds words in titles and bodies.",
    ),
    (
        "createArticle",
        "An article belongs to an audience and, optionally, to one company or to some agents. Answers quote it at once.",
    ),
    (
        "getArticle",
        "An article of another tenant is 404, as one that does not exist.",
    ),
    (
        "updateArticle",
        "Absent fields stay as they are; `null` restores a default. Answers that were given before keep their sources.",
    ),
    (
        "deleteArticle",
        "The article is quoted in no further answer. Answers that were given before keep their sources.",
    ),
    (
        "listApiKeys",
        "The keys themselves are not stored, so the list shows their first characters only.",
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
        "Lists people who were added or have signed in, with their roles.",
    ),
    (
        "createUser",
        "Guests of the tenant's directory can sign in only after they were added. Members become users by themselves unless the server says otherwise.",
    ),
    (
        "updateUser",
        "The role counts from the user's next request. The last ADMIN keeps that role.",
    ),
    (
        "deleteUser",
        "A member of the directory who signs in again becomes a USER again. The last ADMIN cannot be removed.",
    ),
    (
        "listTenants",
        "For platform accounts. `bot_id` finds the tenant that carries a bot.",
    ),
    (
        "createTenant",
        "The tenant gets its managed agent `NEO_SUPPORT`. Create its first administrator with `switchboard login-link`.",
    ),
    (
        "getAnyTenant",
        "For platform accounts. Other callers read their own tenant at `/tenant`.",
    ),
    (
        "updateTenant",
        "Absent fields stay as they are; `null` restores a default.",
    ),
    (
        "getStats",
        "Days are in UTC. The first word's time is the median over the turns of the day.",
    ),
    (
        "listAuditEvents",
        "The list only grows. `request.refused` events show attempts that were forbidden or in conflict.",
    ),
    (
        "listEndCompanies",
        "Filters narrow the list together. `q` finds names and ids.",
    ),
    (
        "createEndCompany",
        "Messages from the linked M365 tenant are answered for this company, if no other company is linked to the same M365 tenant.",
    ),
    (
        "getEndCompanyHealth",
        "Shows what would be refused today: installed M365 tenants without a company, shared links, channels without an agent.",
    ),
    (
        "listUnlinkedTenants",
        "Link each of them to the company it belongs to, and its staff can chat.",
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
        "Absent fields stay as they are. Sessions that the old link pinned refuse further turns.",
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
        "updateChannel",
        "A new `bot_id` checks every install of the channel again. Audience and transport cannot change.",
    ),
    (
        "deleteChannel",
        "The channel's sessions remain and refuse new turns.",
    ),
    (
        "listInstalls",
        "A deleted channel's installs are listed too, because they still hold their bot and M365 tenant.",
    ),
    (
        "createInstall",
        "Name the company to link it in the same step. A bot serves one M365 tenant through one channel on the whole server.",
    ),
    (
        "deleteInstall",
        "Messages of the M365 tenant are routed by the other rules from then on.",
    ),
    (
        "createSession",
        "The reply names the agent, the acting tenant, the company and the rule that decided. A retry with the same `Idempotency-Key` gets the first reply again.",
    ),
    (
        "listSessions",
        "A member sees the tenant's shared sessions and the member's own; a platform account sees those that it created.",
    ),
    (
        "resolveSession",
        "Makes the decision of `createSession` and stores nothing. Use it to test a configuration.",
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
        "The next message needs a new session. The messages of the archived one stay readable.",
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
        "getTurn",
        "A turn that has ended shows the answer or the reason of its failure.",
    ),
    (
        "giveFeedback",
        "Only answers are rated. A later call replaces the rating and the comment; `null` clears them.",
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
        "Give the token to a client's user: it opens this session and nothing else. The reply holds the token, which is shown once.",
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
    (
        "archived",
        "`true`: archived sessions; `false`: the others. In a body: whether the session is archived.",
    ),
    ("listSessions.agent_id", "Only sessions of this agent."),
    (
        "listSessions.channel_id",
        "Only sessions that came through this channel.",
    ),
    (
        "listSessions.end_company_id",
        "Only sessions of this company.",
    ),
    (
        "listSessions.client_id",
        "For a platform account: only sessions that act for this tenant.",
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
        "updateChannel.client_id",
        "For a platform account: the tenant of the channel.",
    ),
    ("listTenants.bot_id", "Only tenants that carry this bot."),
    (
        "listEndCompanies.tenant_id",
        "Only companies that are linked to this M365 tenant.",
    ),
    ("from", "The first day, as `YYYY-MM-DD` in UTC."),
    ("to", "The last day, as `YYYY-MM-DD` in UTC."),
    ("since", "Start strictly after this cursor."),
    (
        "follow",
        "`true`: the stream stays open over all coming turns.",
    ),
    ("resume", "`true`: 204 if no turn waits or runs."),
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
    ("client_id", "The tenant's name in ids."),
    ("file", "The name of the file."),
    ("page", "The name of the page or of the picture."),
    (
        "inbound_tenant_id",
        "The M365 tenant that the message comes from.",
    ),
    ("install_id", "The install's id."),
    ("jti", "The token's id, from the reply that minted it."),
    ("key_id", "The key's id, which is not the key."),
    ("message_id", "The message's id."),
    (
        "psa_company_id",
        "The company's id in the MSP's PSA. Percent-encode it in a path.",
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
        "autonomy_type",
        "The kind of agent. Only `CONVERSATIONAL` agents chat.",
    ),
    ("state", "Whether the agent answers."),
    ("access", "Which dashboard users may use the agent."),
    ("allowed_users", "The users' ids, for `SPECIFIC_USERS`."),
    (
        "managed_agent_key",
        "`NEO_SUPPORT`: the tenant's managed agent.",
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
        "Whether everybody who talks to the agent sees what the model thinks, not technicians alone.",
    ),
    ("suggested_prompts", "Questions that a client can offer."),
    ("welcome_message", "How the bot greets. Null: the default."),
    ("custom_instructions", "Instructions for the model."),
    (
        "custom_instructions_for_user_facing_chat",
        "Instructions for the model when this company's staff talk.",
    ),
    (
        "version",
        "The version that the update is based on. 409 if it is no longer the current one.",
    ),
    ("description", "Text for administrators."),
    // Articles.
    ("title", "The title."),
    ("body", "The text, in Markdown."),
    ("url", "Where the original is, for readers of an answer."),
    ("agent_ids", "The agents that use the article. Empty: all."),
    ("end_company_id", "The company, by its `psa_company_id`."),
    // Companies and channels.
    ("psa_company_name", "The company's name."),
    (
        "createInstall.psa_company_id",
        "The company to link to the M365 tenant in the same step.",
    ),
    (
        "tenant_id",
        "The M365 tenant that the company is linked to. Null: none.",
    ),
    (
        "end_client_tenant_id",
        "The M365 tenant that the bot serves.",
    ),
    (
        "tenant_ids",
        "The M365 tenants that the company is linked to. The list replaces the stored one.",
    ),
    (
        "add_directory",
        "Adds the M365 tenant to a company that is linked to others, instead of a 409.",
    ),
    ("bot_id", "The bot, by its Microsoft app id."),
    ("internal_name", "The name for administrators."),
    (
        "display_name",
        "The name that the bot shows. Null: the agent's.",
    ),
    ("color_icon_url", "The bot's icon in color."),
    ("outline_icon_url", "The bot's icon in outline."),
    (
        "relay_prefix",
        "What the relay puts in front of its messages.",
    ),
    (
        "show_agent_progress_steps",
        "Whether clients show the agent's steps.",
    ),
    ("status", "Whether the channel routes messages."),
    ("transport", "`TEAMS`. Other words are reserved."),
    (
        "Greeting.matched",
        "Whether a channel serves the M365 tenant.",
    ),
    // Access.
    (
        "platform",
        "Whether the key is a platform key, which acts for every tenant.",
    ),
    ("expires_at", "When the key expires. Null: never."),
    ("code", "The code from the sign-in link."),
    ("id", "The user's object id in Entra ID."),
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
    ("metadata", "Text values by name, for the caller's own use."),
    (
        "shared",
        "Whether the tenant's other users may read the session.",
    ),
    ("content_type", "The file's media type."),
    ("filename", "The file's name."),
    ("attachments", "Uploaded files that belong to the message."),
    ("alt", "What a picture shows, in words."),
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
        "client_message_id",
        "The caller's id of the message, so that a retry is no second message.",
    ),
    ("model_tier", "Which of the configured models answers."),
    ("rating", "`UP`, `DOWN`, or null to clear the rating."),
    ("comment", "What the rating is about, in words."),
    (
        "allowed_agent_ids",
        "Refuses the token unless the session's agent is among these.",
    ),
    ("end_user", "Whom the token is for."),
    ("end_user_email", "That person's address."),
    ("ttl_seconds", "For how many seconds the token is valid."),
    // Envelopes.
    ("Error.error", "What is wrong."),
    ("Error.meta", "The request."),
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
    ("Parts.type", "`text`, `reasoning` or a kind of source."),
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

//! The contract's enumerations, with their spelling in the API and in the database.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$item_doc])* $item,)*
        }

        impl $name {
            /// All variants, in the contract's order.
            pub const ALL: &'static [Self] = &[$(Self::$item),*];

            /// The spelling of a variant.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$item => $word,)*
                }
            }

            /// Parses the exact spelling; `None` for any other text.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$item),)*
                    _ => None,
                }
            }

            /// All spellings, separated by commas, for a message that lists the valid values.
            pub fn choices() -> String {
                Self::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", ")
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let words: Vec<&str> = Self::ALL.iter().map(|word| word.as_str()).collect();
                json_schema!({ "type": "string", "enum": words })
            }

            fn inline_schema() -> bool {
                true
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )*};
}

words! {
    /// The trust domain of an agent, channel or article.
    Audience {
        /// The MSP's technicians.
        Msp = "MSP",
        /// The staff of the MSP's client companies.
        EndUser = "END_USER",
    }
    /// How an agent works. Only a `CONVERSATIONAL` agent chats.
    AutonomyType {
        /// It answers a chat.
        Conversational = "CONVERSATIONAL",
        /// It runs a fixed chain of actions.
        ChainedActions = "CHAINED_ACTIONS",
        /// It works on its own.
        Agentic = "AGENTIC",
    }
    /// Which dashboard users may use an agent.
    Access {
        /// All users.
        AllUsers = "ALL_USERS",
        /// Users with the role `ADMIN`.
        AdminsOnly = "ADMINS_ONLY",
        /// Users in the agent's list.
        SpecificUsers = "SPECIFIC_USERS",
    }
    /// Whether an agent answers.
    AgentState {
        /// It answers.
        Enabled = "ENABLED",
        /// It does not answer.
        Disabled = "DISABLED",
    }
    /// Whether a channel is in use.
    ChannelStatus {
        /// It routes messages.
        Active = "ACTIVE",
        /// Its bot is disconnected.
        Disconnected = "DISCONNECTED",
    }
    /// Which messages of a group a channel's bot answers.
    GroupReplies {
        /// Those that mention the bot.
        Mentioned = "MENTIONED",
        /// All of them.
        Always = "ALWAYS",
    }
    /// An icon of a bot in Teams.
    IconKind {
        /// The icon in color.
        Color = "color",
        /// The icon in white on a transparent ground.
        Outline = "outline",
    }
    /// The system that carries a channel's messages.
    Transport {
        /// Microsoft Teams.
        Teams = "TEAMS",
    }
    /// An agent that the server provides.
    ManagedAgentKey {
        /// Helps the MSP's technicians with Switchboard itself.
        NeoSupport = "NEO_SUPPORT",
    }
    /// What a create does if the account has an open session with the external id.
    IfExists {
        /// It gives that session.
        Return = "return",
    }
    /// The media types that a message may carry as attachments.
    FileType {
        /// A PNG image.
        Png = "image/png",
        /// A JPEG image.
        Jpeg = "image/jpeg",
        /// A GIF image.
        Gif = "image/gif",
        /// A WebP image.
        Webp = "image/webp",
        /// A PDF document.
        Pdf = "application/pdf",
        /// Plain text.
        Text = "text/plain",
        /// Comma-separated values.
        Csv = "text/csv",
        /// A Word document in the binary format.
        Doc = "application/msword",
        /// A Word document.
        Docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        /// An Excel workbook.
        Xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        /// An email, as most programs save it.
        Eml = "message/rfc822",
        /// An email, as Outlook saves it.
        Msg = "application/vnd.ms-outlook",
        /// A photograph of an iPhone.
        Heic = "image/heic",
        /// An archive.
        Zip = "application/zip",
    }
    /// The kind of client that opened a session.
    SessionChannel {
        /// A dashboard user.
        Dashboard = "DASHBOARD",
        /// A platform service account: the relay between Teams and this server.
        Teams = "TEAMS",
        /// Any other service account.
        Api = "API",
    }
    /// What a dashboard user may do.
    Role {
        /// Reads.
        Viewer = "VIEWER",
        /// Reads, and chats in sessions of their own.
        User = "USER",
        /// Manages the tenant.
        Admin = "ADMIN",
    }
    /// The rule that decides which agent answers (contract, section 3).
    Rule {
        /// Rule a: an `END_USER` channel of the bot is installed for the M365 tenant.
        WhiteLabelInstall = "white_label_install",
        /// Rule b: the acting tenant has an active channel for the bot.
        BotChannel = "bot_channel",
        /// Rule c: neither applies, so the tenant's managed agent answers.
        NeoSupport = "neo_support",
        /// Rule d: the caller selects an agent.
        Selected = "selected",
    }
    /// The state of a turn.
    TurnStatus {
        /// It waits for earlier turns.
        Queued = "QUEUED",
        /// A responder is answering it.
        Running = "RUNNING",
        /// It has its answer.
        Completed = "COMPLETED",
        /// It ended with an error.
        Failed = "FAILED",
        /// It was cancelled.
        Cancelled = "CANCELLED",
    }
    /// The model that answers a turn.
    ModelTier {
        /// The faster model.
        Fast = "FAST",
        /// The more thorough model.
        Smart = "SMART",
    }
    /// The author of a message.
    MessageRole {
        /// The user.
        User = "user",
        /// The agent.
        Assistant = "assistant",
    }
    /// A reader's rating of an answer.
    Rating {
        /// Good.
        Up = "UP",
        /// Bad.
        Down = "DOWN",
    }
    /// The kinds of callers (contract, section 2).
    CallerKind {
        /// A program with an API key.
        ServiceAccount = "service_account",
        /// A person who signed in to the dashboard.
        DashboardUser = "dashboard_user",
        /// A client company's member of staff, limited to one session.
        EndUserSession = "end_user_session",
        /// The operator at the command line; appears in audit events only.
        Operator = "operator",
    }
}

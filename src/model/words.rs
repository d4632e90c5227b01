//! The fixed words of the contract, each an enum with its spelling on the wire and in the file.

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
            /// Every one of them, in the contract's order.
            pub const ALL: &'static [Self] = &[$(Self::$item),*];

            /// How it is spelt.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$item => $word,)*
                }
            }

            /// Reads the exact spelling; `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($word => Some(Self::$item),)*
                    _ => None,
                }
            }

            /// The spellings, for a message that says what would do.
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
        /// Its clients' staff.
        EndUser = "END_USER",
    }
    /// How an agent works; only the first kind chats.
    AutonomyType {
        /// Answers a chat.
        Conversational = "CONVERSATIONAL",
        /// Runs a fixed chain of actions.
        ChainedActions = "CHAINED_ACTIONS",
        /// Works on its own.
        Agentic = "AGENTIC",
    }
    /// Which dashboard users may use an agent.
    Access {
        /// All of them.
        AllUsers = "ALL_USERS",
        /// Those with the role `ADMIN`.
        AdminsOnly = "ADMINS_ONLY",
        /// Those in its list.
        SpecificUsers = "SPECIFIC_USERS",
    }
    /// Whether an agent answers.
    AgentState {
        /// It does.
        Enabled = "ENABLED",
        /// It does not.
        Disabled = "DISABLED",
    }
    /// Whether a channel works.
    ChannelStatus {
        /// It does.
        Active = "ACTIVE",
        /// Its bot was disconnected.
        Disconnected = "DISCONNECTED",
    }
    /// What carries a channel's messages.
    Transport {
        /// Microsoft Teams.
        Teams = "TEAMS",
    }
    /// An agent that the server provides.
    ManagedAgentKey {
        /// Helps the MSP's technicians with Switchboard itself.
        NeoSupport = "NEO_SUPPORT",
    }
    /// What a message may carry, by media type.
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
        /// A table as text.
        Csv = "text/csv",
        /// A Word document of the old kind.
        Doc = "application/msword",
        /// A Word document.
        Docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        /// An Excel workbook.
        Xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    }
    /// Where a session comes from.
    SessionChannel {
        /// A dashboard user.
        Dashboard = "DASHBOARD",
        /// A platform call.
        Teams = "TEAMS",
        /// Any other program.
        Api = "API",
    }
    /// What a dashboard user may do.
    Role {
        /// Read.
        Viewer = "VIEWER",
        /// Chat in sessions of their own.
        User = "USER",
        /// Everything of the tenant.
        Admin = "ADMIN",
    }
    /// What decided who answers (contract, section 3).
    Rule {
        /// a: an `END_USER` channel of the bot is installed for the M365 tenant.
        WhiteLabelInstall = "white_label_install",
        /// b: the acting tenant has an active channel for the bot.
        BotChannel = "bot_channel",
        /// c: nothing else, so the tenant's managed agent.
        NeoSupport = "neo_support",
        /// d: the caller chose.
        Selected = "selected",
    }
    /// Where a turn stands.
    TurnStatus {
        /// Waits for those before it.
        Queued = "QUEUED",
        /// Is being answered.
        Running = "RUNNING",
        /// Was answered.
        Completed = "COMPLETED",
        /// Ended with an error.
        Failed = "FAILED",
        /// Was called off.
        Cancelled = "CANCELLED",
    }
    /// Which model answers a turn.
    ModelTier {
        /// The quick one.
        Fast = "FAST",
        /// The thorough one.
        Smart = "SMART",
    }
    /// Who said a message.
    MessageRole {
        /// The person.
        User = "user",
        /// The agent.
        Assistant = "assistant",
    }
    /// A verdict on an answer.
    Rating {
        /// Good.
        Up = "UP",
        /// Bad.
        Down = "DOWN",
    }
    /// Who calls (contract, section 2).
    CallerKind {
        /// A program with an API key.
        ServiceAccount = "service_account",
        /// A person who signed in.
        DashboardUser = "dashboard_user",
        /// A client's member of staff, held to one session.
        EndUserSession = "end_user_session",
        /// The operator, at the command line; only in audit events.
        Operator = "operator",
    }
}

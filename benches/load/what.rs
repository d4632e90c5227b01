//! What there is to measure, by its names on the command line, in the table and in the JSON.

use std::fmt;

use clap::ValueEnum;

/// In the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Rows that SQLite alone takes, in durable groups of 64
    Sqlite,
    /// The framework answering every request with the same JSON
    FixedJson,
    /// A plain server: every create takes a connection, writes its row and commits it
    CommitPerRequest,
    /// Creates on the same server but that it commits each change by itself
    CreatesCommitEach,
    /// Sessions opened by a service account
    Creates,
    /// Sessions opened by a relay where a white-label bot is installed
    WhiteLabel,
    /// Creates, each with an Idempotency-Key of its own
    Idempotent,
    /// Appends on the same server but that it commits each change by itself
    AppendsCommitEach,
    /// Messages to many sessions, answered meanwhile
    Appends,
    /// From sending an append until a reader that follows has the first word of its answer
    FirstDelta,
    /// Stored answers read as streams, from the first event to the end
    Streams,
    /// The newest 20 sessions of a tenant
    ListPages,
    /// The 20 messages of a session
    MessagePages,
    /// A relay asks how it would be routed
    DryRuns,
    /// Memory of a server at rest, and how soon it is ready
    MemoryAndStart,
    /// How long the write-ahead log gets under load, and while somebody reads for long
    LogBound,
    /// Bytes that a session and a message add to the file
    Growth,
    /// What a tenant at ten times its limit does to another one
    Fairness,
    /// What readers that wait cost the server and those who use it
    IdleReaders,
    /// Streams that are cut and resumed while the server is killed
    CutStreams,
    /// Mixed work for half an hour, and whether the server is then as it was; only when it is asked for
    Soak,
}

impl What {
    /// The lines of the table; what is compared stands together and is measured in turn.
    pub const TABLE: [&[Self]; 7] = [
        &[
            Self::FixedJson,
            Self::CommitPerRequest,
            Self::CreatesCommitEach,
            Self::Creates,
            Self::WhiteLabel,
            Self::Idempotent,
        ],
        &[Self::AppendsCommitEach, Self::Appends],
        &[Self::FirstDelta],
        &[Self::Streams],
        &[Self::ListPages],
        &[Self::MessagePages],
        &[Self::DryRuns],
    ];
    /// Those of them that are no Switchboard, or not quite, which have no big file.
    pub const OTHERS: [Self; 4] = [
        Self::FixedJson,
        Self::CommitPerRequest,
        Self::CreatesCommitEach,
        Self::AppendsCommitEach,
    ];

    /// Whether the server has still to answer what it was asked when a cell ends.
    pub fn leaves_work(self) -> bool {
        matches!(
            self,
            Self::Appends | Self::AppendsCommitEach | Self::FirstDelta
        )
    }

    /// Whether it is to be as quick in a big file as in an empty one.
    pub fn is_to_stay_quick(self) -> bool {
        matches!(
            self,
            Self::Creates | Self::ListPages | Self::MessagePages | Self::DryRuns
        )
    }
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => formatter.pad(value.get_name()),
            None => Ok(()),
        }
    }
}

//! The benchmarks, with their names on the command line, in the table and in the JSON.

use std::fmt;

use clap::ValueEnum;

/// A benchmark. The order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Benchmark {
    /// Rows per second of SQLite alone, in durable groups of 64
    Sqlite,
    /// The framework, answering every request with the same JSON
    FixedJson,
    /// A plain server: each create takes a connection, writes its row and commits
    CommitPerRequest,
    /// PostgreSQL alone: pgbench inserts a row in each transaction; only with --database
    Pgbench,
    /// Creates on the same server, but with a commit for each change
    CreatesCommitEach,
    /// Sessions opened by a service account
    Creates,
    /// Sessions opened by a relay where a white-label bot is installed
    WhiteLabel,
    /// Creates, each with its own Idempotency-Key
    Idempotent,
    /// Appends on the same server, but with a commit for each change
    AppendsCommitEach,
    /// Messages to many sessions, which are answered at the same time
    Appends,
    /// Messages that Teams sends to a bot, without tokens; each is answered in Teams too
    Activities,
    /// From sending an append until a following reader has the first word of its answer
    FirstDelta,
    /// Stored answers, read as streams from the first event to the end
    Streams,
    /// The newest 20 sessions of a tenant
    ListPages,
    /// The 20 messages of a session
    MessagePages,
    /// Dry runs of a relay
    DryRuns,
    /// Memory of a server at rest, and the time until it is ready
    MemoryAndStart,
    /// Place of the write-ahead log under load and during long reads
    LogBound,
    /// Bytes that a session and a message add to the file
    Growth,
    /// Effect of a tenant at ten times its limit on another tenant
    Fairness,
    /// Cost of waiting readers for the server and its active clients
    IdleReaders,
    /// A reader at the node that does not run the turn, and the take-over after kill -9; only with
    /// --database
    Nodes,
    /// Streams that are cut and resumed while the server is killed
    CutStreams,
    /// Mixed work for half an hour, and whether the server is then as it was before; runs only if
    /// it is listed
    Soak,
}

impl Benchmark {
    /// The lines of the table. The lines of a group are compared, and measured in turn.
    pub const TABLE: [&[Self]; 7] = [
        &[
            Self::FixedJson,
            Self::CommitPerRequest,
            Self::Pgbench,
            Self::CreatesCommitEach,
            Self::Creates,
            Self::WhiteLabel,
            Self::Idempotent,
        ],
        &[Self::AppendsCommitEach, Self::Appends, Self::Activities],
        &[Self::FirstDelta],
        &[Self::Streams],
        &[Self::ListPages],
        &[Self::MessagePages],
        &[Self::DryRuns],
    ];
    /// The ceilings and variants among them, which have no big file.
    pub const OTHERS: [Self; 5] = [
        Self::FixedJson,
        Self::CommitPerRequest,
        Self::Pgbench,
        Self::CreatesCommitEach,
        Self::AppendsCommitEach,
    ];

    /// Whether the benchmark is one of PostgreSQL.
    pub fn needs_database(self) -> bool {
        matches!(self, Self::Pgbench | Self::Nodes)
    }

    /// Whether the server still has queued turns at the end of a cell.
    pub fn leaves_work(self) -> bool {
        matches!(
            self,
            Self::Appends | Self::AppendsCommitEach | Self::Activities | Self::FirstDelta
        )
    }

    /// Whether a big file must not slow the benchmark down.
    pub fn is_to_stay_quick(self) -> bool {
        matches!(
            self,
            Self::Creates | Self::ListPages | Self::MessagePages | Self::DryRuns
        )
    }
}

impl fmt::Display for Benchmark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => formatter.pad(value.get_name()),
            None => Ok(()),
        }
    }
}

//! What a channel's app package has beside the channel's fields: uploaded icons, and the number of
//! the package that was made last.

use super::WriteTx;
use super::sql::Reader;
use crate::error::Result;
use crate::model::ids::ChannelId;
use crate::model::words::IconKind;

const ICON: &str = "SELECT png FROM channel_icons WHERE channel_seq = ?1 AND kind = ?2";

/// The uploaded icon of a channel, as PNG.
pub fn icon(reader: &Reader<'_>, channel: ChannelId, kind: IconKind) -> Result<Option<Vec<u8>>> {
    reader.optional(ICON, (channel.tick(), kind), |row| row.get("png"))
}

const SET_ICON: &str = "
INSERT INTO channel_icons (channel_seq, kind, png) VALUES (?1, ?2, ?3)
ON CONFLICT (channel_seq, kind) DO UPDATE SET png = excluded.png";

/// Stores an icon of a channel in place of the one before.
pub fn set_icon(
    tx: &mut WriteTx<'_>,
    channel: ChannelId,
    kind: IconKind,
    png: &[u8],
) -> Result<()> {
    tx.execute(SET_ICON, (channel.tick(), kind, png)).map(drop)
}

const REMOVE_ICON: &str = "DELETE FROM channel_icons WHERE channel_seq = ?1 AND kind = ?2";

/// Removes the uploaded icon of a channel. Returns whether there was one.
pub fn remove_icon(tx: &mut WriteTx<'_>, channel: ChannelId, kind: IconKind) -> Result<bool> {
    Ok(tx.execute(REMOVE_ICON, (channel.tick(), kind))? > 0)
}

const CLEAR_ICONS: &str = "DELETE FROM channel_icons WHERE channel_seq = ?1";
const CLEAR_VERSION: &str = "DELETE FROM channel_packages WHERE channel_seq = ?1";

/// Removes what belongs to the package of a channel that is deleted.
pub(super) fn clear(tx: &mut WriteTx<'_>, channel: ChannelId) -> Result<()> {
    tx.execute(CLEAR_ICONS, [channel.tick()])?;
    tx.execute(CLEAR_VERSION, [channel.tick()]).map(drop)
}

const VERSION: &str = "SELECT version FROM channel_packages WHERE channel_seq = ?1 AND sha256 = ?2";

/// The version of the package that was made last, if this was in it.
pub fn version(reader: &Reader<'_>, channel: ChannelId, sha256: [u8; 32]) -> Result<Option<i64>> {
    let params = (channel.tick(), sha256.as_slice());
    reader.optional(VERSION, params, |row| row.get("version"))
}

// Another request may have made the same package meanwhile.
const NEXT_VERSION: &str = "
INSERT INTO channel_packages (channel_seq, version, sha256) VALUES (?1, 1, ?2)
ON CONFLICT (channel_seq) DO UPDATE
SET version = CASE WHEN channel_packages.sha256 = excluded.sha256 THEN channel_packages.version ELSE channel_packages.version + 1 END,
    sha256 = excluded.sha256
RETURNING version";

/// The version of a package with these contents: the next one, unless the package that was made last
/// has the same.
pub fn next_version(tx: &mut WriteTx<'_>, channel: ChannelId, sha256: [u8; 32]) -> Result<i64> {
    let params = (channel.tick(), sha256.as_slice());
    tx.returning_one(NEXT_VERSION, params, |row| row.get("version"))
}

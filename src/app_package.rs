//! The app package of a bot in Teams: a ZIP file with a manifest and two icons, which an
//! administrator uploads.

pub mod icons;
pub mod png;

use std::io::{self, Cursor, Write};

use serde_json::{Value, json};
use url::{Host, Url};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::digest::sha256;

const SCHEMA: &str =
    "https://developer.microsoft.com/en-us/json-schemas/teams/v1.19/MicrosoftTeams.schema.json";
const COLOR_FILE: &str = "color.png";
const OUTLINE_FILE: &str = "outline.png";

/// The most UTF-16 code units of the texts of a manifest.
const SHORT_NAME: usize = 30;
const FULL_NAME: usize = 100;
const SHORT_DESCRIPTION: usize = 80;
const FULL_DESCRIPTION: usize = 4_000;
const DEVELOPER: usize = 32;

/// The grounds of drawn icons. White letters can be read on each.
const COLORS: [[u8; 3]; 8] = [
    [0x0b, 0x5c, 0xad],
    [0x5b, 0x4b, 0xb5],
    [0x8a, 0x3a, 0x8f],
    [0xa8, 0x32, 0x5a],
    [0x9c, 0x4a, 0x1a],
    [0x5f, 0x6b, 0x12],
    [0x1b, 0x74, 0x4b],
    [0x0b, 0x70, 0x7a],
];

/// The color that goes with an id: the same id always has the same color.
pub fn color_of(id: &[u8]) -> [u8; 3] {
    let [first, ..] = sha256(id);
    COLORS[usize::from(first) % COLORS.len()]
}

/// What is in a package.
#[derive(Clone, Debug)]
pub struct AppPackage<'a> {
    /// The app's id, a GUID.
    pub id: &'a str,
    /// The bot's id, a GUID.
    pub bot_id: &'a str,
    /// The bot's name for its users.
    pub name: &'a str,
    /// The bot's purpose.
    pub description: Option<&'a str>,
    /// The name of the MSP.
    pub developer: &'a str,
    /// The address of a page about the MSP.
    pub website_url: &'a str,
    /// The address of the privacy statement.
    pub privacy_url: &'a str,
    /// The address of the terms of use.
    pub terms_url: &'a str,
    /// The address of the server, if it is configured.
    pub public_url: Option<&'a str>,
    /// The color of the app.
    pub color: [u8; 3],
    /// The color icon, as PNG.
    pub color_icon: &'a [u8],
    /// The outline icon, as PNG.
    pub outline_icon: &'a [u8],
}

impl AppPackage<'_> {
    /// The manifest of version 1.19, without its `version`.
    fn manifest(&self) -> Value {
        let [red, green, blue] = self.color;
        let scopes = ["personal", "team", "groupChat"];
        let default = format!("Chat with {}, a bot of {}.", self.name, self.developer);
        let description = self.description.unwrap_or(&default);
        json!({
            "$schema": SCHEMA,
            "manifestVersion": "1.19",
            "id": self.id,
            "developer": {
                "name": line(self.developer, DEVELOPER),
                "websiteUrl": self.website_url,
                "privacyUrl": self.privacy_url,
                "termsOfUseUrl": self.terms_url,
            },
            "name": { "short": line(self.name, SHORT_NAME), "full": line(self.name, FULL_NAME) },
            "description": {
                "short": line(description, SHORT_DESCRIPTION),
                "full": shorten(description, FULL_DESCRIPTION),
            },
            "icons": { "color": COLOR_FILE, "outline": OUTLINE_FILE },
            "accentColor": format!("#{red:02X}{green:02X}{blue:02X}"),
            "bots": [{
                "botId": self.bot_id,
                "scopes": scopes,
                "isNotificationOnly": false,
                "supportsFiles": true,
                "commandLists": [{
                    "scopes": scopes,
                    "commands": [
                        { "title": "/new", "description": "Start a new conversation" },
                        { "title": "/reset", "description": "Forget this conversation and start again" },
                    ],
                }],
            }],
            "permissions": ["identity", "messageTeamMembers"],
            "validDomains": self.domains(),
        })
    }

    /// The domains of the addresses of the package.
    fn domains(&self) -> Vec<String> {
        let urls = [self.website_url, self.privacy_url, self.terms_url];
        let urls = urls.into_iter().chain(self.public_url);
        let mut domains: Vec<String> = urls
            .filter_map(|url| match Url::parse(url).ok()?.host()? {
                Host::Domain(domain) => Some(domain.to_owned()),
                // Teams takes names only.
                Host::Ipv4(_) | Host::Ipv6(_) => None,
            })
            .collect();
        domains.sort();
        domains.dedup();
        domains
    }

    /// The digest of all that is in the package but its version.
    pub fn sha256(&self) -> [u8; 32] {
        let mut parts = sha256(self.manifest().to_string()).to_vec();
        parts.extend(sha256(self.color_icon));
        parts.extend(sha256(self.outline_icon));
        sha256(parts)
    }

    /// The ZIP file. The same contents and version always make the same bytes.
    ///
    /// # Errors
    /// None that the memory does not cause.
    pub fn zip(&self, version: i64) -> io::Result<Vec<u8>> {
        let mut manifest = self.manifest();
        manifest["version"] = format!("1.0.{version}").into();
        let manifest = serde_json::to_vec_pretty(&manifest)?;
        // The icons are compressed already, and the manifest is small.
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in [
            ("manifest.json", manifest.as_slice()),
            (COLOR_FILE, self.color_icon),
            (OUTLINE_FILE, self.outline_icon),
        ] {
            zip.start_file(name, options)?;
            zip.write_all(content)?;
        }
        Ok(zip.finish()?.into_inner())
    }
}

/// A text in one line, shortened.
fn line(text: &str, max: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    shorten(&words.join(" "), max)
}

/// Cuts a text to a number of UTF-16 code units, in which Teams counts. `…` marks the cut.
fn shorten(text: &str, max: usize) -> String {
    let text = text.trim();
    if text.encode_utf16().count() <= max {
        return text.to_owned();
    }
    let mut left = max - 1;
    let kept: String = text
        .chars()
        .take_while(|letter| {
            let fits = letter.len_utf16() <= left;
            left = left.saturating_sub(letter.len_utf16());
            fits
        })
        .collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_as_teams_counts_it() {
        assert_eq!(shorten("Northwind", 9), "Northwind");
        assert_eq!(shorten("Northwind", 8), "Northwi…");
        assert_eq!(shorten("North wind", 7), "North…");
        assert_eq!(shorten("😀😀😀", 6), "😀😀😀");
        assert_eq!(shorten("😀😀😀", 5), "😀😀…");
        assert_eq!(shorten("😀😀😀", 4), "😀…");
        assert_eq!(line(" One\n\ttwo  ", 30), "One two");
    }
}

//! `teams check`: asks for a bot's own token, and says what is wrong.

use actix_web::rt::System;
use clap::Subcommand;

use super::{Failed, column, flags, print};
use crate::model::clock::Clock;
use crate::model::names::BotId;
use crate::teams::bots::BotsFile;
use crate::teams::login::Login;

#[derive(Subcommand)]
pub(super) enum Teams {
    /// Ask for a bot's own token, as the server does before it replies, and say what is wrong
    Check {
        /// The bot's application id, as in the file of --teams-bots
        bot_id: String,
        #[command(flatten)]
        teams: Box<flags::Teams>,
    },
}

pub(super) fn run(command: &Teams) -> Result<(), Failed> {
    let Teams::Check { bot_id, teams } = command;
    let settings = teams.settings();
    let Some(path) = &settings.bots else {
        return Err(Failed::saying(
            "no file of bots is given: name it with --teams-bots or SWITCHBOARD_TEAMS_BOTS",
        ));
    };
    let now = Clock::System.now();
    let bots = BotsFile::open(path).map_err(Failed::saying)?.bots(now);
    let id = BotId::parse(bot_id.trim());
    let Some(bot) = id.and_then(|id| bots.get(&id)) else {
        let known: Vec<&str> = bots.iter().map(|bot| bot.id.as_str()).collect();
        return Err(Failed::saying(format!(
            "{} has no bot {}; its bots are: {}",
            path.display(),
            column(bot_id),
            known.join(", ")
        )));
    };
    let login = Login::new(&settings).map_err(Failed::saying)?;
    let token = System::new().block_on(login.token(bot, now));
    token.map_err(|cause| {
        Failed::saying(format!("no token for {}: {}", bot.id, column(&cause.0)))
    })?;
    print(format_args!(
        "ok: {} gives the bot {} a token for {}",
        login.token_url(bot),
        bot.id,
        settings.scope
    ))
}

//! Builds a model's prompt, from no more than the session may see (contract, section 13).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::TurnContext;
use super::speakers::{self, Speakers};
use crate::error::Result;
use crate::knowledge::passage_index::PassageIndex;
use crate::knowledge::question::Participants;
use crate::knowledge::{builtin, citations};
use crate::model::answer::Chunk;
use crate::model::ids::Tick;
use crate::model::session::Attachment;
use crate::model::words::{MessageRole, ModelTier};
use crate::store::Reader;
use crate::store::attachments::{self, StoredImage};
use crate::store::messages::ConversationMessage;
use crate::turns::reasoning::without_thoughts;
use crate::turns::responder::{HistoryMessage, Image, Prompt, add_paragraph, unseen_file};

/// The maximum number of passages in a prompt.
const MAX_PASSAGES: usize = 6;
/// The maximum number of images in a prompt. Images can be large, and many turns run at a time.
const MAX_IMAGES: usize = 4;

/// The files of a conversation.
pub(super) struct Files {
    /// The records of all files, by their messages.
    attached: HashMap<Tick, Vec<Attachment>>,
    /// The newest images of the message to answer, in order.
    images: Vec<StoredImage>,
}

/// Reads the files of a conversation. A model gets a picture in the turn that brings it: a picture
/// that the model's server refuses would otherwise fail every later turn.
pub(super) fn files(reader: &Reader<'_>, context: &TurnContext) -> Result<Files> {
    let mut files = Files {
        attached: HashMap::new(),
        images: Vec::new(),
    };
    let (session, conversation) = (context.session.id, &context.conversation);
    let (Some(first), Some(last)) = (conversation.first(), conversation.last()) else {
        return Ok(files);
    };
    let (first, last) = (first.id.tick(), last.id.tick());
    for (message, file) in attachments::of_messages(reader, session, first, last)? {
        files.attached.entry(message).or_default().push(file);
    }
    files.images = attachments::images(reader, session, last, MAX_IMAGES)?;
    Ok(files)
}

/// Builds a model's prompt from the instructions, the best passages, and the conversation. Returns
/// the articles of the passages too, in the order of their numbers.
pub(super) fn build(
    context: &TurnContext,
    files: Files,
    index: &Mutex<PassageIndex>,
    tier: ModelTier,
) -> Result<(Prompt, Vec<Chunk>)> {
    let mut system = format!(
        "You are {}, an assistant of the managed service provider {}.",
        context.agent.name, context.tenant
    );
    let mut add = |title: &str, text: Option<&str>| {
        if let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) {
            system.push_str("\n\n");
            system.push_str(title);
            system.push('\n');
            system.push_str(text);
        }
    };
    add(
        "Instructions:",
        context.agent.agent_settings.custom_instructions.as_deref(),
    );
    if let (Some(company), Some(_)) = (&context.company, &context.session.end_company_id) {
        add(
            "You are talking to staff of this company:",
            Some(&company.psa_company_name),
        );
        add(
            "Instructions for this company:",
            company.custom_instructions_for_user_facing_chat.as_deref(),
        );
    }
    let speakers = Speakers::of(&context.conversation);
    let rule = (!speakers.is_empty()).then_some(speakers::RULE);
    add("Several people write in this conversation.", rule);
    let user_messages = context.user_messages();
    let index = index.lock().unwrap_or_else(PoisonError::into_inner);
    let company = context.company.as_ref();
    let participants = Participants {
        agent: &context.agent.name,
        company: company.map(|company| company.psa_company_name.as_str()),
    };
    let hits = builtin::find(&user_messages, participants, &index)?;
    let mut sources = Vec::new();
    let mut passages = String::new();
    let hits = &hits[..hits.len().min(MAX_PASSAGES)];
    for of_article in hits.chunk_by(|one, other| one.article == other.article) {
        let article = &index.articles()[of_article[0].article];
        sources.push(citations::source(article));
        passages.push_str(&format!("\n\n## [{}] {}", sources.len(), article.title));
        if let Some(url) = &article.url {
            passages.push_str(&format!("\n{url}"));
        }
        for hit in of_article {
            passages.push_str("\n\n");
            passages.push_str(hit.passage);
        }
    }
    add(
        "Knowledge articles that may help. If your answer uses one, cite it by its number in brackets, such as [1]:",
        Some(&passages),
    );
    let prompt = Prompt {
        session: context.session.id,
        tier,
        system,
        history: history(&context.conversation, &speakers, files),
    };
    Ok((prompt, sources))
}

/// Builds the history. A file that the model does not see is a line of text.
fn history(
    conversation: &[ConversationMessage],
    speakers: &Speakers<'_>,
    files: Files,
) -> Vec<HistoryMessage> {
    let Files {
        mut attached,
        images,
    } = files;
    let mut images = images.into_iter();
    let newest = conversation.last().map(|message| message.id);
    let mut history = Vec::new();
    for source in conversation {
        let content = match source.role {
            MessageRole::User => match speakers.named(source, &source.content) {
                Some(named) => Cow::Owned(named),
                None => Cow::Borrowed(source.content.as_str()),
            },
            MessageRole::Assistant => without_thoughts(&source.content),
        };
        let mut message = HistoryMessage {
            role: source.role,
            text: content.into_owned(),
            images: Vec::new(),
        };
        let files = attached.remove(&source.id.tick()).unwrap_or_default();
        let of_images = files.iter().filter(|file| file.mime.is_image()).count();
        let mut unseen_images = match newest == Some(source.id) {
            true => of_images.saturating_sub(images.len()),
            false => of_images,
        };
        for file in files {
            let label = label(&file);
            if file.mime.is_image() && unseen_images == 0 {
                message.images.extend(images.next().map(|image| Image {
                    label,
                    mime: image.mime.as_str().to_owned(),
                    bytes: image.content,
                }));
            } else {
                unseen_images -= usize::from(file.mime.is_image());
                add_paragraph(&mut message.text, &unseen_file(&label));
            }
        }
        // Some models reject an empty message.
        if !message.text.is_empty() || !message.images.is_empty() {
            history.push(message);
        }
    }
    history
}

/// A file as a text names it.
fn label(file: &Attachment) -> String {
    let mut label = match &file.filename {
        Some(name) => format!("{name:?}, {}", file.mime.as_str()),
        None => file.mime.as_str().to_owned(),
    };
    if let Some(alt) = &file.alt {
        label.push_str(&format!(", described as {alt:?}"));
    }
    label
}

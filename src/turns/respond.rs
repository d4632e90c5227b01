//! Chooses the responder of a turn and builds its prompt, from no more than the session may see
//! (contract, section 13).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::openai;
use super::reasoning::{Marks, without_thoughts};
use super::responder::{Completion, FinishReason, HistoryMessage, Image, Prompt, ResponderError};
use crate::error::{Code, Error, Result};
use crate::knowledge::builtin::{self, BuiltinPrompt, word_by_word};
use crate::knowledge::citations;
use crate::knowledge::passage_index::PassageIndex;
use crate::knowledge::question::Participants;
use crate::knowledge::{html, mentions};
use crate::model::answer::Chunk;
use crate::model::article::Article;
use crate::model::ids::{SessionId, TurnId};
use crate::model::session::Session;
use crate::model::words::{Audience, MessageRole, ModelTier};
use crate::store::agents::AgentRecord;
use crate::store::articles::{self, ArticleScope};
use crate::store::attachments::{self, StoredImage};
use crate::store::companies::{self, CompanyRecord};
use crate::store::messages::{self, ConversationMessage};
use crate::store::{Extent, Reader, Store, agents, reasoning, sessions, tenants};

/// The capacity of the index cache. A full cache is cleared, which costs only rebuilds.
const MAX_CACHED_INDEXES: usize = 256;
/// The maximum number of passages in a prompt.
const MAX_PASSAGES: usize = 6;

/// The maximum number of images in a prompt. Images can be large, and many turns run at a time.
const MAX_IMAGES: usize = 4;
/// The number of newest messages whose images a prompt may include.
const IMAGE_MESSAGES: usize = 8;

/// The prompt's text for a message that has only files, none of which the model gets.
const HIDDEN_FILE: &str = "(The user sent a file that you cannot see.)";

/// The turn to answer.
#[derive(Clone, Copy, Debug)]
pub struct TurnRef {
    /// The session.
    pub session: SessionId,
    /// The turn.
    pub turn: TurnId,
    /// The model tier that answers.
    pub tier: ModelTier,
}

/// The responders: the model if one is configured, otherwise the built-in one.
pub struct Responders {
    model: Option<openai::Client>,
    indexes: Arc<IndexCache>,
}

/// Passage indexes by article scope, each with the version of the articles that it was built from.
type IndexCache = Mutex<HashMap<ArticleScope, (i64, Arc<Mutex<PassageIndex>>)>>;

/// Everything that a responder may use for a turn.
struct TurnContext {
    session: Session,
    agent: AgentRecord,
    tenant: String,
    company: Option<CompanyRecord>,
    conversation: Vec<ConversationMessage>,
    scope: ArticleScope,
    articles_version: i64,
}

impl Responders {
    /// Creates the responders. A `model` replaces the built-in one.
    pub fn new(model: Option<openai::Client>) -> Self {
        Self {
            model,
            indexes: Arc::default(),
        }
    }

    /// Whether answers may have reasoning.
    pub fn may_reason(&self) -> bool {
        self.model.is_some()
    }

    /// Answers a turn and sends the chunks as they are written. Returns the articles that a model
    /// got too: only the whole answer shows which of them it cites.
    ///
    /// # Errors
    /// `internal_error` if the prompt cannot be built, and those of [`openai::Client::answer`].
    pub async fn respond(
        &self,
        store: &Store,
        turn_ref: TurnRef,
        chunks: mpsc::Sender<Chunk>,
    ) -> Result<(Completion, Vec<Chunk>), ResponderError> {
        let context = store
            .read(move |reader| context(reader, turn_ref))
            .await
            .map_err(not_prepared)?;
        let index = self.index(store, &context).await.map_err(not_prepared)?;
        match &self.model {
            None => {
                let completion = answer_built_in(context, index, chunks).await?;
                Ok((completion, Vec::new()))
            }
            Some(model) => {
                let reads = store.clone();
                let (prompt, sources) = tokio::task::spawn_blocking(move || {
                    let images = reads.read_now(|reader| images(reader, &context))?;
                    prompt(&context, images, &index, turn_ref.tier)
                })
                .await
                .map_err(|error| not_prepared(Error::Internal(error.into())))?
                .map_err(not_prepared)?;
                let completion = answer_with_model(model, store, prompt, chunks).await?;
                Ok((completion, sources))
            }
        }
    }

    /// The index of the articles that a session may see. It is rebuilt after an article has
    /// changed.
    async fn index(
        &self,
        store: &Store,
        context: &TurnContext,
    ) -> Result<Arc<Mutex<PassageIndex>>> {
        let scope = context.scope.clone();
        {
            let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((version, index)) = indexes.get(&scope)
                && *version == context.articles_version
            {
                return Ok(Arc::clone(index));
            }
        }
        let read_scope = scope.clone();
        let (version, index) = store
            .read_on_pool(move |reader| {
                let version = articles::version(reader, read_scope.tenant)?;
                let visible: Vec<Article> = articles::visible(reader, &read_scope)?
                    .into_iter()
                    .map(|article| Article {
                        id: article.id,
                        title: article.title,
                        body: html::text_of(&article.body).into_owned(),
                        url: article.url,
                    })
                    .collect();
                let index = PassageIndex::build(&visible)?;
                Ok((version, Arc::new(Mutex::new(index))))
            })
            .await?;
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if indexes.len() >= MAX_CACHED_INDEXES && !indexes.contains_key(&scope) {
            indexes.clear();
        }
        indexes.insert(scope, (version, Arc::clone(&index)));
        Ok(index)
    }
}

fn not_prepared(error: Error) -> ResponderError {
    ResponderError {
        code: "internal_error",
        message: "The assistant could not prepare an answer. Please try again in a moment."
            .to_owned(),
        log: error.to_string(),
    }
}

fn context(reader: &Reader<'_>, turn_ref: TurnRef) -> Result<TurnContext> {
    let session = sessions::by_id(reader, turn_ref.session)?.ok_or(Code::NotFound)?;
    let tenant = session.internals.tenant;
    let agent = agents::of_tenant(reader, tenant, session.agent_id)?.ok_or(Code::AgentDisabled)?;
    let company = match session.internals.company {
        Some(row) => companies::by_row(reader, tenant, row)?,
        None => None,
    };
    // A session with a company belongs to the company's staff, even if its agent's audience has
    // changed.
    let audience = match session.end_company_id {
        Some(_) => Audience::EndUser,
        None => agent.audience,
    };
    let scope = ArticleScope {
        tenant,
        agent: session.agent_id,
        audience,
        company: session.internals.company,
    };
    Ok(TurnContext {
        tenant: tenants::by_no(reader, tenant)?.name,
        conversation: conversation(reader, turn_ref)?,
        articles_version: articles::version(reader, tenant)?,
        session,
        agent,
        company,
        scope,
    })
}

/// The conversation up to the turn, without the mentions that call the bot.
fn conversation(reader: &Reader<'_>, turn_ref: TurnRef) -> Result<Vec<ConversationMessage>> {
    let mut conversation = messages::conversation(reader, turn_ref.session, turn_ref.turn)?;
    for message in &mut conversation {
        if message.role == MessageRole::User
            && let Cow::Owned(text) = mentions::without_mentions(&message.content)
        {
            message.content = text;
        }
    }
    Ok(conversation)
}

impl TurnContext {
    /// The user's messages, oldest first.
    fn user_messages(&self) -> Vec<String> {
        self.conversation
            .iter()
            .filter(|message| message.role == MessageRole::User)
            .map(|message| message.content.clone())
            .collect()
    }
}

/// Makes a model answer, and learns whether its answers begin within a thought.
async fn answer_with_model(
    model: &openai::Client,
    store: &Store,
    prompt: Prompt,
    chunks: mpsc::Sender<Chunk>,
) -> Result<Completion, ResponderError> {
    if let Some(marks) = model.marks() {
        return model.answer(prompt, marks, chunks, &|| {}).await;
    }
    let name = model.name(prompt.tier);
    let known = name.clone();
    let is_unopened = store
        .read(move |reader| reasoning::is_unopened(reader, &known))
        .await
        .map_err(not_prepared)?;
    let marks = if is_unopened {
        Marks::Unopened
    } else if prompt.mentions_thoughts() {
        Marks::Tagged
    } else {
        Marks::Learned
    };
    let learn = || {
        log::warn!(
            "model: {} of {} ends a thought that it did not begin: from now on, its answers are shown once </think> has come; --model-reasoning=tagged turns that off",
            name.model,
            name.endpoint
        );
        let name = name.clone();
        // The task does not await this change, because the writer commits it before the end of this
        // turn.
        drop(store.write(Extent::Statement, move |tx| {
            reasoning::learn_unopened(tx, &name)
        }));
    };
    model.answer(prompt, marks, chunks, &learn).await
}

async fn answer_built_in(
    context: TurnContext,
    index: Arc<Mutex<PassageIndex>>,
    chunks: mpsc::Sender<Chunk>,
) -> Result<Completion, ResponderError> {
    let answer = tokio::task::spawn_blocking(move || {
        let index = index.lock().unwrap_or_else(PoisonError::into_inner);
        builtin::compose(
            &BuiltinPrompt {
                messages: &context.user_messages(),
                agent: &context.agent.name,
                welcome_message: context.agent.agent_settings.welcome_message.as_deref(),
                company: context
                    .company
                    .as_ref()
                    .map(|company| company.psa_company_name.as_str()),
                tenant: &context.tenant,
                audience: context.scope.audience,
            },
            &index,
        )
    })
    .await
    .map_err(|error| not_prepared(Error::Internal(error.into())))?
    .map_err(|error| not_prepared(Error::Internal(error.into())))?;
    for chunk in answer {
        match chunk {
            Chunk::Text(text) => {
                for word in word_by_word(&text) {
                    if chunks.send(Chunk::Text(word.to_owned())).await.is_err() {
                        break;
                    }
                }
            }
            Chunk::Reasoning(_)
            | Chunk::Recast { .. }
            | Chunk::SourceUrl { .. }
            | Chunk::SourceDocument { .. } => {
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
        }
    }
    Ok(Completion {
        finish_reason: FinishReason::Stop,
        usage: None,
        hides_images: false,
    })
}

/// Builds a model's prompt from the instructions, the best passages, and the conversation. Returns
/// the articles of the passages too, in the order of their numbers.
fn prompt(
    context: &TurnContext,
    images: Vec<StoredImage>,
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
        tier,
        system,
        history: history(&context.conversation, images),
    };
    Ok((prompt, sources))
}

/// The newest images of the newest messages.
fn images(reader: &Reader<'_>, context: &TurnContext) -> Result<Vec<StoredImage>> {
    let conversation = &context.conversation;
    let newest = &conversation[conversation.len().saturating_sub(IMAGE_MESSAGES)..];
    let (Some(first), Some(last)) = (newest.first(), newest.last()) else {
        return Ok(Vec::new());
    };
    attachments::images(reader, context.session.id, first.id, last.id, MAX_IMAGES)
}

/// Builds a history in which user and assistant alternate. A message that a failed turn left
/// unanswered is joined with the next one.
fn history(conversation: &[ConversationMessage], images: Vec<StoredImage>) -> Vec<HistoryMessage> {
    let mut history: Vec<HistoryMessage> = Vec::new();
    let mut images = images.into_iter().peekable();
    for source in conversation {
        let content = match source.role {
            MessageRole::User => Cow::Borrowed(source.content.as_str()),
            MessageRole::Assistant => without_thoughts(&source.content),
        };
        if source.role == MessageRole::Assistant && content.is_empty() {
            continue;
        }
        let is_joined = history.last().is_some_and(|last| last.role == source.role);
        if !is_joined {
            history.push(HistoryMessage {
                role: source.role,
                text: String::new(),
                images: Vec::new(),
            });
        }
        let Some(message) = history.last_mut() else {
            continue;
        };
        let images_before = message.images.len();
        while let Some(image) = images.next_if(|image| image.message == source.id) {
            message.images.push(Image {
                mime: image.mime.as_str().to_owned(),
                bytes: image.content,
            });
        }
        let has_only_hidden_files = source.role == MessageRole::User
            && content.is_empty()
            && message.images.len() == images_before;
        // Some models reject an empty message.
        let text = if has_only_hidden_files {
            HIDDEN_FILE
        } else {
            &*content
        };
        if !message.text.is_empty() && !text.is_empty() {
            message.text.push_str("\n\n");
        }
        message.text.push_str(text);
    }
    history
}

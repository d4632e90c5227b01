//! Chooses the responder of a turn, and reads what it may see (contract, section 13).

mod prompt;
mod speakers;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::openai;
use super::reasoning::{Lesson, Marks, Unopened};
use super::responder::{Completion, FinishReason, Prompt, ResponderError};
use crate::error::{Code, Error, Result};
use crate::knowledge::builtin::{self, BuiltinPrompt, word_by_word};
use crate::knowledge::passage_index::PassageIndex;
use crate::knowledge::{html, mentions};
use crate::model::answer::Chunk;
use crate::model::article::Article;
use crate::model::ids::{SessionId, TurnId};
use crate::model::session::Session;
use crate::model::words::{Audience, MessageRole, ModelTier};
use crate::store::agents::AgentRecord;
use crate::store::articles::{self, ArticleScope};
use crate::store::companies::{self, CompanyRecord};
use crate::store::messages::{self, ConversationMessage};
use crate::store::{Extent, Reader, Store, agents, reasoning, sessions, tenants};

/// The capacity of the index cache. A full cache is cleared, which costs only rebuilds.
const MAX_CACHED_INDEXES: usize = 256;
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
    unopened: Unopened,
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

/// The code of a turn that could not be prepared because the database did not answer. The engine
/// runs such a turn again.
pub const OVERLOADED: &str = "overloaded";

impl Responders {
    /// Creates the responders. A `model` replaces the built-in one.
    pub fn new(model: Option<openai::Client>) -> Self {
        Self {
            model,
            unopened: Unopened::default(),
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
                let (context, files) = store
                    .read_on_pool(move |reader| {
                        let files = prompt::files(reader, &context)?;
                        Ok((context, files))
                    })
                    .await
                    .map_err(not_prepared)?;
                let (prompt, sources) = tokio::task::spawn_blocking(move || {
                    prompt::build(&context, files, &index, turn_ref.tier)
                })
                .await
                .map_err(|error| not_prepared(Error::Internal(error.into())))?
                .map_err(not_prepared)?;
                let completion =
                    answer_with_model(model, store, &self.unopened, prompt, chunks).await?;
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
        let (version, visible) = store
            .read_on_pool(move |reader| {
                let version = articles::version(reader, read_scope.tenant)?;
                Ok((version, articles::visible(reader, &read_scope)?))
            })
            .await?;
        // The reader is free again while the articles are indexed.
        let index = tokio::task::spawn_blocking(move || {
            let visible: Vec<Article> = visible
                .into_iter()
                .map(|article| Article {
                    id: article.id,
                    title: article.title,
                    body: html::text_of(&article.body).into_owned(),
                    url: article.url,
                })
                .collect();
            PassageIndex::build(&visible)
        })
        .await
        .map_err(|error| Error::Internal(error.into()))??;
        let index = Arc::new(Mutex::new(index));
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
        code: if error.is(Code::Overloaded) {
            OVERLOADED
        } else {
            "internal_error"
        },
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

/// Makes a model answer, and learns from its answers whether they begin within a thought.
async fn answer_with_model(
    model: &openai::Client,
    store: &Store,
    unopened: &Unopened,
    prompt: Prompt,
    chunks: mpsc::Sender<Chunk>,
) -> Result<Completion, ResponderError> {
    if let Some(marks) = model.marks() {
        return model.answer(prompt, marks, chunks, &|_| {}).await;
    }
    let name = model.name(prompt.tier);
    let known = name.clone();
    let is_unopened = store
        .read(move |reader| reasoning::is_unopened(reader, &known))
        .await
        .map_err(not_prepared)?;
    let mentions_thoughts = prompt.mentions_thoughts();
    let marks = if is_unopened {
        Marks::Unopened
    } else if mentions_thoughts {
        Marks::Tagged
    } else {
        Marks::Learned
    };
    let learn = |beginning| {
        if mentions_thoughts {
            return;
        }
        let Some(lesson) = unopened.note(&name, beginning, is_unopened) else {
            return;
        };
        let (model, endpoint) = (&name.model, &name.endpoint);
        match lesson {
            Lesson::Learn => log::warn!(
                "model: {model} of {endpoint} ends a thought that it did not begin: from now on, its answers are shown once </think> has come; --model-reasoning=tagged turns that off"
            ),
            Lesson::Unlearn => log::warn!(
                "model: {model} of {endpoint} no longer ends thoughts that it did not begin: from now on, its answers are shown as they come"
            ),
        }
        let name = name.clone();
        // The task does not await this change, because the writer commits it before the end of this
        // turn.
        drop(store.write(Extent::Statement, move |tx| match lesson {
            Lesson::Learn => reasoning::learn_unopened(tx, &name),
            Lesson::Unlearn => reasoning::unlearn_unopened(tx, &name),
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

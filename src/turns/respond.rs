//! Who writes an answer, and what they are told: never more than the session may see (contract, section 13).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::openai;
use super::responder::{Completion, Failure, FinishReason, HistoryMessage, Image, Question};
use crate::error::{Code, Error, Result};
use crate::knowledge::builtin::{self, BuiltinQuestion, word_by_word};
use crate::knowledge::passage_index::PassageIndex;
use crate::knowledge::question::Names;
use crate::model::answer::Chunk;
use crate::model::article::Article;
use crate::model::ids::{SessionId, TurnId};
use crate::model::session::Session;
use crate::model::words::{Audience, MessageRole, ModelTier};
use crate::store::agents::AgentRecord;
use crate::store::articles::{self, ArticleScope};
use crate::store::attachments::{self, Shown};
use crate::store::companies::{self, CompanyRecord};
use crate::store::messages::{self, ConversationMessage};
use crate::store::{Reader, Store, agents, sessions, tenants};

/// Indexes that are kept; one more makes room by dropping them all, which costs a rebuild and no answer.
const INDEXES: usize = 256;
/// Passages that a model is given.
const PASSAGES: usize = 6;

/// Images that a model is shown at most: each can be large, and many turns run at one time.
const IMAGES: usize = 4;
/// Of how many messages, from the newest, those images can be.
const SHOWN_MESSAGES: usize = 8;

/// What a model is told of a message that is nothing but files that it is not shown.
const UNSEEN: &str = "(The user sent a file that you cannot see.)";

/// Which turn is to be answered.
#[derive(Clone, Copy, Debug)]
pub struct TurnRef {
    /// Its session.
    pub session: SessionId,
    /// The turn.
    pub turn: TurnId,
    /// Which model is to answer.
    pub tier: ModelTier,
}

/// The built-in responder, and a model if one is configured.
pub struct Responders {
    model: Option<openai::Client>,
    indexes: Arc<Indexes>,
}

/// Indexes over the articles that a session may see, by what it may see and the articles' version.
type Indexes = Mutex<HashMap<ArticleScope, (i64, Arc<Mutex<PassageIndex>>)>>;

/// All that a responder may know of a turn.
struct Facts {
    session: Session,
    agent: AgentRecord,
    tenant: String,
    company: Option<CompanyRecord>,
    said: Vec<ConversationMessage>,
    sight: ArticleScope,
    version: i64,
}

impl Responders {
    /// The built-in responder, or a model before it.
    pub fn new(model: Option<openai::Client>) -> Self {
        Self {
            model,
            indexes: Arc::default(),
        }
    }

    /// Has a turn answered; chunks come as they are said.
    ///
    /// # Errors
    /// A [`Failure`] that a user can read.
    pub async fn respond(
        &self,
        store: &Store,
        turn_ref: TurnRef,
        chunks: mpsc::Sender<Chunk>,
    ) -> Result<Completion, Failure> {
        let facts = store
            .read(move |reader| facts(reader, turn_ref))
            .await
            .map_err(unprepared)?;
        let index = self.index(store, &facts).await.map_err(unprepared)?;
        match &self.model {
            None => answer_built_in(facts, index, chunks).await,
            Some(model) => {
                let store = store.clone();
                let question = tokio::task::spawn_blocking(move || {
                    let images = store.read_now(|reader| images(reader, &facts))?;
                    question(&facts, images, &index, turn_ref.tier)
                })
                .await
                .map_err(|error| unprepared(Error::Internal(error.into())))?
                .map_err(unprepared)?;
                model.answer(question, chunks).await
            }
        }
    }

    /// The index of what a session may see, built anew when an article has changed.
    async fn index(&self, store: &Store, facts: &Facts) -> Result<Arc<Mutex<PassageIndex>>> {
        let sight = facts.sight.clone();
        {
            let indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((version, index)) = indexes.get(&sight)
                && *version == facts.version
            {
                return Ok(Arc::clone(index));
            }
        }
        let seen = sight.clone();
        let (version, index) = store
            .read_aside(move |reader| {
                let version = articles::version(reader, seen.tenant)?;
                let visible: Vec<Article> = articles::visible(reader, &seen)?
                    .into_iter()
                    .map(|article| Article {
                        id: article.id,
                        title: article.title,
                        body: article.body,
                        url: article.url,
                    })
                    .collect();
                let index = PassageIndex::build(&visible)?;
                Ok((version, Arc::new(Mutex::new(index))))
            })
            .await?;
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if indexes.len() >= INDEXES && !indexes.contains_key(&sight) {
            indexes.clear();
        }
        indexes.insert(sight, (version, Arc::clone(&index)));
        Ok(index)
    }
}

fn unprepared(error: Error) -> Failure {
    Failure {
        code: "internal_error",
        message: "The assistant could not prepare an answer. Please try again in a moment."
            .to_owned(),
        log: error.to_string(),
    }
}

fn facts(reader: &Reader<'_>, turn_ref: TurnRef) -> Result<Facts> {
    let session = sessions::by_id(reader, turn_ref.session)?.ok_or(Code::NotFound)?;
    let tenant = session.internals.tenant;
    let agent = agents::of_tenant(reader, tenant, session.agent_id)?.ok_or(Code::AgentDisabled)?;
    let company = match &session.end_company_id {
        Some(company) => companies::by_id(reader, tenant, company)?,
        None => None,
    };
    // A session with a company is its staff's, whatever its agent has become.
    let audience = match session.end_company_id {
        Some(_) => Audience::EndUser,
        None => agent.audience,
    };
    let sight = ArticleScope {
        tenant,
        agent: session.agent_id,
        audience,
        company: session.end_company_id.clone(),
    };
    Ok(Facts {
        tenant: tenants::by_no(reader, tenant)?.name,
        said: messages::conversation(reader, turn_ref.session, turn_ref.turn)?,
        version: articles::version(reader, tenant)?,
        session,
        agent,
        company,
        sight,
    })
}

impl Facts {
    /// The user's own messages, oldest first.
    fn asked(&self) -> Vec<String> {
        let of_user = |said: &&ConversationMessage| said.role == MessageRole::User;
        self.said
            .iter()
            .filter(of_user)
            .map(|said| said.content.clone())
            .collect()
    }
}

async fn answer_built_in(
    facts: Facts,
    index: Arc<Mutex<PassageIndex>>,
    chunks: mpsc::Sender<Chunk>,
) -> Result<Completion, Failure> {
    let composed = tokio::task::spawn_blocking(move || {
        let index = index.lock().unwrap_or_else(PoisonError::into_inner);
        builtin::compose(
            &BuiltinQuestion {
                messages: &facts.asked(),
                agent: &facts.agent.name,
                welcome_message: facts.agent.agent_settings.welcome_message.as_deref(),
                company: facts
                    .company
                    .as_ref()
                    .map(|company| company.psa_company_name.as_str()),
                tenant: &facts.tenant,
                audience: facts.sight.audience,
            },
            &index,
        )
    })
    .await
    .map_err(|error| unprepared(Error::Internal(error.into())))?
    .map_err(|error| unprepared(Error::Internal(error.into())))?;
    for chunk in composed {
        match chunk {
            Chunk::Text(text) => {
                for word in word_by_word(&text) {
                    if chunks.send(Chunk::Text(word.to_owned())).await.is_err() {
                        break;
                    }
                }
            }
            Chunk::Reasoning(_) | Chunk::SourceUrl { .. } | Chunk::SourceDocument { .. } => {
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
        }
    }
    Ok(Completion {
        finish_reason: FinishReason::Stop,
        usage: None,
    })
}

/// What a model is asked: instructions, what the articles say, and the conversation.
fn question(
    facts: &Facts,
    images: Vec<Shown>,
    index: &Mutex<PassageIndex>,
    tier: ModelTier,
) -> Result<Question> {
    let mut system = format!(
        "You are {}, an assistant of the managed service provider {}.",
        facts.agent.name, facts.tenant
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
        facts.agent.agent_settings.custom_instructions.as_deref(),
    );
    if let (Some(company), Some(_)) = (&facts.company, &facts.session.end_company_id) {
        add(
            "You are talking to staff of this company:",
            Some(&company.psa_company_name),
        );
        add(
            "Instructions for this company:",
            company.custom_instructions_for_user_facing_chat.as_deref(),
        );
    }
    let asked = facts.asked();
    let index = index.lock().unwrap_or_else(PoisonError::into_inner);
    let company = facts.company.as_ref();
    let names = Names {
        agent: &facts.agent.name,
        company: company.map(|company| company.psa_company_name.as_str()),
    };
    let hits = builtin::find(&asked, names, &index)?;
    let passages: Vec<String> = hits
        .iter()
        .take(PASSAGES)
        .filter_map(|hit| {
            let article = index.articles().get(hit.article)?;
            Some(format!("## {}\n{}", article.title, hit.passage))
        })
        .collect();
    add(
        "Knowledge articles that may help:",
        Some(&passages.join("\n\n")),
    );
    Ok(Question {
        tier,
        system,
        history: history(&facts.said, images),
    })
}

/// The newest images of what was said last.
fn images(reader: &Reader<'_>, facts: &Facts) -> Result<Vec<Shown>> {
    let last_said = &facts.said[facts.said.len().saturating_sub(SHOWN_MESSAGES)..];
    let (Some(first), Some(last)) = (last_said.first(), last_said.last()) else {
        return Ok(Vec::new());
    };
    attachments::images(reader, facts.session.id, first.id, last.id, IMAGES)
}

/// User and assistant in turn: what a failed turn left unanswered is joined to what was said next.
fn history(said: &[ConversationMessage], images: Vec<Shown>) -> Vec<HistoryMessage> {
    let mut history: Vec<HistoryMessage> = Vec::new();
    let mut images = images.into_iter().peekable();
    for said in said {
        let is_joined = history.last().is_some_and(|last| last.role == said.role);
        if !is_joined {
            history.push(HistoryMessage {
                role: said.role,
                text: String::new(),
                images: Vec::new(),
            });
        }
        let Some(message) = history.last_mut() else {
            continue;
        };
        let shown = message.images.len();
        while let Some(image) = images.next_if(|image| image.message == said.id) {
            message.images.push(Image {
                mime: image.mime.as_str().to_owned(),
                bytes: image.content,
            });
        }
        let is_unseen = said.role == MessageRole::User
            && said.content.is_empty()
            && message.images.len() == shown;
        // Some models refuse a message that says and shows nothing.
        let text = if is_unseen { UNSEEN } else { &said.content };
        if !message.text.is_empty() && !text.is_empty() {
            message.text.push_str("\n\n");
        }
        message.text.push_str(text);
    }
    history
}

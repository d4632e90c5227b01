//! No session ever gets another company's articles: neither in an answer nor in a model's prompt,
//! and no answer changes because of them.

use serde_json::{Value, json};

use crate::event_reader::Events;
use crate::scripted_model::{Reply as ModelReply, ScriptedModel};
use crate::support::{ApiClient, Server, agent, channel};

/// The bot that both MSPs' white-label channels carry.
const BOT: &str = "b07b07b0-7b07-4b07-8b07-b07b07b07b07";
/// The MSPs, each with the first digit of its agents and of its companies' M365 tenants.
const MSPS: [(&str, i64); 2] = [("north", 1), ("south", 2)];
const COMPANIES: [&str; 2] = ["alpha", "beta"];
const RELAY: &str = "neo_sk_demo_platform00000";

/// An article's owner, and who may see it.
#[derive(Clone, Debug)]
struct Article {
    msp: &'static str,
    audience: &'static str,
    company: Option<&'static str>,
    /// The only agent that may use it.
    agent: Option<i64>,
}

impl Article {
    /// A word that only this article contains.
    fn marker(&self) -> String {
        let place = self.company.unwrap_or("shared");
        let audience = self.audience.replace('_', "").to_lowercase();
        let agent = self
            .agent
            .map_or(String::new(), |agent| format!("only{agent}"));
        format!("zq{}{audience}{place}{agent}", self.msp)
    }

    fn seed(&self) -> Value {
        let marker = self.marker();
        json!({
            "title": format!("How to handle {marker}"),
            "body": format!("Press the {marker} button twice and wait for the {marker} lamp."),
            "audience": self.audience,
            "end_company_id": self.company,
            "agent_ids": self.agent.map_or(json!([]), |agent| json!([agent])),
        })
    }
}

/// Every kind of article: per MSP, per audience, shared or of one company, for all agents or one.
fn articles() -> Vec<Article> {
    let mut articles = Vec::new();
    for (msp, number) in MSPS {
        for (audience, first_agent) in [("END_USER", number * 100 + 1), ("MSP", number * 100 + 11)]
        {
            for company in [None, Some("alpha"), Some("beta")] {
                for agent in [None, Some(first_agent), Some(first_agent + 1)] {
                    articles.push(Article {
                        msp,
                        audience,
                        company,
                        agent,
                    });
                }
            }
        }
    }
    articles
}

fn directory(msp: i64, company: usize) -> String {
    format!("{msp}{company}000000-4be4-4e4d-8a4d-0e0d0c0b0a09")
}

fn key_of(msp: &str) -> String {
    format!("neo_sk_demo_{msp}000000000")
}

fn tenant(msp: &str, number: i64, articles: &[Article]) -> Value {
    let own = articles.iter().filter(|article| article.msp == msp);
    let installs: Vec<Value> = (0..COMPANIES.len())
        .map(|company| json!({ "end_client_tenant_id": directory(number, company) }))
        .collect();
    let mut white_label = channel("White label", "END_USER", BOT, number * 100 + 1);
    white_label["installs"] = json!(installs);
    json!({
        "client_id": msp, "name": format!("The {msp} desk"),
        // Each audience has an agent that answers and another one with its own articles.
        "agents": [
            agent(number * 100 + 1, "END_USER"), agent(number * 100 + 2, "END_USER"),
            agent(number * 100 + 11, "MSP"), agent(number * 100 + 12, "MSP"),
        ],
        "end_companies": COMPANIES.iter().enumerate().map(|(at, company)| json!({
            "psa_company_id": company, "psa_company_name": format!("{company} of {msp}"),
            "tenant_id": directory(number, at),
            "custom_instructions_for_user_facing_chat": format!("Instructions of {company} of {msp}."),
        })).collect::<Vec<_>>(),
        "channels": [white_label],
        "knowledge_articles": own.map(Article::seed).collect::<Vec<_>>(),
        "api_keys": [{ "name": "own", "key": key_of(msp), "platform": false }],
    })
}

fn world(articles: &[Article]) -> Value {
    let mut tenants: Vec<Value> = MSPS
        .iter()
        .map(|(msp, number)| tenant(msp, *number, articles))
        .collect();
    tenants.push(json!({
        "client_id": "relay", "name": "Relay",
        "api_keys": [{ "name": "relay", "key": RELAY, "platform": true }],
    }));
    json!({ "tenants": tenants })
}

/// A caller that asks questions.
struct Asker<'a> {
    server: &'a Server,
    client: ApiClient,
    key: String,
    body: Value,
    msp: &'static str,
    company: Option<&'static str>,
    agent: i64,
}

impl Asker<'_> {
    fn may_see(&self, article: &Article) -> bool {
        let in_reach = match self.company {
            Some(company) => {
                article.audience == "END_USER" && article.company.is_none_or(|of| of == company)
            }
            None => true,
        };
        article.msp == self.msp && in_reach && article.agent.is_none_or(|agent| agent == self.agent)
    }

    /// Asks a question in a new session; returns the stream without its ids.
    fn ask(&self, question: &str) -> String {
        let session = self.client.session(self.body.clone());
        self.client.append_text(&session, question).expect(202);
        let events = Events::open(self.server.address, &self.key, &session, "since=0-0").rest();
        let envelopes: Vec<Value> = crate::event_reader::joined(&events)[1..].to_vec();
        json!(envelopes).to_string()
    }
}

/// Each company's end user, each MSP's technician, and each MSP's second agents.
fn askers(server: &Server) -> Vec<Asker<'_>> {
    let mut askers = Vec::new();
    for (msp, number) in MSPS {
        for (at, company) in COMPANIES.into_iter().enumerate() {
            askers.push(Asker {
                server,
                client: server.with_credential(RELAY),
                key: RELAY.to_owned(),
                body: json!({
                    "managed_agent_key": "NEO_SUPPORT", "bot_id": BOT, "inbound_tenant_id": directory(number, at),
                }),
                msp,
                company: Some(company),
                agent: number * 100 + 1,
            });
            let tried = number * 100 + 2;
            askers.push(Asker {
                server,
                client: server.with_credential(&key_of(msp)),
                key: key_of(msp),
                body: json!({ "agent_id": tried, "end_company_id": company }),
                msp,
                company: Some(company),
                agent: tried,
            });
        }
        for agent in [number * 100 + 11, number * 100 + 12] {
            askers.push(Asker {
                server,
                client: server.with_credential(&key_of(msp)),
                key: key_of(msp),
                body: json!({ "agent_id": agent }),
                msp,
                company: None,
                agent,
            });
        }
    }
    askers
}

/// The markers that a text contains as whole words.
fn shown<'a>(text: &str, markers: &'a [String]) -> Vec<&'a String> {
    let words: Vec<&str> = text
        .split(|letter: char| !letter.is_alphanumeric())
        .collect();
    markers
        .iter()
        .filter(|marker| words.contains(&marker.as_str()))
        .collect()
}

#[test]
fn every_session_gets_the_articles_it_may_see_and_no_others() {
    let articles = articles();
    let markers: Vec<String> = articles.iter().map(Article::marker).collect();
    let server = Server::answering_from(&world(&articles), &[]);
    for asker in askers(&server) {
        for article in &articles {
            let marker = article.marker();
            let answer = asker.ask(&format!("How do I handle {marker}?"));
            let expected: Vec<&String> = markers
                .iter()
                .filter(|known| **known == marker && asker.may_see(article))
                .collect();
            assert_eq!(
                shown(&answer, &markers),
                expected,
                "{} asked for {marker}",
                asker.body
            );
        }
        // A question with the words of all articles finds only the visible ones.
        let answer = asker.ask("Which button do I press, and which lamp do I wait for?");
        let shown = shown(&answer, &markers);
        for article in articles.iter().filter(|article| !asker.may_see(article)) {
            assert!(
                !shown.contains(&&article.marker()),
                "{} saw {article:?}",
                asker.body
            );
        }
    }
}

#[test]
fn a_models_prompt_contains_no_article_that_its_session_may_not_see() {
    let articles = articles();
    let markers: Vec<String> = articles.iter().map(Article::marker).collect();
    let model = ScriptedModel::start(vec![ModelReply::answer("All right.")]);
    let server = Server::with_world_and_model(&world(&articles).to_string(), &model, &[]);
    for asker in askers(&server) {
        for article in &articles {
            let marker = article.marker();
            let before = model.requests().len();
            asker.ask(&format!("How do I handle the button {marker}?"));
            let requests = model.requests();
            assert_eq!(requests.len(), before + 1);
            let prompt = requests[before].body["messages"][0].clone();
            assert_eq!(prompt["role"], "system");
            let prompt = prompt["content"].as_str().unwrap();
            let shown = shown(prompt, &markers);
            assert_eq!(
                shown.contains(&&marker),
                asker.may_see(article),
                "{} about {marker}: {prompt}",
                asker.body
            );
            for other in articles.iter().filter(|other| !asker.may_see(other)) {
                assert!(
                    !shown.contains(&&other.marker()),
                    "{} was given {other:?}",
                    asker.body
                );
            }
            for (msp, _) in MSPS {
                for company in COMPANIES {
                    let instructions = format!("Instructions of {company} of {msp}.");
                    let own = asker.msp == msp && asker.company == Some(company);
                    assert_eq!(
                        prompt.contains(&instructions),
                        own,
                        "{}: {prompt}",
                        asker.body
                    );
                }
            }
        }
    }
}

#[test]
fn other_companies_articles_never_change_an_answer_by_a_byte() {
    let all = articles();
    let markers: Vec<String> = all.iter().map(Article::marker).collect();
    let all_words = markers.join(" ");
    let mut questions: Vec<String> = (markers.iter())
        .map(|marker| format!("How do I handle {marker}?"))
        .collect();
    questions.extend(
        [
            "Which button do I press?",
            "Hello",
            "What can you do?",
            "Is the lamp broken?",
        ]
        .map(str::to_owned),
    );
    let server = Server::answering_from(&world(&all), &[]);
    for asker in askers(&server) {
        let hears_all = || -> Vec<String> {
            questions
                .iter()
                .map(|question| asker.ask(question))
                .collect()
        };
        let before = hears_all();
        // Many more articles that this session may not see, with exactly the words of the question.
        let foreign: Vec<&Article> = all
            .iter()
            .filter(|article| !asker.may_see(article))
            .collect();
        for (msp, _) in MSPS {
            let more: Vec<Value> = (foreign.iter().enumerate())
                .filter(|(_, article)| article.msp == msp)
                .map(|(at, article)| {
                    let mut seed = article.seed();
                    seed["title"] = json!(format!("Added {at} to handle {}", article.marker()));
                    seed["body"] = json!(format!("Press the button, handle the lamp. {all_words}"));
                    seed
                })
                .collect();
            server.import_tenant(msp, json!({ "knowledge_articles": more }));
        }
        assert_eq!(hears_all(), before, "{} after more was added", asker.body);
        let removed =
            server.execute_sql("DELETE FROM knowledge_articles WHERE title LIKE 'Added %'");
        assert_eq!(removed, foreign.len());
        server.execute_sql("UPDATE tenants SET knowledge_version = knowledge_version + 1");
        assert_eq!(hears_all(), before, "{} after it was removed", asker.body);
    }
}

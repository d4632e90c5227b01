//! What an answer looks like in Teams.

use serde_json::{Value, json};

use super::outbox::Outbox;
use crate::scripted_model::{Reply, ScriptedModel};

/// The answer to a question, as the chat shows it.
fn shown(model: Option<&str>, question: &str) -> Value {
    let outbox = match model {
        Some(text) => Outbox::with_model(&ScriptedModel::start(vec![Reply::answer(text)])),
        None => Outbox::new(),
    };
    let group = outbox.group();
    outbox.ask(&group, question);
    outbox.connector.wait_for_texts(&group.id, 1);
    let state = outbox.connector.state();
    state.shown(&group.id)[0].activity.clone()
}

#[test]
fn a_table_of_the_answer_is_a_list_and_code_stays_as_it_is() {
    let answer = "## Ports\n\n| Name | Port |\n|---|---|\n| HTTP | 80 |\n\n```\n| a | b |\n```";
    let activity = shown(Some(answer), "Which ports?");
    let text = activity["text"].as_str().unwrap();
    let body = text.split("\n\n[1]").next().unwrap();
    assert_eq!(
        body,
        "**Ports**\n\n- **Name:** HTTP; **Port:** 80\n\n```\n| a | b |\n```"
    );
}

#[test]
fn the_sources_of_an_answer_are_citations_whose_numbers_are_in_the_text() {
    let activity = shown(None, "How do I reset my password?");
    let text = activity["text"].as_str().unwrap();
    let entity = &activity["entities"][0];
    assert_eq!(entity["type"], "https://schema.org/Message");
    assert_eq!(entity["additionalType"], json!(["AIGeneratedContent"]));
    let citations = entity["citation"].as_array().unwrap();
    assert!(!citations.is_empty() && citations.len() <= 20);
    for citation in citations {
        let mark = format!("[{}]", citation["position"]);
        assert!(text.contains(&mark), "{text}");
        let appearance = &citation["appearance"];
        let chars = |name: &str| appearance[name].as_str().unwrap().chars().count();
        assert!((1..=80).contains(&chars("name")) && (1..=160).contains(&chars("abstract")));
        assert_ne!(appearance["name"], appearance["abstract"]);
    }
}

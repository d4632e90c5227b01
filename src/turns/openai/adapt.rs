//! Decides how to ask a model server again that has refused a request: without an optional part of
//! the request that the server does not take, or with less history (contract, section 13, What a
//! server does not take, and Context).
//!
//! The loop in [`Client::answer`](super::Client::answer) asks [`Adapter::adapt`] after each refusal
//! and sends another request if the answer is `true`. Another way to adapt is one more arm there:
//! recognize the refusal in [`Refusal`], change a field of the adapter that
//! [`request::body`](super::request::body) reads, and return `true`. The arm must give up after a
//! bounded number of tries. If requests after a success should be adapted too,
//! [`Client::remember`](super::Client) keeps the field in [`Traits`](super::learned::Traits).

use reqwest::StatusCode;
use tokio::time::Instant;

use super::context::{Context, Limit};
use super::learned::Traits;
use super::refusal::Refusal;
use crate::turns::responder::Prompt;

/// The most adapted requests for one answer.
const MAX_TRIES: usize = 8;

/// An optional part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The images of the user's messages. A line of text replaces each.
    Images,
    /// The field `stream_options`, without which many servers report no usage.
    StreamOptions,
    /// The message with the role `system`. Its text goes in front of the first user message.
    SystemRole,
}

impl Part {
    /// All parts, in the order in which they are left out on suspicion. Images are first: only some
    /// requests have any, so that they are suspect in a request that has some.
    pub(super) const ALL: [Self; 3] = [Self::Images, Self::StreamOptions, Self::SystemRole];

    /// What the log says about a server that does not take the part.
    pub(super) fn consequence(self) -> &'static str {
        match self {
            Self::Images => "images: it gets a line of text in their place",
            Self::StreamOptions => "stream_options: it may report no usage",
            Self::SystemRole => {
                "the role system: it gets that text in front of the first user message"
            }
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Images => 1,
            Self::StreamOptions => 2,
            Self::SystemRole => 4,
        }
    }
}

/// A set of optional parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts(u8);

impl Parts {
    pub(super) fn has(self, part: Part) -> bool {
        self.0 & part.bit() != 0
    }

    pub(super) fn with(self, part: Part) -> Self {
        Self(self.0 | part.bit())
    }

    fn without(self, part: Part) -> Self {
        Self(self.0 & !part.bit())
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Part> {
        Part::ALL.into_iter().filter(move |part| self.has(*part))
    }
}

impl FromIterator<Part> for Parts {
    fn from_iter<I: IntoIterator<Item = Part>>(parts: I) -> Self {
        parts.into_iter().fold(Self::default(), Self::with)
    }
}

/// What the requests for one answer leave out.
pub(super) struct Adapter {
    /// How much of the history the next request has.
    context: Context,
    /// The optional parts that the prompt needs.
    present: Parts,
    /// The parts that earlier answers taught to leave out.
    remembered: Parts,
    /// The parts that every further request leaves out: the remembered ones, and those that
    /// refusals named.
    kept: Parts,
    /// The parts that the newest request leaves out.
    omitted: Parts,
    /// The part that the newest request leaves out because the refusal before named it.
    named: Option<Part>,
    /// The named parts without which the refusal stayed the same.
    unhelpful: Parts,
    /// What is left to try if refusals name nothing, last first.
    guesses: Option<Vec<Parts>>,
    /// The context of the operator's flag, in tokens.
    configured_tokens: usize,
    /// Whether the model may take other images.
    may_take_images: bool,
    /// Whether a refusal said that the model takes no images.
    takes_no_images: bool,
    tries: usize,
}

impl Adapter {
    /// Starts with the parts that earlier answers taught to leave out, and with a history of up to
    /// `configured_tokens`, or fewer if earlier answers taught that.
    pub(super) fn new(prompt: &Prompt, traits: &Traits, configured_tokens: usize) -> Self {
        let now = Instant::now();
        let remembered = traits.omitted(now);
        let context_tokens = traits.context_tokens(configured_tokens, now);
        let has_images = prompt
            .history
            .iter()
            .any(|message| !message.images.is_empty());
        let is_present = |part: &Part| match part {
            Part::Images => has_images,
            Part::StreamOptions | Part::SystemRole => true,
        };
        Self {
            context: Context::of(prompt, context_tokens),
            present: Part::ALL.into_iter().filter(is_present).collect(),
            remembered,
            kept: remembered,
            omitted: remembered,
            named: None,
            unhelpful: Parts::default(),
            guesses: None,
            configured_tokens,
            may_take_images: false,
            takes_no_images: false,
            tries: 0,
        }
    }

    /// The parts that the next request leaves out.
    pub(super) fn omitted(&self) -> Parts {
        self.omitted
    }

    /// The first message of the history that the next request has.
    pub(super) fn first_message(&self) -> usize {
        self.context.first()
    }

    /// The bound of later prompts in estimated tokens, if a refusal taught it.
    pub(super) fn learned_tokens(&self) -> Option<usize> {
        self.context.learned()
    }

    /// Changes what the next request leaves out. Returns whether there is anything left to try.
    pub(super) fn adapt(&mut self, refusal: &Refusal) -> bool {
        if refusal.is_by_content_filter() {
            return false;
        }
        if refusal.is_for_length() && !self.blames_images(refusal) {
            let configured = Limit::Configured(self.configured_tokens);
            let limit = refusal.context_tokens.map_or(configured, Limit::Named);
            if self.context.halve(Some(limit)) {
                return true;
            }
        }
        if self.omit_more(refusal) {
            return true;
        }
        // A refusal that names no cause may mean the length too.
        self.omitted = self.kept;
        !refusal.suspects().is_empty() && self.context.halve(None)
    }

    /// Whether a refusal may be for the images of the newest request.
    fn blames_images(&self, refusal: &Refusal) -> bool {
        let is_413 = refusal.status == StatusCode::PAYLOAD_TOO_LARGE;
        self.sends_images() && (is_413 || refusal.names(Part::Images))
    }

    /// Leaves out one more part, or another one.
    fn omit_more(&mut self, refusal: &Refusal) -> bool {
        if self.tries == MAX_TRIES {
            return false;
        }
        self.tries += 1;
        if let Some(part) = self.named.take()
            && refusal.names(part)
        {
            self.kept = self.kept.without(part);
            self.unhelpful = self.unhelpful.with(part);
        }
        self.may_take_images |= refusal.is_about_these_images();
        self.takes_no_images |= refusal.is_about_any_images();
        let is_left = |part: &Part| self.present.has(*part) && !self.kept.has(*part);
        let named = Part::ALL
            .into_iter()
            .filter(is_left)
            .find(|part| refusal.names(*part) && !self.unhelpful.has(*part));
        if let Some(part) = named {
            self.named = Some(part);
            self.kept = self.kept.with(part);
            self.guesses = None;
            self.omitted = self.kept;
            return true;
        }
        let kept = self.kept;
        let guesses = self.guesses.get_or_insert_with(|| {
            let suspects: Vec<Part> = refusal.suspects().iter().copied().filter(is_left).collect();
            let all = suspects.iter().copied().fold(kept, Parts::with);
            let mut guesses: Vec<Parts> = suspects.iter().map(|part| kept.with(*part)).collect();
            if guesses.len() > 1 {
                guesses.push(all);
            }
            guesses.reverse();
            guesses
        });
        match guesses.pop() {
            Some(guess) => {
                self.omitted = guess;
                true
            }
            None => false,
        }
    }

    /// Whether the newest request has images.
    pub(super) fn sends_images(&self) -> bool {
        self.present.has(Part::Images) && !self.omitted.has(Part::Images)
    }

    /// Whether a refusal proves that the model does not take a part. Pictures are of many kinds, so
    /// that a server which refuses some without a reason may take others.
    pub(super) fn is_certain(&self, part: Part) -> bool {
        match part {
            Part::Images => self.takes_no_images,
            Part::StreamOptions | Part::SystemRole => true,
        }
    }

    /// The parts without which the newest request succeeded, if that holds for later requests too.
    pub(super) fn learned(&self) -> impl Iterator<Item = Part> {
        let (remembered, keeps_images) = (self.remembered, self.may_take_images);
        self.omitted
            .iter()
            .filter(move |part| !remembered.has(*part))
            .filter(move |part| *part != Part::Images || !keeps_images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{SessionId, Tick};
    use crate::model::words::{MessageRole, ModelTier};
    use crate::turns::responder::{HistoryMessage, Image};

    fn adapter(has_image: bool) -> Adapter {
        let image = Image {
            label: "image/png".to_owned(),
            mime: "image/png".to_owned(),
            bytes: vec![1],
        };
        let prompt = Prompt {
            session: SessionId::new(Tick(1), 0),
            tier: ModelTier::Fast,
            system: "Be kind.".to_owned(),
            history: vec![HistoryMessage {
                role: MessageRole::User,
                text: "Hello?".to_owned(),
                images: if has_image { vec![image] } else { Vec::new() },
            }],
        };
        Adapter::new(&prompt, &Traits::default(), 1_000)
    }

    fn refusal(status: u16, body: &str) -> Refusal {
        Refusal::new(StatusCode::from_u16(status).unwrap(), body.to_owned())
    }

    /// What the requests leave out until the server takes one, or gives up.
    fn requests(has_image: bool, refuses: impl Fn(Parts) -> Option<Refusal>) -> Vec<Vec<Part>> {
        let mut adapter = adapter(has_image);
        let mut requests = vec![Vec::new()];
        while let Some(refusal) = refuses(adapter.omitted()) {
            if !adapter.adapt(&refusal) {
                break;
            }
            requests.push(adapter.omitted().iter().collect());
        }
        requests
    }

    #[test]
    fn a_part_that_the_refusal_names_is_left_out_at_once() {
        for (status, body, part) in [
            (
                422,
                r#"{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"input":{"x":"system image"}}]}"#,
                Part::StreamOptions,
            ),
            (
                400,
                "Unrecognized request argument supplied: stream_options",
                Part::StreamOptions,
            ),
            (
                400,
                r#"{"error":{"message":"System role not supported"}}"#,
                Part::SystemRole,
            ),
            (
                500,
                r#"{"error":{"message":"Conversation roles must alternate user/assistant (template)"}}"#,
                Part::SystemRole,
            ),
            (
                400,
                "Developer instruction is not enabled for this model",
                Part::SystemRole,
            ),
            (
                404,
                "No endpoints found that support image input",
                Part::Images,
            ),
            (
                500,
                "image input is not supported; provide the mmproj",
                Part::Images,
            ),
            (
                400,
                "messages[1]: unknown variant `image_url`, expected `text`",
                Part::Images,
            ),
            (
                422,
                r#"{"detail":[{"loc":["body","messages",1,"content"],"msg":"Input should be a valid string"}]}"#,
                Part::Images,
            ),
        ] {
            let asked = requests(true, |omitted| {
                (!omitted.has(part)).then(|| refusal(status, body))
            });
            assert_eq!(asked, [vec![], vec![part]], "{body}");
        }
    }

    #[test]
    fn parts_that_are_named_one_after_the_other_are_all_left_out() {
        let asked = requests(true, |omitted| {
            if !omitted.has(Part::StreamOptions) {
                Some(refusal(400, "stream_options"))
            } else if !omitted.has(Part::Images) {
                Some(refusal(400, "no vision"))
            } else {
                None
            }
        });
        assert_eq!(
            asked,
            [
                vec![],
                vec![Part::StreamOptions],
                vec![Part::Images, Part::StreamOptions]
            ]
        );
    }

    #[test]
    fn without_a_name_each_part_is_left_out_alone_and_then_all_are() {
        let asked = requests(true, |_| Some(refusal(400, "bad request")));
        assert_eq!(
            asked,
            [
                vec![],
                vec![Part::Images],
                vec![Part::StreamOptions],
                vec![Part::SystemRole],
                Part::ALL.to_vec(),
            ]
        );
        let asked = requests(false, |_| Some(refusal(422, "")));
        let both = vec![Part::StreamOptions, Part::SystemRole];
        assert_eq!(
            asked,
            [vec![], both[..1].to_vec(), both[1..].to_vec(), both]
        );
        let asked = requests(true, |_| Some(refusal(413, "<html>too large</html>")));
        assert_eq!(asked, [vec![], vec![Part::Images]]);
    }

    #[test]
    fn a_name_that_does_not_help_is_not_kept() {
        // The word is in the text, but the cause is another part.
        let asked = requests(false, |omitted| {
            (!omitted.has(Part::StreamOptions)).then(|| refusal(400, "the system said no"))
        });
        assert_eq!(
            asked,
            [vec![], vec![Part::SystemRole], vec![Part::StreamOptions]]
        );
    }

    #[test]
    fn a_refusal_for_another_cause_is_final_and_tries_are_bounded() {
        for (status, body) in [
            (401, "system image stream_options"),
            (403, ""),
            (404, "no such model"),
            (408, ""),
            (400, "Incorrect API key"),
            (400, "The model `x` does not exist"),
            (
                400,
                r#"{"error":{"code":"content_filter","message":"system"}}"#,
            ),
            (503, "image"),
            (301, ""),
        ] {
            let asked = requests(true, |_| Some(refusal(status, body)));
            assert_eq!(asked, [vec![]], "{status} {body}");
        }
        let everything = "stream_options system image";
        let asked = requests(true, |_| Some(refusal(400, everything)));
        assert!(asked.len() <= MAX_TRIES, "{asked:?}");
    }

    #[test]
    fn only_what_made_the_request_succeed_is_learned() {
        let learned = |has_image, replies: &[&str]| {
            let mut adapter = adapter(has_image);
            for body in replies {
                assert!(adapter.adapt(&refusal(400, body)));
            }
            adapter.learned().collect::<Vec<_>>()
        };
        assert_eq!(learned(false, &["", ""]), [Part::SystemRole]);
        assert_eq!(learned(true, &["no images"]), [Part::Images]);
        // Another image may be valid.
        for body in [
            "Invalid image: cannot decode",
            "The image length and width do not meet the model restrictions. Both must be larger than 10.",
            "You uploaded an unsupported image. Use one of these formats: png, jpeg",
            "Unsupported image type: image/avif",
        ] {
            assert_eq!(learned(true, &[body]), [], "{body}");
        }
    }

    #[test]
    fn a_refusal_of_images_is_certain_only_if_it_speaks_of_support() {
        for (body, is_certain) in [
            ("image input is not supported", true),
            ("this model has no vision", true),
            ("provide the mmproj for images", true),
            ("unknown variant `image_url`, expected `text`", true),
            ("messages.1.content: Input should be a valid string", true),
            ("not a multimodal model", true),
            ("bad image", false),
            ("system role not supported", false),
            ("", false),
        ] {
            let mut adapter = adapter(true);
            assert!(adapter.adapt(&refusal(400, body)));
            assert_eq!(adapter.is_certain(Part::Images), is_certain, "{body}");
        }
    }
}

// A conversation: its history, the answer that is being written, and a composer.

import { call, events, path, post } from './api.js';
import { composer } from './composer.js';
import { h, icon, setContent } from './dom.js';
import { markdown } from './markdown.js';
import { ENDINGS, attachment, messageFrame, nameOf, plainText, rating, showSources, thinking, versions } from './message.js';
import { button, errorText, failure, notice, time } from './components.js';

const PAGE = 50;
/** Unanswered questions of a page whose turns are loaded. */
const TURNS_LOADED = 10;
/** A growing answer is drawn at most this often. */
const DRAW_MS = 60;
const RETRY_MS = [500, 1_000, 2_000, 5_000, 10_000];
/** A reader this close to the end of the page follows the answer as it grows. */
const NEAR_END_PX = 140;

function isNearEnd() {
  const page = document.documentElement;
  return page.scrollHeight - scrollY - innerHeight < NEAR_END_PX;
}
const scrollToEnd = () => scrollTo(0, document.documentElement.scrollHeight);

/**
 * A conversation. Returns an element that follows the session until `signal` aborts. Options:
 *
 * - `session`
 * - `people`: the names of who asks and who answers, `{ user, assistant }`
 * - `writes`: adds a composer, and controls to rate answers
 * - `opening`: `{ welcome, prompts }`, shown while the session has no message
 */
export function conversation(options) {
  const shown = new Conversation(options);
  shown.begin();
  return shown.element;
}

class Conversation {
  /** The frames of answers by message id, and of questions by turn. */
  answers = new Map();
  questions = new Map();
  /** The turns whose answer has started, which are no longer queued. */
  begun = new Set();
  /** The turns that were shown as ended without an answer, which the stream can repeat. */
  ended = new Set();
  /** How turns ended that have no whole answer, as elements. */
  endings = new Map();
  /** The answer that is being written, as `startAnswer` makes it. */
  running = null;
  composer = null;

  messages = h('ol.messages', { 'aria-label': 'Conversation' });
  earlier = h('div.paging');
  status = h('p.visually-hidden', { role: 'status' });
  connection = h('div');
  start = h('div');

  constructor({ session, signal, people, writes, opening }) {
    Object.assign(this, { session, signal, people, writes, opening });
    if (writes) this.composer = composer(session, { sent: (reply, text, attachments) => this.showSent(reply, text, attachments) });
    this.element = h('div.conversation', this.earlier, this.start, this.messages, this.connection, this.status, this.composer?.element);
  }

  async begin() {
    try {
      const found = await this.loadPage();
      if (found.length === 0 && this.opening) setContent(this.start, this.greeting());
      if (found.length > 0 && this.writes) scrollToEnd();
    } catch (error) {
      if (!this.signal.aborted) setContent(this.earlier, failure(error, () => this.begin()));
      return;
    }
    this.follow();
  }

  greeting() {
    const { welcome, prompts } = this.opening;
    return [
      welcome && h('div.welcome', markdown(welcome)),
      this.writes && prompts?.length > 0
        && h('div.prompts', prompts.map((prompt) => button(prompt, () => this.composer.ask(prompt), { small: true }))),
    ];
  }

  listMessages(query) {
    return call('GET', path`/chat/sessions/${this.session.id}/messages`, { query, signal: this.signal });
  }

  /** Shows a page of stored messages: the latest one, or the one that `cursor` leads to. */
  async loadPage(cursor) {
    const query = { order: 'desc', page_size: PAGE, cursor };
    const { data, meta } = await this.listMessages(query);
    for (const message of data) this.insert(this.showStored(message, query), message.id);
    if (cursor !== undefined || this.earlier.childElementCount === 0) this.offerEarlier(meta.pagination);
    await this.explainUnanswered(data);
    return data;
  }

  offerEarlier({ has_more: hasMore, next_cursor: cursor }) {
    setContent(this.earlier, hasMore && button('Show earlier messages', async () => {
      const fromEnd = document.documentElement.scrollHeight - scrollY;
      await this.loadPage(cursor);
      scrollTo(0, document.documentElement.scrollHeight - fromEnd);
    }, { small: true }));
  }

  /** Shows the state of turns that have no answer: failed, cancelled or queued. */
  async explainUnanswered(messages) {
    const answered = new Set(messages.filter(({ role }) => role === 'assistant').map((message) => message.chat_turn_id));
    const open = messages.filter((message) => message.role === 'user' && !answered.has(message.chat_turn_id));
    await Promise.all(open.slice(0, TURNS_LOADED).map((message) => this.explainTurn(message.chat_turn_id)));
  }

  async explainTurn(id) {
    const turn = (await call('GET', path`/chat/sessions/${this.session.id}/turns/${id}`, { signal: this.signal })).data;
    // A turn that was read before its answer started can be out of date.
    if (this.begun.has(id)) return;
    const question = this.questions.get(id);
    if (turn.status === 'FAILED' || turn.status === 'CANCELLED') {
      this.ended.add(id);
      this.showEnding(question, turn.status === 'FAILED' ? 'bad' : 'warn', turn.error?.message ?? 'Stopped before the answer started.', id);
    } else if (turn.status === 'QUEUED') {
      setContent(question.state, h('div.ending.info', h('span', 'Queued.')));
    }
  }

  /**
   * Shows how a turn ended, with a button that asks again. Screen readers announce the end of a
   * turn that `isLive`.
   */
  showEnding(frame, kind, text, turn, isLive = false) {
    const ending = h(`div.ending.${kind}`, { role: isLive ? 'alert' : null }, icon('warn'), h('span', text));
    setContent(frame.state, ending);
    this.endings.set(turn, ending);
    this.offerAgain(turn);
  }

  /** Adds the button that asks again. An answer can end before its question is known. */
  offerAgain(turn) {
    const ending = this.endings.get(turn);
    const text = this.questions.get(turn)?.text;
    if (!this.composer || !text || !ending || ending.querySelector('button')) return;
    ending.append(button('Ask again', () => this.composer.ask(text), { small: true }));
  }

  /**
   * Draws a stored message and returns its frame. `query` loads the page of messages that it is on.
   */
  showStored(message, query) {
    const isAnswer = message.role === 'assistant';
    const old = isAnswer ? this.answers.get(message.id) : this.question(message);
    if (old?.isComplete && (isAnswer || old.text === message.content)) return old;
    const frame = old ?? messageFrame(message.role, this.people[message.role]);
    frame.isComplete = true;
    frame.id = message.id;
    frame.text = message.content;
    setContent(frame.author, h('bdi', nameOf(message) ?? this.people[message.role]));
    setContent(frame.when, time(message.created_at));
    if (isAnswer) this.fillAnswer(frame, message);
    else this.fillQuestion(frame, message);
    setContent(frame.files, message.attachments.map((item) => attachment(item, message.id, () => this.listMessages(query))));
    return frame;
  }

  /** The frame of a stored question, which moves to another turn when it is answered again. */
  question(message) {
    const known = this.questions.get(message.chat_turn_id) ?? [...this.questions.values()].find(({ id }) => id === message.id);
    if (known && this.questions.get(message.chat_turn_id) !== known) {
      known.isAskedAgain = true;
      this.questions.set(message.chat_turn_id, known);
    }
    return known;
  }

  /** Asks for another answer to the question of an answer. */
  async regenerate(answer) {
    await post(path`/chat/sessions/${this.session.id}/messages/${answer}/regenerate`);
    await this.loadPage();
  }

  /** The controls below an answer: its rating, and another answer if it is the last one. */
  foot(frame, message) {
    setContent(frame.foot, rating(this.session, message.id, message.feedback, this.writes),
      h('div.row',
        versions(this.session, message),
        this.writes && h('span.again', button('Answer again', () => this.regenerate(message.id), { kind: 'quiet', small: true }))));
  }

  fillAnswer(frame, message) {
    this.answers.set(message.id, frame);
    for (const { id } of message.versions) {
      if (id !== message.id) this.answers.get(id)?.element.remove();
    }
    this.beginTurn(message.chat_turn_id);
    const thoughts = message.parts.filter((part) => part.type === 'reasoning').map((part) => part.text);
    setContent(frame.body, reasoning(thoughts.join('\n\n')), markdown(message.content));
    showSources(frame, message.parts.filter((part) => part.type.startsWith('source-')));
    this.foot(frame, message);
    const [kind, text] = ENDINGS[message.finish_reason] ?? [];
    if (kind) this.showEnding(frame, kind, text, message.chat_turn_id);
  }

  fillQuestion(frame, message) {
    this.questions.set(message.chat_turn_id, frame);
    setContent(frame.body, plainText(message.content));
    this.offerAgain(message.chat_turn_id);
  }

  /** Shows a message that this page has just sent. */
  showSent(reply, text, attachments) {
    const frame = this.questions.get(reply.chat_turn_id) ?? messageFrame('user', this.people.user);
    Object.assign(frame, { id: reply.user_message_id, text });
    this.questions.set(reply.chat_turn_id, frame);
    setContent(frame.when, time(new Date().toISOString()));
    setContent(frame.body, plainText(text));
    setContent(frame.files, attachments.map((file) => h('li', h('span.file', icon('file'), h('bdi', file.filename)))));
    this.insert(frame, reply.user_message_id);
    this.offerAgain(reply.chat_turn_id);
    scrollToEnd();
  }

  /** Inserts a message. The ids of messages are in the order of time. */
  insert(frame, id) {
    frame.element.dataset.id = id;
    if (frame.element.isConnected) return;
    const next = [...this.messages.children].find((item) => item.dataset.id > id);
    this.messages.insertBefore(frame.element, next ?? null);
    setContent(this.start);
  }

  /** Reads the stream of events. After an error, the stream is resumed at the last cursor. */
  async follow() {
    let since;
    let failures = 0;
    while (!this.signal.aborted) {
      try {
        for await (const { id, envelope } of events(this.session.id, { follow: true, since }, this.signal)) {
          since = id;
          failures = 0;
          this.connection.replaceChildren();
          this.apply(envelope);
        }
      } catch (error) {
        if (this.signal.aborted) return;
        if ([401, 403, 404].includes(error.status)) {
          setContent(this.connection, notice('warn', 'This session can no longer be read.', h('p', errorText(error))));
          return;
        }
        if (error.status === 400) since = undefined;
        setContent(this.connection, notice('warn', 'The connection was lost. Reconnecting.', h('p', errorText(error))));
      }
      const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
      failures += 1;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  /** Applies an event of the stream. */
  apply(envelope) {
    switch (envelope.type) {
      case 'start':
        clearTimeout(this.running?.timer);
        this.running = this.startAnswer(envelope.messageId, envelope.messageMetadata?.chat_turn_id);
        if (this.running) this.composer?.runs(true);
        break;
      case 'finish':
        this.endAnswer(...(ENDINGS[envelope.finishReason] ?? []));
        break;
      case 'abort':
        this.endAnswer('warn', 'Stopped.');
        break;
      case 'error':
        this.endAnswer('bad', envelope.errorText);
        break;
      default:
        if (this.running && addTo(this.running, envelope)) this.drawSoon(this.running);
    }
  }

  /** Notes that the answer of a turn has started, so that its question is not shown as queued. */
  beginTurn(turn) {
    this.begun.add(turn);
    this.questions.get(turn)?.state.replaceChildren();
  }

  /** The state of a new answer, or null if the turn is already shown to its end. */
  startAnswer(id, turn) {
    const known = this.answers.get(id);
    if (known?.isComplete || this.ended.has(turn)) return null;
    const frame = known ?? messageFrame('assistant', this.people.assistant);
    this.answers.set(id, frame);
    this.insert(frame, id);
    this.beginTurn(turn);
    if (!this.questions.has(turn)) this.loadPage().catch(() => {});
    frame.element.setAttribute('aria-busy', 'true');
    setContent(frame.state, thinking());
    return { id, turn, frame, text: '', reasoning: '', sources: [], drawn: 0, timer: null };
  }

  draw(answer) {
    answer.timer = null;
    answer.drawn = Date.now();
    const follows = isNearEnd();
    setContent(answer.frame.body,
      reasoning(answer.reasoning), markdown(answer.text));
    showSources(answer.frame, answer.sources);
    if (follows) scrollToEnd();
  }

  drawSoon(answer) {
    answer.timer ??= setTimeout(() => this.draw(answer), Math.max(0, answer.drawn + DRAW_MS - Date.now()));
  }

  /** Ends the running answer. `kind` and `text` say why an answer is incomplete. */
  endAnswer(kind, text) {
    const answer = this.running;
    this.running = null;
    if (answer) {
      clearTimeout(answer.timer);
      this.draw(answer);
      answer.frame.isComplete = true;
      answer.frame.element.removeAttribute('aria-busy');
      answer.frame.state.replaceChildren();
      setContent(answer.frame.when, time(new Date().toISOString()));
      if (answer.text !== '') this.foot(answer.frame, { id: answer.id, feedback: null, versions: [] });
      if (kind) this.showEnding(answer.frame, kind, text, answer.turn, true);
      // The stored answer names the earlier ones, which it replaces here.
      const question = this.questions.get(answer.turn);
      if (answer.text !== '' && (!question || question.isAskedAgain)) {
        answer.frame.isComplete = false;
        this.loadPage().catch(() => {});
      }
      this.status.textContent = kind ? '' : 'The answer is complete.';
      if (isNearEnd()) scrollToEnd();
    }
    this.composer?.runs(false);
  }
}

/** What the model thought before its answer, folded; nothing without a thought. */
const reasoning = (text) => text !== '' && h('details.reasoning', h('summary', 'Reasoning'), markdown(text));

/** Adds an event to an answer. True if the event changed the answer. */
function addTo(answer, envelope) {
  switch (envelope.type) {
    case 'text-start':
      if (answer.text !== '') answer.text += '\n\n';
      return true;
    case 'text-delta':
      answer.text += envelope.delta;
      return true;
    case 'reasoning-delta':
      answer.reasoning += envelope.delta;
      return true;
    case 'source-url':
    case 'source-document':
      answer.sources.push(envelope);
      return true;
    default:
      return false;
  }
}

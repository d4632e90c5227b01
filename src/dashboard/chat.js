// A conversation: what was said, the answer as it is being said, and a place to write.

import { address, call, events, path, post, put, refusal } from './api.js';
import { h, icon, newId, refill } from './dom.js';
import { markdown } from './markdown.js';
import { badge, button, dialog, failure, iconButton, notice, say, sentence, time } from './parts.js';
import { form } from './form.js';

const PAGE = 50;
/** How often a growing answer is drawn. */
const DRAW_MS = 60;
/** Signed links to files live 15 minutes (contract, section 5). */
const LINK_MS = 14 * 60_000;
const FILES = 'image/png,image/jpeg,image/gif,image/webp,application/pdf,text/plain,text/csv,application/msword,'
  + 'application/vnd.openxmlformats-officedocument.wordprocessingml.document,application/vnd.openxmlformats-officedocument.spreadsheetml.sheet';
const MOST_FILES = 6;
const RETRY_MS = [500, 1_000, 2_000, 5_000, 10_000];

/** A signed link, to the server that this page came from: it may be known to others by another name. */
function ours(link) {
  const { pathname, search } = new URL(link);
  const url = address(pathname.slice(pathname.indexOf('/chat/attachments/')));
  url.search = search;
  return url.href;
}

const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Keeps the end of the page in view while it grows, if that is where the reader is. */
function atTheEnd() {
  const page = document.documentElement;
  return page.scrollHeight - scrollY - innerHeight < 140;
}
const toTheEnd = () => scrollTo(0, document.documentElement.scrollHeight);

/**
 * A conversation of a session. `people` names who asks and who answers; `writes` gives a place to write and to rate; `opening` is shown while
 * nothing was said: `{ welcome, prompts }`. Gives an element; it follows the session until `signal` ends.
 */
export function conversation({ session, signal, people, writes, opening }) {
  const messages = h('ol.messages', { 'aria-label': 'Conversation' });
  const earlier = h('div.paging');
  const status = h('p.unseen', { role: 'status' });
  const connection = h('div');
  const start = h('div');
  /** What is shown, by message id, and by turn for what people wrote. */
  const answers = new Map();
  const questions = new Map();
  let running = null;
  let writing = null;

  function attachment(item, page, message) {
    const name = item.filename ?? item.alt ?? 'file';
    const fetched = Date.now();
    const open = async (event) => {
      if (Date.now() - fetched < LINK_MS) return;
      event.preventDefault();
      const { data } = await call('GET', path`/chat/sessions/${session.id}/messages`, { query: page, signal });
      const fresh = data.find((row) => row.id === message)?.attachments.find((row) => row.blob_path === item.blob_path);
      if (fresh) location.assign(ours(fresh.url));
    };
    const link = h('a.file', { href: ours(item.url), onclick: (event) => open(event).catch((error) => say(sentence(error), 'bad')) },
      item.mime.startsWith('image/') ? h('img.thumbnail', { src: ours(item.url), alt: item.alt ?? name, loading: 'lazy' }) : [icon('file'), h('bdi', name)]);
    return h('li', link);
  }

  function feedback(bubble, id, given) {
    let rated = given;
    const up = iconButton('Good answer', 'thumb_up', () => rate('UP'));
    const down = iconButton('Bad answer', 'thumb_down', () => rate('DOWN'));
    const comment = button('Comment', () => dialog('What was right or wrong?', (close) => form({
      fields: [{ name: 'comment', label: 'Comment', kind: 'textarea', nullable: true }],
      values: rated,
      async submit(values) {
        await store({ rating: rated?.rating ?? null, ...values });
        close();
      },
    }).element), { kind: 'quiet', small: true });
    const said = h('span.muted');
    const draw = () => {
      up.setAttribute('aria-pressed', String(rated?.rating === 'UP'));
      down.setAttribute('aria-pressed', String(rated?.rating === 'DOWN'));
      comment.hidden = !rated?.rating;
      refill(said, rated?.comment && ['“', h('bdi', rated.comment), '”']);
    };
    const store = async (values) => {
      const { data } = await put(path`/chat/sessions/${session.id}/messages/${id}/feedback`, values);
      rated = data.feedback ?? null;
      draw();
    };
    const rate = (rating) => store({ rating: rated?.rating === rating ? null : rating, comment: rated?.rating === rating ? null : rated?.comment ?? null });
    if (writes) {
      draw();
      refill(bubble.foot, h('div.row', up, down, comment, said));
    } else if (given?.rating) {
      refill(bubble.foot, h('div.row', badge(given.rating === 'UP' ? 'Rated good' : 'Rated bad', given.rating === 'UP' ? 'good' : 'bad'),
        given.comment && h('span.muted', '“', h('bdi', given.comment), '”')));
    }
  }

  /** The frame of one message. */
  function bubble(role) {
    const body = h('div.said');
    const files = h('ul.files');
    const sources = h('div.sources');
    const state = h('div.state');
    const foot = h('div.feedback');
    const when = h('span.when');
    const element = h(`li.message.${role}`, h('div.message-head', h('strong', people[role]), when), body, files, sources, state, foot);
    return { element, body, files, sources, state, foot, when, isWhole: false };
  }

  function drawSources(place, sources) {
    refill(place, sources.length > 0 && [h('p.sources-title', sources.length === 1 ? 'Source' : 'Sources'),
      h('ul', sources.map((source) => h('li', source.type === 'source-url'
        ? h('a', { href: /^https?:/i.test(source.url) ? source.url : null, target: '_blank', rel: 'noopener noreferrer' }, h('bdi', source.title ?? source.url))
        : [icon('file'), h('bdi', source.title)])))]);
  }

  const ENDINGS = {
    cancelled: ['warn', 'Stopped before the end.'],
    error: ['bad', 'The answer broke off.'],
    length: ['warn', 'Cut at the longest length.'],
    'content-filter': ['warn', 'Held back by the model’s content filter.'],
  };

  function ending(shown, kind, text, turn) {
    const question = questions.get(turn);
    refill(shown.state, h(`div.ending.${kind}`, icon('warn'), h('span', text),
      writing && question?.text && button('Ask again', () => writing.ask(question.text), { small: true })));
  }

  /** Draws a stored message. */
  function stored(message, page) {
    const old = message.role === 'assistant' ? answers.get(message.id) : questions.get(message.chat_turn_id);
    if (old?.isWhole) return old;
    const shown = old ?? bubble(message.role);
    shown.isWhole = true;
    shown.id = message.id;
    shown.text = message.content;
    refill(shown.when, time(message.created_at));
    if (message.role === 'assistant') {
      answers.set(message.id, shown);
      refill(shown.body, markdown(message.content));
      drawSources(shown.sources, message.parts.filter((part) => part.type.startsWith('source-')));
      feedback(shown, message.id, message.feedback);
      const [kind, text] = ENDINGS[message.finish_reason] ?? [];
      if (kind) ending(shown, kind, text, message.chat_turn_id);
    } else {
      questions.set(message.chat_turn_id, shown);
      refill(shown.body, h('p.plain', { dir: 'auto' }, message.content));
    }
    refill(shown.files, message.attachments.map((item) => attachment(item, page, message.id)));
    return shown;
  }

  /** Puts messages in their order, which is that of their ids. */
  function place(shown, id) {
    shown.element.dataset.id = id;
    if (shown.element.isConnected) return;
    const next = [...messages.children].find((item) => item.dataset.id > id);
    messages.insertBefore(shown.element, next ?? null);
    refill(start);
  }

  async function page(cursor) {
    const query = { order: 'desc', page_size: PAGE, cursor };
    const { data, meta } = await call('GET', path`/chat/sessions/${session.id}/messages`, { query, signal });
    for (const message of data) place(stored(message, query), message.id);
    if (cursor !== undefined || earlier.childElementCount === 0) {
      refill(earlier, meta.pagination.has_more && button('Show earlier messages', async () => {
        const below = document.documentElement.scrollHeight - scrollY;
        await page(meta.pagination.next_cursor);
        scrollTo(0, document.documentElement.scrollHeight - below);
      }, { small: true }));
    }
    // A question whose turn came to nothing has no answer to say so.
    const open = data.filter((message) => message.role === 'user' && !data.some((other) => other.role === 'assistant' && other.chat_turn_id === message.chat_turn_id));
    await Promise.all(open.slice(0, 10).map(async (message) => {
      const turn = (await call('GET', path`/chat/sessions/${session.id}/turns/${message.chat_turn_id}`, { signal })).data;
      const question = questions.get(message.chat_turn_id);
      if (turn.status === 'FAILED' || turn.status === 'CANCELLED') {
        ending(question, turn.status === 'FAILED' ? 'bad' : 'warn', turn.error?.message ?? 'Stopped before the answer began.', message.chat_turn_id);
      } else if (turn.status === 'QUEUED') {
        refill(question.state, h('div.ending.info', h('span', 'Waits for its turn.')));
      }
    }));
    return data;
  }

  /** An answer that is being said. */
  function live(id, turn) {
    const known = answers.get(id);
    if (known?.isWhole) return null;
    const shown = known ?? bubble('assistant');
    answers.set(id, shown);
    place(shown, id);
    if (questions.has(turn)) questions.get(turn).state.replaceChildren();
    else page().catch(() => {});
    shown.element.setAttribute('aria-busy', 'true');
    refill(shown.state, h('div.thinking', h('span.unseen', 'The answer is being written.'), h('span.dot'), h('span.dot'), h('span.dot')));
    return { id, turn, shown, text: '', thought: '', sources: [], drawn: 0, timer: null };
  }

  function draw(answer) {
    answer.timer = null;
    answer.drawn = Date.now();
    const follows = atTheEnd();
    refill(answer.shown.body,
      answer.thought && h('details.thought', h('summary', 'Reasoning'), markdown(answer.thought)),
      markdown(answer.text));
    drawSources(answer.shown.sources, answer.sources);
    if (follows) toTheEnd();
  }
  const drawSoon = (answer) => {
    answer.timer ??= setTimeout(() => draw(answer), Math.max(0, answer.drawn + DRAW_MS - Date.now()));
  };

  function over(answer, kind, text) {
    clearTimeout(answer.timer);
    draw(answer);
    answer.shown.isWhole = true;
    answer.shown.element.removeAttribute('aria-busy');
    answer.shown.state.replaceChildren();
    refill(answer.shown.when, time(new Date().toISOString()));
    if (answer.text !== '') feedback(answer.shown, answer.id, null);
    if (kind) ending(answer.shown, kind, text, answer.turn);
    status.textContent = kind ? text : 'The answer is complete.';
    if (atTheEnd()) toTheEnd();
  }

  function take(envelope) {
    switch (envelope.type) {
      case 'start':
        clearTimeout(running?.timer);
        running = live(envelope.messageId, envelope.messageMetadata?.chat_turn_id);
        if (running) writing?.runs(true);
        return;
      case 'finish':
      case 'abort':
      case 'error':
        if (running) {
          if (envelope.type === 'finish') over(running, ...(ENDINGS[envelope.finishReason] ?? []));
          else if (envelope.type === 'abort') over(running, 'warn', 'Stopped.');
          else over(running, 'bad', envelope.errorText);
        }
        running = null;
        writing?.runs(false);
        return;
    }
    if (!running) return;
    switch (envelope.type) {
      case 'text-start':
        if (running.text !== '') running.text += '\n\n';
        break;
      case 'text-delta':
        running.text += envelope.delta;
        break;
      case 'reasoning-delta':
        running.thought += envelope.delta;
        break;
      case 'source-url':
      case 'source-document':
        running.sources.push(envelope);
        break;
      default:
        return;
    }
    drawSoon(running);
  }

  /** Follows the session from turn to turn; where the connection breaks it goes on at the cursor that it has. */
  async function follow() {
    let since;
    let failures = 0;
    while (!signal.aborted) {
      try {
        for await (const { id, envelope } of events(session.id, { follow: true, since }, signal)) {
          since = id;
          failures = 0;
          connection.replaceChildren();
          take(envelope);
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 404 || error.status === 403 || error.status === 401) {
          refill(connection, notice('warn', 'This session can no longer be read.', h('p', sentence(error))));
          return;
        }
        if (error.status === 400) since = undefined;
        refill(connection, notice('warn', 'The connection broke. It is tried again.', h('p', sentence(error))));
      }
      const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
      failures += 1;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  async function begin() {
    try {
      const found = await page();
      if (found.length === 0 && opening) refill(start, greeting());
      if (found.length > 0 && writes) toTheEnd();
    } catch (error) {
      if (!signal.aborted) refill(earlier, failure(error, begin));
      return;
    }
    follow();
  }

  const greeting = () => [
    opening.welcome && h('div.welcome', markdown(opening.welcome)),
    writes && opening.prompts?.length > 0 && h('div.prompts', opening.prompts.map((prompt) => button(prompt, () => writing.ask(prompt), { small: true }))),
  ];

  if (writes) {
    writing = composer(session, {
      sent(reply, text, attachments) {
        const shown = questions.get(reply.chat_turn_id) ?? bubble('user');
        shown.text = text;
        questions.set(reply.chat_turn_id, shown);
        refill(shown.when, time(new Date().toISOString()));
        refill(shown.body, h('p.plain', { dir: 'auto' }, text));
        refill(shown.files, attachments.map((file) => h('li', h('span.file', icon('file'), h('bdi', file.filename)))));
        place(shown, reply.user_message_id);
        toTheEnd();
      },
    });
  }
  const element = h('div.conversation', earlier, start, messages, connection, status, writing?.element);
  begin();
  return element;
}

/** The place to write: Enter sends, Shift and Enter begins a line; what could not be sent stays. */
function composer(session, { sent }) {
  const id = newId('message');
  const problem = h('div');
  const files = h('ul.files');
  /** `{ filename, mime, blob_path, element }`; without a `blob_path` it is on its way. */
  let attached = [];
  /** The name of the message that was last tried, so that a second try cannot make two of it. */
  let tried = null;

  const text = h('textarea.input', { id, rows: 2, placeholder: 'Write a message…', maxlength: 32_000, 'aria-describedby': `${id}-hint` });
  const file = h('input', { type: 'file', multiple: true, accept: FILES, hidden: true, 'aria-label': 'Files to attach' });
  const tier = h('select.input.tier', { 'aria-label': 'Model' }, [['FAST', 'Fast'], ['SMART', 'Smart']].map(([value, label]) => h('option', { value }, label)));
  const go = button('Send', null, { kind: 'primary', icon: 'send', type: 'submit' });
  const stop = button('Stop', () => post(path`/chat/sessions/${session.id}/cancel`), { icon: 'stop' });
  stop.hidden = true;

  async function attach(list) {
    problem.replaceChildren();
    for (const chosen of list) {
      if (attached.length >= MOST_FILES) {
        refill(problem, notice('bad', `A message carries at most ${MOST_FILES} files.`));
        return;
      }
      const item = { filename: chosen.name, mime: chosen.type, blob_path: null };
      const gone = () => {
        attached = attached.filter((other) => other !== item);
        item.element.remove();
        text.focus();
      };
      const state = h('span.muted', 'Uploading…');
      item.element = h('li', h('span.file', icon('file'), h('bdi', chosen.name), state, iconButton(`Remove ${chosen.name}`, 'close', gone)));
      attached.push(item);
      files.append(item.element);
      try {
        const offer = await post(path`/chat/sessions/${session.id}/attachments/upload-url`, { content_type: chosen.type, filename: chosen.name });
        const response = await fetch(ours(offer.upload_url), { method: 'PUT', body: chosen, headers: { 'Content-Type': chosen.type }, credentials: 'omit' });
        if (!response.ok) throw await refusal(response);
        item.blob_path = offer.blob_path;
        item.mime = offer.mime;
        state.remove();
      } catch (error) {
        gone();
        refill(problem, notice('bad', `${chosen.name} was not attached.`, h('p', sentence(error))));
      }
    }
  }

  async function ask(words, carried) {
    problem.replaceChildren();
    const attachments = carried.map(({ blob_path, mime, filename }) => ({ blob_path, mime, filename }));
    const body = { message: words, attachments, model_tier: tier.value };
    const same = JSON.stringify(body);
    if (tried?.same !== same) tried = { same, id: randomId() };
    let reply;
    try {
      reply = await post(path`/chat/sessions/${session.id}/messages`, { ...body, client_message_id: tried.id });
    } catch (error) {
      if (error.code !== 'duplicate_client_message') throw error;
      // It had arrived; only the reply to it was lost.
      reply = error.details;
    }
    tried = null;
    sent(reply, words, attachments);
  }

  const submit = async () => {
    const words = text.value.trim();
    if (go.getAttribute('aria-disabled') === 'true') return;
    if (attached.some((item) => item.blob_path === null)) {
      refill(problem, notice('warn', 'A file is still on its way.'));
      return;
    }
    if (words === '' && attached.length === 0) return;
    go.setAttribute('aria-disabled', 'true');
    try {
      await ask(words, attached);
      if (text.value.trim() === words) text.value = '';
      attached = [];
      files.replaceChildren();
    } catch (error) {
      refill(problem, notice('bad', 'This was not sent. It is still here.', h('p', sentence(error))));
    } finally {
      go.removeAttribute('aria-disabled');
      text.focus();
    }
  };

  text.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  });
  text.addEventListener('paste', (event) => {
    if (event.clipboardData.files.length > 0) {
      event.preventDefault();
      attach(event.clipboardData.files);
    }
  });
  file.addEventListener('change', () => {
    attach([...file.files]);
    file.value = '';
  });

  const element = h('form.composer', {
    onsubmit: (event) => {
      event.preventDefault();
      submit();
    },
    ondragover: (event) => event.preventDefault(),
    ondrop: (event) => {
      event.preventDefault();
      attach(event.dataTransfer.files);
    },
  },
  problem, files,
  h('label.unseen', { for: id }, 'Message'), text, file,
  h('div.composer-foot',
    button('Attach', () => file.click(), { icon: 'file', small: true }), tier,
    h('span.hint', { id: `${id}-hint` }, 'Enter sends, Shift and Enter begins a line.'),
    h('div.actions', stop, go)));

  return {
    element,
    /** Asks this, whatever stands in the field. */
    ask: (words) => ask(words, []),
    runs(isRunning) {
      stop.hidden = !isRunning;
    },
  };
}

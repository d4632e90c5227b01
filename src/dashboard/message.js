// One message of a conversation: its text, files, sources, state and rating.

import { get, path, put, signedAddress } from './api.js';
import { h, icon, setContent } from './dom.js';
import { form } from './form.js';
import { badge, button, dialog, errorText, iconButton, time, toast } from './components.js';

/**
 * A signed link is valid for 15 minutes (contract, section 5). A link of this age is loaded again.
 */
const LINK_MS = 14 * 60_000;

/** How an answer ended, by its `finish_reason`: kind and text. A complete answer has no entry. */
export const ENDINGS = {
  cancelled: ['warn', 'Stopped before the end.'],
  error: ['bad', 'The answer was interrupted.'],
  length: ['warn', 'The answer was cut at the maximum length.'],
  'content-filter': ['warn', 'The model’s content filter blocked the answer.'],
};

/** An empty message. `isComplete` is set when the message can no longer change. */
export function messageFrame(role, name) {
  const author = h('strong', h('bdi', name));
  const body = h('div.message-body');
  const files = h('ul.files');
  const sources = h('div.sources');
  const state = h('div.state');
  const foot = h('div.feedback');
  const when = h('span.when');
  const element = h(`li.message.${role}`, h('div.message-head', author, when), body, files, sources, state, foot);
  return { element, author, body, files, sources, state, foot, when, isComplete: false };
}

/** The name of who wrote a stored message. A program without a person has none that a reader knows. */
export const nameOf = ({ author }) => (author && author.kind !== 'service_account' ? author.name ?? author.id : null);

/** The text of a person, as it was typed. */
export const plainText = (text) => h('p.plain', { dir: 'auto' }, text);

export function showSources(frame, sources) {
  setContent(frame.sources, sources.length > 0 && [
    h('p.sources-title', sources.length === 1 ? 'Source' : 'Sources'),
    h('ul', sources.map((source) => h('li', sourceLink(source)))),
  ]);
}

function sourceLink(source) {
  if (source.type !== 'source-url') return [icon('file'), h('bdi', source.title)];
  const href = /^https?:/i.test(source.url) ? source.url : null;
  return h('a', { href, target: '_blank', rel: 'noopener noreferrer' }, h('bdi', source.title ?? source.url));
}

/** The animation that is shown until an answer is complete. */
export const thinking = () => h('div.thinking', h('span.visually-hidden', 'The answer is being written.'), h('span.dot'), h('span.dot'), h('span.dot'));

/** A file of a message. `reload` loads the page of messages that it is on, for a new link. */
export function attachment(item, messageId, reload) {
  const name = item.filename ?? item.alt ?? 'file';
  const fetched = Date.now();
  const openFresh = async (event) => {
    if (Date.now() - fetched < LINK_MS) return;
    event.preventDefault();
    const { data } = await reload();
    const fresh = data.find((row) => row.id === messageId)?.attachments.find((row) => row.blob_path === item.blob_path);
    if (fresh) location.assign(signedAddress(fresh.url));
  };
  const href = signedAddress(item.url);
  const onclick = (event) => openFresh(event).catch((error) => toast(errorText(error), 'bad'));
  return h('li', h('a.file', { href, onclick },
    item.mime.startsWith('image/') && item.mime !== 'image/heic'
      ? h('img.thumbnail', { src: href, alt: item.alt ?? name, loading: 'lazy' })
      : [icon('file'), h('bdi', name)]));
}

/**
 * The rating of an answer: controls if the person may rate it, else the existing rating, if any.
 */
export function rating(session, messageId, given, writes) {
  if (writes) return ratingControls(session, messageId, given);
  if (!given?.rating) return null;
  const isGood = given.rating === 'UP';
  return h('div.row', badge(isGood ? 'Rated good' : 'Rated bad', isGood ? 'good' : 'bad'),
    given.comment && h('span.muted', quoted(given.comment)));
}

/** The number of answers to the same question, with a dialog that shows the earlier ones. */
export function versions(session, { id, versions: all }) {
  const earlier = (all ?? []).filter((version) => version.id !== id);
  return earlier.length > 0 && button(earlier.length === 1 ? '1 earlier answer' : `${earlier.length} earlier answers`, async () => {
    const turns = await Promise.all(earlier.map((version) => get(path`/chat/sessions/${session.id}/turns/${version.chat_turn_id}`)));
    await dialog('Earlier answers', () => turns.map(({ assistant_message: answer }) => answer
      && h('section.stack', h('p.muted', time(answer.created_at)), plainText(answer.content), rating(session, answer.id, answer.feedback, false))));
  }, { kind: 'quiet', small: true });
}

const quoted = (text) => ['“', h('bdi', text), '”'];

function ratingControls(session, messageId, given) {
  let current = given;
  const up = iconButton('Good answer', 'thumb_up', () => toggle('UP'));
  const down = iconButton('Bad answer', 'thumb_down', () => toggle('DOWN'));
  const comment = button('Comment', () => askForComment(current, store), { kind: 'quiet', small: true });
  const commentText = h('span.muted');
  const draw = () => {
    up.setAttribute('aria-pressed', String(current?.rating === 'UP'));
    down.setAttribute('aria-pressed', String(current?.rating === 'DOWN'));
    comment.hidden = !current?.rating;
    setContent(commentText, current?.comment && quoted(current.comment));
  };
  const store = async (values) => {
    const { data } = await put(path`/chat/sessions/${session.id}/messages/${messageId}/feedback`, values);
    current = data.feedback ?? null;
    draw();
  };
  const toggle = (wanted) => store(current?.rating === wanted
    ? { rating: null, comment: null }
    : { rating: wanted, comment: current?.comment ?? null });
  draw();
  return h('div.row', up, down, comment, commentText);
}

function askForComment(rated, store) {
  return dialog('What was right or wrong?', (close) => form({
    fields: [{ name: 'comment', label: 'Comment', kind: 'textarea', nullable: true }],
    values: rated,
    async submit(values) {
      await store({ rating: rated?.rating ?? null, ...values });
      close();
    },
  }).element);
}

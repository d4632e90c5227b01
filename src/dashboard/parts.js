// The pieces that all views are made of: headings, notices, times, dialogs, buttons.

import { h, icon, newId, put, refill } from './dom.js';

/** The top of a view: its name, what it is for, and what can be done. */
export function heading(title, { lead, actions, back } = {}) {
  return h('header.heading',
    back && h('a.back', { href: back.href }, icon('back'), back.label),
    h('div.heading-row',
      h('h1', { tabindex: '-1' }, title),
      actions && h('div.actions', actions)),
    lead && h('p.lead', lead));
}

/** What stands in an address for the form of a new thing; no id is written so. */
const NEW = '+new';
export const newOf = (name) => `#/${name}/${NEW}`;

/** A view of a list, of one thing in it by its id, and of the form for a new one, which those alone are shown who may make one. */
export const resource = ({ list, fresh, one }) => (context) => {
  const [id] = context.parts;
  if (id === undefined) return list(context);
  return id === NEW && context.me.can.keep ? fresh(context) : one(context, id);
};

/** A part of a view under a heading of its own. */
export function section(title, ...children) {
  const id = newId('section');
  return h('section.section', { 'aria-labelledby': id }, h('h2', { id }, title), children);
}

/** A button. `run` may be asynchronous: until it is done the button cannot be pressed again. */
export function button(label, run, { kind = 'plain', icon: drawing, title, type = 'button', small } = {}) {
  const element = h(`button.button.${kind}`, { type, title, class: `button ${kind}${small ? ' small' : ''}` },
    drawing && icon(drawing), h('span', label));
  if (run) element.addEventListener('click', (event) => busy(element, () => run(event)));
  return element;
}

/** A button that shows a drawing alone; its name is told to those who hear the page. */
export function iconButton(label, drawing, run, attributes = {}) {
  const element = h('button.icon-button', { type: 'button', 'aria-label': label, title: label, ...attributes }, icon(drawing));
  if (run) element.addEventListener('click', (event) => busy(element, () => run(event)));
  return element;
}

/** Keeps a control from being used twice at once; what goes wrong is shown and not lost. */
export async function busy(control, run) {
  if (control.getAttribute('aria-disabled') === 'true') return;
  control.setAttribute('aria-disabled', 'true');
  try {
    await run();
  } catch (error) {
    if (error.name !== 'AbortError') say(sentence(error), 'bad');
  } finally {
    control.removeAttribute('aria-disabled');
  }
}

/** A link that looks like a button. */
export function linkButton(label, href, { kind = 'plain', icon: drawing } = {}) {
  return h('a', { class: `button ${kind}`, href }, drawing && icon(drawing), h('span', label));
}

/** What to say of an error. */
export function sentence(error) {
  if (error.code === 'rate_limited' && error.retryAfter) return `${error.message} Try again in ${error.retryAfter} s.`;
  if (error.code === 'internal_error' && error.requestId) return `${error.message} (request ${error.requestId})`;
  return error.message || String(error);
}

/** A short word of what was done, read out too. `kind`: `good` or `bad`. */
export function say(text, kind = 'good') {
  const toast = h(`div.toast.${kind}`, icon(kind === 'good' ? 'check' : 'warn'), h('span', text),
    iconButton('Close', 'close', () => toast.remove()));
  const toasts = document.getElementById('toasts');
  toasts.append(toast);
  // Shown anew, it lies above a dialog that was opened since.
  if (toasts.matches(':popover-open')) toasts.hidePopover();
  toasts.showPopover();
  if (kind === 'good') setTimeout(() => toast.remove(), 6_000);
}

/** A notice in its place. `kind`: `bad`, `warn`, `info`, `good`. */
export function notice(kind, title, ...children) {
  return h(`div.notice.${kind}`, { role: kind === 'bad' ? 'alert' : null }, icon(kind === 'good' ? 'check' : 'warn'),
    h('div', h('strong', title), children.length > 0 && h('div.notice-text', children)));
}

/** What is shown where a thing could not be had. */
export function failure(error, again) {
  return notice('bad', error.status === 404 ? 'This is not here, or not yours to see.' : 'This could not be loaded.',
    h('p', sentence(error)), again && button('Try again', again, { small: true }));
}

/** A place where nothing is yet: what it is, and what to do next. */
export function empty(title, text, action) {
  return h('div.empty', h('h2', title), text && h('p', text), action);
}

/** Grey lines in the place of what is being loaded. */
export function skeleton(lines = 3) {
  return h('div.skeleton', { 'aria-hidden': 'true' }, Array.from({ length: lines }, () => h('div.bone')));
}

/** Shows a skeleton in `place`, then what `load` gives, or why not. */
export async function fillIn(place, load, lines = 3) {
  place.setAttribute('aria-busy', 'true');
  refill(place, skeleton(lines));
  try {
    refill(place, await load());
  } catch (error) {
    if (error.name === 'AbortError') return;
    refill(place, failure(error, () => fillIn(place, load, lines)));
  } finally {
    place.removeAttribute('aria-busy');
  }
}

/** A word in a coloured frame. `kind`: `good`, `warn`, `bad`, `info`, `quiet`. */
export function badge(text, kind = 'quiet') {
  return h(`span.badge.${kind}`, text);
}

const SPANS = [[60, 'second', 1], [3_600, 'minute', 60], [86_400, 'hour', 3_600], [86_400 * 14, 'day', 86_400]];
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });

/** A time in the reader's zone, near ones by their distance; the exact one on hover. */
export function time(text, otherwise = 'never') {
  if (!text) return h('span.muted', otherwise);
  const moment = new Date(text);
  const seconds = (moment - Date.now()) / 1_000;
  const span = SPANS.find(([end]) => Math.abs(seconds) < end);
  const shown = span ? relative.format(Math.round(seconds / span[2]), span[1]) : day.format(moment);
  return h('time', { datetime: text, title: `${exact.format(moment)} (${text})` }, shown);
}

const counts = new Intl.NumberFormat();
/** A number as the reader writes it. */
export const number = (value) => counts.format(value);

/** One or many: `2 companies`. */
export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** A span of time in words. */
export function milliseconds(value) {
  if (value === null || value === undefined) return '–';
  return value < 1_000 ? `${number(Math.round(value))} ms` : `${number(Math.round(value / 100) / 10)} s`;
}

/** An identifier that can be read letter by letter, and copied. */
export function identifier(text) {
  return h('span.identifier', h('code', text), copyButton(text, `Copy ${text}`));
}

/** Copies a text. */
export function copyButton(text, label = 'Copy') {
  return iconButton(label, 'copy', async () => {
    if (!navigator.clipboard) throw new Error('Copying needs this page over https, or on this machine. Select the text instead.');
    await navigator.clipboard.writeText(text);
    say('Copied.');
  });
}

/** Pairs of a name and what it is. */
export function facts(pairs) {
  return h('dl.facts', pairs.filter(Boolean).map(([name, value]) => h('div', h('dt', name), h('dd', value ?? '–'))));
}

/**
 * A dialog. `build(close)` gives its content; what `close` is called with is what is waited for, null where it was left.
 * The focus goes back to where it was. One that `stays` is left by its own buttons alone.
 */
export function dialog(title, build, { wide, stays } = {}) {
  return new Promise((resolve) => {
    const id = newId('dialog');
    let result = null;
    const element = h('dialog', { class: wide ? 'dialog wide' : 'dialog', 'aria-labelledby': id });
    const close = (value = null) => {
      result = value;
      element.close();
    };
    put(element,
      h('header.dialog-head', h('h2', { id }, title), !stays && iconButton('Close', 'close', () => close())),
      h('div.dialog-body', build(close)));
    // A second press of Escape ends a dialog whatever is said of the first; so the key itself is held back.
    if (stays) element.addEventListener('keydown', (event) => event.key === 'Escape' && event.preventDefault());
    element.addEventListener('close', () => {
      element.remove();
      resolve(result);
    });
    document.body.append(element);
    element.showModal();
  });
}

/** Asks before something that cannot be undone; true if it shall be done. */
export async function confirm(title, text, action, { kind = 'danger' } = {}) {
  const answer = await dialog(title, (close) => [
    h('p', text),
    h('div.dialog-actions',
      button('Cancel', () => close(false)),
      button(action, () => close(true), { kind })),
  ]);
  return answer === true;
}

/** Has the browser keep a text as a file. */
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

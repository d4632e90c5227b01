// The components that views share: headings, notices, times, dialogs, buttons.

import { h, icon, newId, append, setContent } from './dom.js';
import { LOCALE } from './labels.js';

/** The top of a view: its title, its purpose, and its actions. */
export function heading(title, { lead, actions, back } = {}) {
  return h('header.heading',
    back && h('a.back', { href: back.href }, icon('back'), back.label),
    h('div.heading-row',
      h('h1', { tabindex: '-1' }, title),
      actions && h('div.actions', actions)),
    lead && h('p.lead', lead));
}

/** The part of an address that leads to the form of a new resource. No id can be `+new`. */
const NEW = '+new';
export const newPath = (name) => `#/${name}/${NEW}`;

/**
 * The view of a kind of resource: its list, one resource by its id, and the form of a new one,
 * which only people who may manage resources see.
 */
export const resource = ({ list, create, detail }) => (context) => {
  const [id] = context.parts;
  if (id === undefined) return list(context);
  return id === NEW && context.me.can.manage ? create(context) : detail(context, id);
};

/** A section of a view. */
export function section(title, ...children) {
  const id = newId('section');
  return h('section.section', { 'aria-labelledby': id }, h('h2', { id }, title), children);
}

/** A button. `run` may be asynchronous. The button is disabled until `run` is complete. */
export function button(label, run, { kind = 'plain', icon: drawing, title, type = 'button', small } = {}) {
  const element = h(`button.button.${kind}`, { type, title, class: `button ${kind}${small ? ' small' : ''}` },
    drawing && icon(drawing), h('span', label));
  if (run) element.addEventListener('click', (event) => busy(element, () => run(event)));
  return element;
}

/** A button that shows only an icon. Screen readers read its label. */
export function iconButton(label, drawing, run, attributes = {}) {
  const element = h('button.icon-button', { type: 'button', 'aria-label': label, title: label, ...attributes }, icon(drawing));
  if (run) element.addEventListener('click', (event) => busy(element, () => run(event)));
  return element;
}

/** Runs a function while a control is disabled, and shows an error that the function throws. */
export async function busy(control, run) {
  if (control.getAttribute('aria-disabled') === 'true') return;
  control.setAttribute('aria-disabled', 'true');
  try {
    await run();
  } catch (error) {
    if (error.name !== 'AbortError') toast(errorText(error), 'bad');
  } finally {
    control.removeAttribute('aria-disabled');
  }
}

/** A link that looks like a button. */
export function linkButton(label, href, { kind = 'plain', icon: drawing } = {}) {
  return h('a', { class: `button ${kind}`, href }, drawing && icon(drawing), h('span', label));
}

/** The text of an error for people. */
export function errorText(error) {
  if (error.code === 'rate_limited' && error.retryAfter) return `${error.message} Try again in ${error.retryAfter} s.`;
  if (error.code === 'internal_error' && error.requestId) return `${error.message} (request ${error.requestId})`;
  return error.message || String(error);
}

/** Shows a short message in a corner. Screen readers announce it. `kind`: `good` or `bad`. */
export function toast(text, kind = 'good') {
  const element = h(`div.toast.${kind}`, icon(kind === 'good' ? 'check' : 'warn'), h('span', text),
    iconButton('Close', 'close', () => element.remove()));
  const toasts = document.getElementById('toasts');
  toasts.append(element);
  // A popover that is shown again lies above a dialog that was opened in the meantime.
  if (toasts.matches(':popover-open')) toasts.hidePopover();
  toasts.showPopover();
  if (kind === 'good') setTimeout(() => element.remove(), 6_000);
}

/** A notice within a view. `kind`: `bad`, `warn`, `info`, `good`. */
export function notice(kind, title, ...children) {
  return h(`div.notice.${kind}`, { role: kind === 'bad' ? 'alert' : null }, icon(kind === 'good' ? 'check' : 'warn'),
    h('div', h('strong', title), children.length > 0 && h('div.notice-text', children)));
}

/** The notice that replaces content that could not be loaded. `again` loads it again. */
export function failure(error, again) {
  return notice('bad', error.status === 404 ? 'Not found, or you do not have access.' : 'This could not be loaded.',
    h('p', errorText(error)), again && button('Try again', again, { small: true }));
}

/** The content of an empty list: what belongs there, and what to do next. */
export function empty(title, text, action) {
  return h('div.empty', h('h2', title), text && h('p', text), action);
}

/** Gray lines in place of content that is being loaded. */
export function skeleton(lines = 3) {
  return h('div.skeleton', { 'aria-hidden': 'true' }, Array.from({ length: lines }, () => h('div.skeleton-line')));
}

/** What is shown until the content called `name` is loaded. */
export const loading = (name) => [h('p.muted', { role: 'status' }, `Loading ${name}…`), skeleton(6)];

/** Shows a skeleton in `place`, then the content that `load` returns, or its error. */
export async function loadInto(place, load, lines = 3) {
  place.setAttribute('aria-busy', 'true');
  setContent(place, skeleton(lines));
  try {
    setContent(place, await load());
  } catch (error) {
    if (error.name === 'AbortError') return;
    setContent(place, failure(error, () => loadInto(place, load, lines)));
  } finally {
    place.removeAttribute('aria-busy');
  }
}

/** A short label with a background color. `kind`: `good`, `warn`, `bad`, `info`, `quiet`. */
export function badge(text, kind = 'quiet') {
  return h(`span.badge.${kind}`, text);
}

const SPANS = [[60, 'second', 1], [3_600, 'minute', 60], [86_400, 'hour', 3_600], [86_400 * 14, 'day', 86_400]];
const relative = new Intl.RelativeTimeFormat(LOCALE, { numeric: 'auto' });
const day = new Intl.DateTimeFormat(LOCALE, { dateStyle: 'medium' });
const exact = new Intl.DateTimeFormat(LOCALE, { dateStyle: 'full', timeStyle: 'long' });

/**
 * A time: relative within 14 days, else a date. The tooltip has the exact time in the reader's
 * zone.
 */
export function time(text, otherwise = 'never') {
  if (!text) return h('span.muted', otherwise);
  const moment = new Date(text);
  const seconds = (moment - Date.now()) / 1_000;
  const span = SPANS.find(([end]) => Math.abs(seconds) < end);
  const shown = span ? relative.format(Math.round(seconds / span[2]), span[1]) : day.format(moment);
  return h('time', { datetime: text, title: `${exact.format(moment)} (${text})` }, shown);
}

const counts = new Intl.NumberFormat(LOCALE);
/** A number as the page's language writes it. */
export const number = (value) => counts.format(value);

/** A count with its noun: `1 field`, `2 fields`. */
export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** A duration in milliseconds or seconds. */
export function milliseconds(value) {
  if (value === null || value === undefined) return '–';
  return value < 1_000 ? `${number(Math.round(value))} ms` : `${number(Math.round(value / 100) / 10)} s`;
}

/** An identifier in a monospace font, with a button that copies it. */
export function identifier(text) {
  return h('span.identifier', h('code', text), copyButton(text, `Copy ${text}`));
}

/** A button that copies a text. */
export function copyButton(text, label = 'Copy') {
  return iconButton(label, 'copy', async () => {
    if (!navigator.clipboard) throw new Error('Copying requires https or localhost. Select the text instead.');
    await navigator.clipboard.writeText(text);
    toast('Copied.');
  });
}

/** A list of names and values: `[name, value]` each. */
export function facts(pairs) {
  return h('dl.facts', pairs.filter(Boolean).map(([name, value]) => h('div', h('dt', name), h('dd', value ?? '–'))));
}

/**
 * Shows a dialog. `build(close)` returns its content. The promise resolves to the value that
 * `close` is called with, or to null if the person dismisses the dialog. A dialog that `stays` can
 * only be closed by the buttons in its content. The first field has the focus, else the primary
 * button, else the title. The browser returns the focus to the element that had it.
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
    const heading = h('h2', { id, tabindex: '-1' }, title);
    append(element,
      h('header.dialog-head', heading, !stays && iconButton('Close', 'close', () => close())),
      h('div.dialog-body', build(close)));
    // The `cancel` event cannot be prevented twice in a row, so the key itself is suppressed.
    if (stays) element.addEventListener('keydown', (event) => event.key === 'Escape' && event.preventDefault());
    element.addEventListener('close', () => {
      element.remove();
      resolve(result);
    });
    document.body.append(element);
    element.showModal();
    const body = element.querySelector('.dialog-body');
    const field = body.querySelector('input:not(:disabled, [hidden]), select:not(:disabled), textarea:not(:disabled)');
    // The key that opened a dialog which stays must not confirm it too.
    const action = stays ? null : body.querySelector('.button.primary');
    (field ?? action ?? heading).focus();
  });
}

/** Asks for confirmation. True if the person confirms. */
export async function confirm(title, text, action, { kind = 'danger' } = {}) {
  const answer = await dialog(title, (close) => [
    h('p', text),
    h('div.dialog-actions',
      button('Cancel', () => close(false)),
      button(action, () => close(true), { kind })),
  ]);
  return answer === true;
}

/** Downloads a text or a blob as a file. */
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

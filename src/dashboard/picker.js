// A field that finds one thing among many on the server while one types (WAI-ARIA combobox with a list).

import { h, newId, refill } from './dom.js';
import { call, get, path } from './api.js';

const SHOWN = 20;

/**
 * A picker. `search(text, signal)` gives options `{ value, label, note }`; `start` is the option that is chosen at first, or null.
 * `onpick(option)` is told of a choice, null of its end. Gives `{ element, focusable, value(), option(), show(option) }`.
 */
export function picker({ id = newId('picker'), search, start = null, onpick = () => {}, placeholder = 'Search…', described, label, disabled }) {
  const listId = `${id}-list`;
  let chosen = start;
  let options = [];
  let active = -1;
  let asked = null;
  let wait = null;

  const input = h('input.input', {
    id, type: 'text', role: 'combobox', autocomplete: 'off', spellcheck: 'false', placeholder, disabled, 'aria-label': label,
    'aria-expanded': 'false', 'aria-controls': listId, 'aria-autocomplete': 'list', 'aria-describedby': described, value: start?.label ?? '',
  });
  const list = h('ul.options', { id: listId, role: 'listbox', 'aria-label': label ?? 'Matches', hidden: true });
  const element = h('div.picker', input, list);

  const close = () => {
    asked?.abort();
    list.replaceChildren();
    list.hidden = true;
    active = -1;
    input.setAttribute('aria-expanded', 'false');
    input.removeAttribute('aria-activedescendant');
  };
  const show = (option) => {
    chosen = option;
    input.value = option?.label ?? '';
    close();
  };
  const choose = (option) => {
    show(option);
    onpick(option);
  };
  const mark = (index) => {
    active = index;
    [...list.children].forEach((item, place) => item.setAttribute('aria-selected', String(place === index)));
    const item = list.children[index];
    if (item) {
      input.setAttribute('aria-activedescendant', item.id);
      item.scrollIntoView({ block: 'nearest' });
    }
  };
  const draw = (note) => {
    refill(list, note
      ? h('li.option-note', { role: 'option', 'aria-disabled': 'true', 'aria-selected': 'false' }, note)
      : options.map((option, index) => h('li.option', {
        id: `${listId}-${index}`, role: 'option', 'aria-selected': 'false',
        onmousedown: (event) => event.preventDefault(),
        onclick: () => choose(option),
      }, h('span', option.label), option.note && h('span.muted', option.note))));
    list.hidden = false;
    input.setAttribute('aria-expanded', 'true');
    input.removeAttribute('aria-activedescendant');
    active = -1;
  };
  const ask = async (text) => {
    asked?.abort();
    const asking = new AbortController();
    asked = asking;
    try {
      const found = await search(text.trim(), asking.signal);
      if (asking.signal.aborted) return;
      options = found;
      draw(options.length === 0 ? 'Nothing fits.' : null);
    } catch (error) {
      if (!asking.signal.aborted) draw(error.message);
    }
  };
  const askSoon = () => {
    clearTimeout(wait);
    wait = setTimeout(() => ask(input.value), 150);
  };

  input.addEventListener('input', () => {
    if (chosen !== null) {
      chosen = null;
      onpick(null);
    }
    askSoon();
  });
  input.addEventListener('click', () => list.hidden && ask(chosen ? '' : input.value));
  input.addEventListener('blur', () => {
    clearTimeout(wait);
    close();
    // What was typed and not chosen names nothing.
    if (chosen === null) input.value = '';
  });
  input.addEventListener('keydown', (event) => {
    const count = options.length;
    switch (event.key) {
      case 'ArrowDown':
      case 'ArrowUp':
        event.preventDefault();
        if (list.hidden) ask(chosen ? '' : input.value);
        else if (count > 0) mark((active + (event.key === 'ArrowDown' ? 1 : -1) + count + (active < 0 && event.key === 'ArrowUp' ? 1 : 0)) % count);
        break;
      case 'Enter':
        if (!list.hidden) {
          event.preventDefault();
          if (active >= 0) choose(options[active]);
          else if (count === 1) choose(options[0]);
        }
        break;
      case 'Escape':
        if (!list.hidden) {
          event.preventDefault();
          event.stopPropagation();
          close();
        }
        break;
    }
  });

  return { element, focusable: input, value: () => chosen?.value ?? null, option: () => chosen, show };
}

const list = async (where, query, signal) => (await call('GET', where, { query: { page_size: SHOWN, ...query }, signal })).data;

const company = (row) => ({ value: row.psa_company_id, label: row.psa_company_name, note: row.psa_company_id, row });
const agent = (row) => ({ value: row.agent_id, label: row.name, note: row.audience === 'MSP' ? 'technicians' : 'client staff', row });
const channel = (row) => ({ value: row.id, label: row.internal_name, note: row.bot_id, row });
const article = (row) => ({ value: row.id, label: row.title, row });

/** Searches among the tenant's things, for pickers: `companies()`, `agents({ audience: 'MSP' })`, `channels()`. */
export const companies = (query) => async (q, signal) => (await list('/end-companies', { ...query, q }, signal)).map(company);
export const agents = (query) => async (q, signal) => (await list('/agents', { ...query, q }, signal)).map(agent);
export const channels = (query) => async (q, signal) => (await list('/channels', { ...query, q }, signal)).map(channel);
export const articles = (query) => async (q, signal) => (await list('/knowledge-articles', { ...query, q }, signal)).map(article);

/** The option of one that is known by its id, null where it is gone. */
async function known(where, option) {
  try {
    return option(await get(where));
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}
export const companyOption = (id) => known(path`/end-companies/${id}`, company);
export const agentOption = (id) => known(path`/agents/${id}`, agent);
export const channelOption = (id) => known(path`/channels/${id}`, channel);

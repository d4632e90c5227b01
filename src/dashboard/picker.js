// A field that searches the server while a person types (WAI-ARIA combobox with a listbox).

import { h, newId, setContent } from './dom.js';
import { call, get, path } from './api.js';

/** Options that are shown. */
const SHOWN = 20;
/** A search begins this long after the last key. */
const PAUSE_MS = 150;

/**
 * A picker. `search(text, signal)` returns options `{ value, label, note }`. `start` is the option
 * that is chosen at first, or null. `onpick(option)` is called for each choice, with null if it is
 * cleared. Returns `{ element, focusable, value(), option(), show(option) }`.
 */
export function picker(options) {
  const made = new Picker(options);
  return {
    element: made.element, focusable: made.input,
    value: () => made.chosen?.value ?? null, option: () => made.chosen, show: (option) => made.show(option),
  };
}

class Picker {
  options = [];
  /** The index of the option that the arrow keys have reached, or -1. */
  active = -1;
  /** Aborts the pending search. */
  pending = null;
  timer = null;

  constructor({ id = newId('picker'), search, start = null, onpick = () => {}, placeholder = 'Search…', described, label, disabled }) {
    const listId = `${id}-list`;
    Object.assign(this, { search, onpick, chosen: start });
    this.input = h('input.input', {
      id, type: 'text', role: 'combobox', maxlength: 200, autocomplete: 'off', spellcheck: 'false', placeholder, disabled, 'aria-label': label,
      'aria-expanded': 'false', 'aria-controls': listId, 'aria-autocomplete': 'list', 'aria-describedby': described, value: start?.label ?? '',
      oninput: () => this.type(),
      onclick: () => this.list.hidden && this.ask(),
      onblur: () => this.leave(),
      onkeydown: (event) => this.press(event),
    });
    this.list = h('ul.options', { id: listId, role: 'listbox', 'aria-label': label ?? 'Matches', hidden: true });
    this.element = h('div.picker', this.input, this.list);
  }

  close() {
    this.pending?.abort();
    this.list.replaceChildren();
    this.list.hidden = true;
    this.active = -1;
    this.input.setAttribute('aria-expanded', 'false');
    this.input.removeAttribute('aria-activedescendant');
  }

  show(option) {
    this.chosen = option;
    this.input.value = option?.label ?? '';
    this.close();
  }

  choose(option) {
    this.show(option);
    this.onpick(option);
  }

  /** Marks the option at an index as the one that Enter chooses. */
  mark(index) {
    this.active = index;
    [...this.list.children].forEach((item, place) => item.setAttribute('aria-selected', String(place === index)));
    const item = this.list.children[index];
    if (item) {
      this.input.setAttribute('aria-activedescendant', item.id);
      item.scrollIntoView({ block: 'nearest' });
    }
  }

  /** Opens the list with the options, or with a note instead. */
  draw(note) {
    setContent(this.list, note
      ? h('li.option-note', { role: 'option', 'aria-disabled': 'true', 'aria-selected': 'false' }, note)
      : this.options.map((option, index) => this.item(option, index)));
    this.list.hidden = false;
    this.input.setAttribute('aria-expanded', 'true');
    this.input.removeAttribute('aria-activedescendant');
    this.active = -1;
  }

  item(option, index) {
    return h('li.option', {
      id: `${this.list.id}-${index}`, role: 'option', 'aria-selected': 'false',
      onmousedown: (event) => event.preventDefault(),
      onclick: () => this.choose(option),
    }, h('span', option.label), option.note && h('span.muted', option.note));
  }

  /** Searches for the text of the field. If it is the chosen option, all options are shown. */
  async ask(text = this.chosen ? '' : this.input.value) {
    this.pending?.abort();
    const { signal } = (this.pending = new AbortController());
    try {
      const found = await this.search(text.trim(), signal);
      if (signal.aborted) return;
      this.options = found;
      this.draw(found.length === 0 ? 'No matches.' : null);
    } catch (error) {
      if (!signal.aborted) this.draw(error.message);
    }
  }

  type() {
    if (this.chosen !== null) {
      this.chosen = null;
      this.onpick(null);
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(this.input.value), PAUSE_MS);
  }

  leave() {
    clearTimeout(this.timer);
    this.close();
    // Text without a choice has no value.
    if (this.chosen === null) this.input.value = '';
  }

  press(event) {
    const isOpen = !this.list.hidden;
    switch (event.key) {
      case 'ArrowDown':
      case 'ArrowUp':
        event.preventDefault();
        if (isOpen) this.move(event.key === 'ArrowDown' ? 1 : -1);
        else this.ask();
        break;
      case 'Enter':
        if (isOpen) {
          event.preventDefault();
          if (this.active >= 0) this.choose(this.options[this.active]);
          else if (this.options.length === 1) this.choose(this.options[0]);
        }
        break;
      case 'Escape':
        if (isOpen) {
          event.preventDefault();
          event.stopPropagation();
          this.close();
        }
        break;
    }
  }

  /** Moves the mark by one option. From no option, up leads to the last one. */
  move(step) {
    const count = this.options.length;
    if (count === 0) return;
    const from = this.active < 0 && step < 0 ? 0 : this.active;
    this.mark((from + step + count) % count);
  }
}

const list = async (where, query, signal) => (await call('GET', where, { query: { page_size: SHOWN, ...query }, signal })).data;

const company = (row) => ({ value: row.psa_company_id, label: row.psa_company_name, note: row.psa_company_id, row });
const agent = (row) => ({ value: row.agent_id, label: row.name, note: row.audience === 'MSP' ? 'technicians' : 'client staff', row });
const channel = (row) => ({ value: row.id, label: row.internal_name, note: row.bot_id, row });

/** Searches for pickers: `companies()`, `agents({ audience: 'MSP' })`, `channels()`. */
export const companies = (query) => async (q, signal) => (await list('/end-companies', { ...query, q }, signal)).map(company);
export const agents = (query) => async (q, signal) => (await list('/agents', { ...query, q }, signal)).map(agent);
export const channels = (query) => async (q, signal) => (await list('/channels', { ...query, q }, signal)).map(channel);

/** Loads the option of a resource. Null if the resource does not exist. */
async function load(where, option) {
  try {
    return option(await get(where));
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}
export const companyOption = (id) => load(path`/end-companies/${id}`, company);
export const agentOption = (id) => load(path`/agents/${id}`, agent);
export const channelOption = (id) => load(path`/channels/${id}`, channel);

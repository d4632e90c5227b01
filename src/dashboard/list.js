// A list out of the API: search, filters and paging by cursor, so that the hundred-thousandth row costs what the first does.

import { call } from './api.js';
import { h, newId, refill } from './dom.js';
import { button, empty, failure, skeleton } from './parts.js';
import { picker } from './picker.js';

const PAGE = 25;
const PAUSE_MS = 250;

/** An empty table. Gives it with its body. */
function tableOf(columns, caption) {
  const body = h('tbody', { role: 'rowgroup' });
  const table = h('div.table-frame', h('table.table', { role: 'table', 'aria-label': caption },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, columns.map(({ label }) => h('th', { role: 'columnheader', scope: 'col' }, label)))),
    body));
  return { table, body };
}

function rowOf(item, columns, href) {
  const to = href?.(item);
  return h('tr', { role: 'row', class: to ? 'linked' : null }, columns.map(({ label, cell, wide, hide }, index) => {
    const content = cell(item);
    const classes = [wide && 'wide-cell', hide && 'hide-narrow', index === 0 && 'first-cell'].filter(Boolean).join(' ');
    return h('td', { role: 'cell', 'data-label': label, class: classes || null }, index === 0 && to ? h('a.row-link', { href: to }, content) : content);
  }));
}

/** The field of the search. It searches once nothing was typed for a moment. */
function searchBox(label, start, change) {
  let wait = null;
  return h('input.input.search', {
    type: 'search', 'aria-label': label, placeholder: label, value: start, maxlength: 200,
    oninput: (event) => {
      clearTimeout(wait);
      wait = setTimeout(() => change('q', event.target.value.trim()), PAUSE_MS);
    },
  });
}

/** The control of a filter: a picker if the filter has one, else a choice among its options. Gives `{ element, reset() }`. */
function filterControl(filter, value, change) {
  const id = newId('filter');
  const labeled = (control) => h('div.filter', h('label', { for: id }, filter.label), control);
  if (filter.picker) {
    const made = filter.picker(id, value, (wanted) => change(filter.name, wanted));
    return { element: labeled(made.element), reset: () => made.show(null) };
  }
  const [[initial]] = filter.options;
  const select = h('select.input', { id, onchange: () => change(filter.name, select.value) },
    filter.options.map(([key, label]) => h('option', { value: key }, label)));
  select.value = value ?? initial;
  return { element: labeled(select), reset: () => (select.value = initial) };
}

/**
 * A list. `path` of the API; `columns` of `{ label, cell(row), wide, hide }` (the first cell leads to `href(row)`); `filters` of
 * `{ name, label, options }` or `{ name, label, picker }`; `search` the placeholder of the search, if `q` is taken; `query` what is always asked;
 * `none` what to show where there is nothing at all. What is searched and filtered stands in the address, so that the way back leads here.
 * Gives `{ element, reload() }`.
 */
export function listing(context, options) {
  const shown = new Listing(context, options);
  shown.load();
  return { element: shown.element, reload: () => shown.load() };
}

class Listing {
  /** The cursors of the pages before the one that is shown. */
  before = [];
  cursor = null;
  next = null;
  /** The request that is under way. */
  asked = null;

  place = h('div.list-body');
  where = h('span.muted', { 'aria-live': 'polite' });
  newer = button('Previous', () => this.goBack());
  older = button('Next', () => this.goOn());

  constructor(context, { path, caption, columns, href, filters = [], search, query = {}, none }) {
    Object.assign(this, { context, path, columns, href, filters, query, none });
    this.state = new Map([...context.query].filter(([, value]) => value !== ''));
    Object.assign(this, tableOf(columns, caption));
    this.foot = h('nav.paging', { 'aria-label': `Pages of ${caption}` }, this.newer, this.where, this.older);
    const change = (name, value) => this.change(name, value);
    this.box = search && searchBox(search, this.state.get('q') ?? '', change);
    this.controls = filters.map((filter) => filterControl(filter, this.state.get(filter.name) ?? null, change));
    this.element = h('div.list',
      (this.box || filters.length > 0)
        && h('div.toolbar', { role: 'search', 'aria-label': `Search ${caption}` }, this.box, this.controls.map(({ element }) => element)),
      this.place);
  }

  goOn() {
    this.before.push(this.cursor);
    this.cursor = this.next;
    return this.load(true);
  }

  goBack() {
    this.cursor = this.before.pop() ?? null;
    return this.load(true);
  }

  /** Sets or, with an empty value, removes a filter, and begins with the first page again. */
  change(name, value) {
    if (this.context.signal.aborted) return undefined;
    if (value === null || value === '') this.state.delete(name);
    else this.state.set(name, value);
    this.before = [];
    this.cursor = null;
    this.context.remember(this.state);
    return this.load();
  }

  clear() {
    if (this.box) this.box.value = '';
    for (const { reset } of this.controls) reset();
    this.state.clear();
    return this.change('q', '');
  }

  /** Loads the page at the cursor. A request that is still under way is aborted. */
  async load(moves = false) {
    this.asked?.abort();
    const asking = new AbortController();
    this.asked = asking;
    const signal = AbortSignal.any([this.context.signal, asking.signal]);
    this.place.setAttribute('aria-busy', 'true');
    if (!this.place.hasChildNodes()) refill(this.place, skeleton(6));
    try {
      const query = { page_size: PAGE, ...this.query, ...Object.fromEntries(this.state), cursor: this.cursor };
      const { data, meta } = await call('GET', this.path, { query, signal });
      this.next = meta.pagination.next_cursor;
      if (data.length === 0 && this.before.length === 0) {
        this.showNothing();
        return;
      }
      this.showPage(data);
      if (moves) this.table.scrollIntoView({ block: 'nearest' });
    } catch (error) {
      if (signal.aborted) return;
      refill(this.place, failure(error, () => this.load()));
    } finally {
      if (this.asked === asking) this.place.removeAttribute('aria-busy');
    }
  }

  showPage(rows) {
    const { before, next } = this;
    refill(this.body, rows.map((item) => rowOf(item, this.columns, this.href)));
    this.where.textContent = `Page ${before.length + 1}`;
    this.older.hidden = next === null;
    this.newer.hidden = before.length === 0;
    this.foot.hidden = next === null && before.length === 0;
    if (!this.place.contains(this.table)) refill(this.place, this.table, this.foot);
  }

  showNothing() {
    const isFiltered = ['q', ...this.filters.map(({ name }) => name)].some((name) => this.state.has(name));
    refill(this.place, isFiltered
      ? empty('Nothing fits.', 'Try fewer words or another filter.', button('Clear search and filters', () => this.clear()))
      : this.none);
  }
}

/** A filter by a thing that is picked: `pickFilter('agent_id', 'Agent', agents(), agentOption)`. */
export function pickFilter(name, label, search, optionOf) {
  return {
    name, label,
    picker(id, value, onchange) {
      const made = picker({ id, search, placeholder: 'Any', onpick: (option) => onchange(option === null ? null : String(option.value)) });
      if (value !== null) optionOf(value).then((option) => option && made.show(option), () => {});
      return made;
    },
  };
}

/** A filter by an id that is typed whole: `textFilter('bot_id', 'Bot')`. */
export function textFilter(name, label) {
  return {
    name, label,
    picker(id, value, onchange) {
      const element = h('input.input', {
        id, type: 'search', autocomplete: 'off', spellcheck: 'false', placeholder: 'Any', value: value ?? '',
        onchange: () => onchange(element.value.trim()),
      });
      return { element, show: () => (element.value = '') };
    },
  };
}

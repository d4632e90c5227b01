// A list of the API with search, filters and pages. Pages are read by cursor, so that a late page
// costs as much as the first one.

import { call } from './api.js';
import { h, newId, setContent } from './dom.js';
import { button, empty, failure, notice, skeleton } from './components.js';
import { LONG_NAME } from './labels.js';
import { picker } from './picker.js';

const PAGE = 25;
/** A search begins this long after the last key. */
const PAUSE_MS = 250;

/** The most characters of a search; the server refuses more. */
const MAX_SEARCH = 200;

/** Creates an empty table: `{ table, body }`. */
function tableOf(columns, caption) {
  const body = h('tbody', { role: 'rowgroup' });
  const table = h('div.table-frame', h('table.table', { role: 'table', 'aria-label': caption },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, columns.map(({ label, hide }) => h('th', { role: 'columnheader', scope: 'col', class: hide ? 'hide-narrow' : null }, label)))),
    body));
  return { table, body };
}

function rowOf(item, columns, href) {
  const to = href?.(item);
  const row = h('tr', { role: 'row', class: to ? 'linked' : null }, columns.map(({ label, cell, wide, hide }, index) => {
    const content = cell(item);
    const classes = [wide && 'wide-cell', hide && 'hide-narrow', index === 0 && 'first-cell'].filter(Boolean).join(' ');
    return h('td', { role: 'cell', 'data-label': label, class: classes || null }, index === 0 && to ? h('a.row-link', { href: to }, content) : content);
  }));
  for (const name of row.querySelectorAll('bdi')) {
    if (name.textContent.length > LONG_NAME) name.title = name.textContent;
  }
  return row;
}

/** The search field. It searches after a pause in typing. */
function searchBox(label, start, change) {
  let wait = null;
  return h('input.input.search', {
    type: 'search', 'aria-label': label, placeholder: label, value: start, maxlength: MAX_SEARCH,
    oninput: (event) => {
      clearTimeout(wait);
      wait = setTimeout(() => change('q', event.target.value.trim()), PAUSE_MS);
    },
  });
}

/** The control of a filter, a picker or a select: `{ element, reset() }`. */
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
 * A list. Returns `{ element, reload() }`. The search, the filters and the page are part of the
 * address, so that Back, a reload and a link lead to the same page. They are not if the context has
 * no `remember`. Options:
 *
 * - `path` of the API, and `query`, which every request has
 * - `caption`: the plural of the rows' noun
 * - `columns` of `{ label, cell(row), wide, hide }`; the first cell leads to `href(row)`
 * - `filters` of `{ name, label, options }` or `{ name, label, picker }`
 * - `search`: the placeholder of the search field, if the API takes `q`
 * - `none`: the content of a list without rows
 */
export function listView(context, options) {
  const shown = new ListView(context, options);
  shown.load();
  return { element: shown.element, reload: () => shown.load() };
}

class ListView {
  next = null;
  /** Aborts the pending request. */
  pending = null;

  place = h('div.list-body');
  pageNumber = h('span.muted', { 'aria-live': 'polite' });
  previousButton = button('Previous', () => this.goBack());
  firstButton = button('First page', () => this.turnTo(1, null, []));
  nextButton = button('Next', () => this.goOn());

  constructor(context, { path, caption, columns, href, filters = [], search, query = {}, none }) {
    Object.assign(this, { context, path, columns, href, filters, query, none });
    const { cursor = null, page, ...state } = Object.fromEntries([...context.query].filter(([, value]) => value !== ''));
    this.state = new Map(Object.entries(state));
    this.cursor = cursor;
    this.page = cursor === null ? 1 : Math.max(2, parseInt(page, 10) || 2);
    /** The cursors of the earlier pages. The history keeps them, but a link to a page has none. */
    this.before = (context.remember && history.state?.before) || [];
    Object.assign(this, tableOf(columns, caption));
    this.foot = h('nav.paging', { 'aria-label': `Pages of ${caption}` }, this.firstButton, this.previousButton, this.pageNumber, this.nextButton);
    const change = (name, value) => this.change(name, value);
    this.box = search && searchBox(search, this.state.get('q') ?? '', change);
    this.controls = filters.map((filter) => filterControl(filter, this.state.get(filter.name) ?? null, change));
    this.element = h('div.list',
      (this.box || filters.length > 0)
        && h('div.toolbar', { role: 'search', 'aria-label': `Search ${caption}` }, this.box, this.controls.map(({ element }) => element)),
      this.place);
  }

  goOn() {
    return this.turnTo(this.page + 1, this.next, [...this.before, this.cursor]);
  }

  goBack() {
    return this.turnTo(this.page - 1, this.before.at(-1), this.before.slice(0, -1));
  }

  /** Goes to a page, and to the top of the list. */
  async turnTo(page, cursor, before) {
    Object.assign(this, { page, cursor, before });
    this.context.remember?.(this.address(), before);
    await this.load();
    const section = this.element.closest('.section');
    const title = (section ?? this.element.closest('main'))?.querySelector('h1, h2');
    if (!title) return;
    title.tabIndex = -1;
    title.focus({ preventScroll: true });
    if (section) section.scrollIntoView();
    else scrollTo(0, 0);
  }

  /** The search, the filters and the page. */
  address() {
    return this.cursor === null ? this.state : new Map([...this.state, ['page', String(this.page)], ['cursor', this.cursor]]);
  }

  /** Sets a filter, or removes it if the value is empty, and goes to the first page. */
  change(name, value) {
    if (this.context.signal.aborted) return undefined;
    if (value === null || value === '') this.state.delete(name);
    else this.state.set(name, value);
    return this.begin();
  }

  /** Loads the first page. */
  begin() {
    Object.assign(this, { page: 1, cursor: null, before: [] });
    this.context.remember?.(this.address());
    return this.load();
  }

  clear() {
    if (this.box) this.box.value = '';
    for (const { reset } of this.controls) reset();
    this.state.clear();
    return this.change('q', '');
  }

  /** Loads the page at the cursor. A pending request is aborted. */
  async load() {
    this.pending?.abort();
    const aborter = new AbortController();
    this.pending = aborter;
    const signal = AbortSignal.any([this.context.signal, aborter.signal]);
    this.place.setAttribute('aria-busy', 'true');
    if (!this.place.hasChildNodes()) setContent(this.place, skeleton(6));
    try {
      const query = { page_size: PAGE, ...this.query, ...Object.fromEntries(this.state), cursor: this.cursor };
      const { data, meta } = await call('GET', this.path, { query, signal });
      this.next = meta.pagination.next_cursor;
      if (data.length === 0 && this.page === 1) {
        this.showNothing();
        return;
      }
      this.showPage(data);
    } catch (error) {
      if (signal.aborted) return;
      // The cursor of an old link can be out of date.
      if (error.details?.field === 'cursor' && this.cursor !== null) return this.begin();
      setContent(this.place, error.details?.field === 'q'
        ? notice('bad', 'The server cannot search for this text.', h('p', `The text ${error.details.reason}.`))
        : failure(error, () => this.load()));
    } finally {
      if (this.pending === aborter) this.place.removeAttribute('aria-busy');
    }
  }

  showPage(rows) {
    const { before, next, page } = this;
    setContent(this.body, rows.map((item) => rowOf(item, this.columns, this.href)));
    this.pageNumber.textContent = `Page ${page}`;
    this.nextButton.hidden = next === null;
    this.previousButton.hidden = before.length === 0;
    this.firstButton.hidden = page === 1 || before.length > 0;
    this.foot.hidden = next === null && page === 1;
    if (!this.place.contains(this.table)) setContent(this.place, this.table, this.foot);
  }

  showNothing() {
    const isFiltered = ['q', ...this.filters.map(({ name }) => name)].some((name) => this.state.has(name));
    setContent(this.place, isFiltered
      ? empty('No matches.', 'Try fewer words or another filter.', button('Clear search and filters', () => this.clear()))
      : this.none);
  }
}

/** A filter with a picker: `pickFilter('agent_id', 'Agent', agents(), agentOption)`. */
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

/** A filter by an exact id: `textFilter('bot_id', 'Bot')`. */
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

// A list out of the API: search, filters and paging by cursor, so that the hundred-thousandth row costs what the first does.

import { call } from './api.js';
import { h, newId, refill } from './dom.js';
import { button, empty, failure, skeleton } from './parts.js';
import { picker } from './picker.js';

const PAGE = 25;
const PAUSE_MS = 250;

/**
 * A list. `path` of the API; `columns` of `{ label, cell(row), wide, hide }` (the first cell leads to `href(row)`); `filters` of
 * `{ name, label, options }` or `{ name, label, picker }`; `search` the placeholder of the search, if `q` is taken; `query` what is always asked;
 * `none` what to show where there is nothing at all. What is searched and filtered stands in the address, so that the way back leads here.
 * Gives `{ element, reload() }`.
 */
export function listing(context, { path, caption, columns, href, filters = [], search, query = {}, none }) {
  const state = new Map([...context.query].filter(([, value]) => value !== ''));
  /** The cursors of the pages before the one that is shown. */
  let before = [];
  let cursor = null;
  let next = null;
  let asked = null;

  const body = h('tbody', { role: 'rowgroup' });
  const place = h('div.list-body');
  const table = h('div.table-frame', h('table.table', { role: 'table', 'aria-label': caption },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, columns.map(({ label }) => h('th', { role: 'columnheader', scope: 'col' }, label)))),
    body));
  const older = button('Next', () => {
    before.push(cursor);
    cursor = next;
    return load(true);
  });
  const newer = button('Previous', () => {
    cursor = before.pop() ?? null;
    return load(true);
  });
  const where = h('span.muted', { 'aria-live': 'polite' });
  const foot = h('nav.paging', { 'aria-label': `Pages of ${caption}` }, newer, where, older);

  const isFiltered = () => ['q', ...filters.map(({ name }) => name)].some((name) => state.has(name));

  const change = (name, value) => {
    if (context.signal.aborted) return undefined;
    if (value === null || value === '') state.delete(name);
    else state.set(name, value);
    before = [];
    cursor = null;
    context.remember(state);
    return load();
  };

  const row = (item) => {
    const to = href?.(item);
    return h('tr', { role: 'row', class: to ? 'linked' : null }, columns.map(({ label, cell, wide, hide }, index) => {
      const content = cell(item);
      return h('td', { role: 'cell', 'data-label': label, class: [wide && 'wide-cell', hide && 'hide-narrow', index === 0 && 'first-cell'].filter(Boolean).join(' ') || null },
        index === 0 && to ? h('a.row-link', { href: to }, content) : content);
    }));
  };

  async function load(moves = false) {
    asked?.abort();
    const asking = new AbortController();
    asked = asking;
    const signal = AbortSignal.any([context.signal, asking.signal]);
    place.setAttribute('aria-busy', 'true');
    if (!place.hasChildNodes()) refill(place, skeleton(6));
    try {
      const { data, meta } = await call('GET', path, { query: { page_size: PAGE, ...query, ...Object.fromEntries(state), cursor }, signal });
      next = meta.pagination.next_cursor;
      if (data.length === 0 && before.length === 0) {
        refill(place, isFiltered()
          ? empty('Nothing fits.', 'Try fewer words or another filter.', button('Clear search and filters', clear))
          : none);
        return;
      }
      refill(body, data.map(row));
      where.textContent = `Page ${before.length + 1}`;
      older.hidden = next === null;
      newer.hidden = before.length === 0;
      foot.hidden = next === null && before.length === 0;
      if (!place.contains(table)) refill(place, table, foot);
      if (moves) table.scrollIntoView({ block: 'nearest' });
    } catch (error) {
      if (signal.aborted) return;
      refill(place, failure(error, () => load()));
    } finally {
      if (asked === asking) place.removeAttribute('aria-busy');
    }
  }

  let wait = null;
  const box = search && h('input.input.search', {
    type: 'search', 'aria-label': search, placeholder: search, value: state.get('q') ?? '', maxlength: 200,
    oninput: (event) => {
      clearTimeout(wait);
      wait = setTimeout(() => change('q', event.target.value.trim()), PAUSE_MS);
    },
  });
  const choices = filters.map((filter) => {
    const id = newId('filter');
    if (filter.picker) {
      const made = filter.picker(id, state.get(filter.name) ?? null, (value) => change(filter.name, value));
      return { element: h('div.filter', h('label', { for: id }, filter.label), made.element), reset: () => made.show(null) };
    }
    const select = h('select.input', { id, onchange: () => change(filter.name, select.value) },
      filter.options.map(([value, label]) => h('option', { value }, label)));
    select.value = state.get(filter.name) ?? filter.options[0][0];
    return { element: h('div.filter', h('label', { for: id }, filter.label), select), reset: () => (select.value = filter.options[0][0]) };
  });
  const clear = () => {
    if (box) box.value = '';
    for (const { reset } of choices) reset();
    state.clear();
    return change('q', '');
  };

  const element = h('div.list',
    (box || choices.length > 0) && h('div.toolbar', { role: 'search', 'aria-label': `Search ${caption}` }, box, choices.map((choice) => choice.element)),
    place);
  load();
  return { element, reload: () => load() };
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

// A field that holds several things, each found by a search and taken out by itself.

import { h, refill } from './dom.js';
import { iconButton } from './parts.js';
import { picker } from './picker.js';

/**
 * A field of several picked things. `start` are the options that it holds at first; `none` says in words what it means to hold none;
 * `onchange` is told of each change. Gives `{ element, focusable, value(), options(), set(options) }`.
 */
export function several({ id, described, search, start, none, placeholder, onchange = () => {} }) {
  let chosen = [];
  const list = h('ul.chips', { 'aria-label': 'Chosen' });
  const finder = picker({
    id, described, placeholder, search,
    onpick(option) {
      if (option === null) return;
      finder.show(null);
      if (chosen.every(({ value }) => value !== option.value)) change([...chosen, option]);
    },
  });
  const set = (options) => {
    chosen = options;
    refill(list, chosen.length === 0 ? h('li.muted', none) : chosen.map((option) => h('li.chip', h('bdi', option.label),
      iconButton(`Remove ${option.label}`, 'close', () => {
        change(chosen.filter((other) => other !== option));
        finder.focusable.focus();
      }))));
  };
  const change = (options) => {
    set(options);
    onchange();
  };
  set(start);
  return {
    element: h('div.several', list, finder.element), focusable: finder.focusable,
    value: () => chosen.map(({ value }) => value), options: () => chosen, set,
  };
}

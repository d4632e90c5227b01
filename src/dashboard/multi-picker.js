// A field with several values, each chosen with a picker.

import { h, setContent } from './dom.js';
import { iconButton } from './components.js';
import { picker } from './picker.js';

/**
 * A picker of several options. `start` are the options that are chosen at first. `none` is the text
 * for no option. `onchange` is called after each change. Returns
 * `{ element, focusable, value(), options(), set(options) }`.
 */
export function multiPicker({ id, described, search, start, none, placeholder, onchange = () => {} }) {
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
    setContent(list, chosen.length === 0 ? h('li.muted', none) : chosen.map((option) => h('li.chip', h('bdi', option.label),
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
    element: h('div.multi-picker', list, finder.element), focusable: finder.focusable,
    value: () => chosen.map(({ value }) => value), options: () => chosen, set,
  };
}

// Small bar charts of values by day, with the same values as text for screen readers.

import { h, svg } from './dom.js';
import { number } from './components.js';
import { LOCALE } from './labels.js';

const WIDTH = 280;
const HEIGHT = 56;
const GAP = 3;

const weekday = new Intl.DateTimeFormat(LOCALE, { weekday: 'short', day: 'numeric', month: 'short', timeZone: 'UTC' });

/** A bar for each day. `points` of `{ day, value }`, oldest first. `format` writes a value. */
export function bars(name, points, format = number) {
  const largest = Math.max(1, ...points.map(({ value }) => value ?? 0));
  const width = (WIDTH - GAP * (points.length - 1)) / points.length;
  const labels = points.map(({ day, value }) => `${weekday.format(new Date(day))}: ${value === null ? 'none' : format(value)}`);
  return h('figure.plot',
    svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `${name} by day. ${labels.join('; ')}`, preserveAspectRatio: 'none' },
      points.map(({ value }, index) => {
        const height = value ? Math.max(3, (value / largest) * HEIGHT) : 1;
        return svg('rect', { class: value ? 'bar' : 'bar none', x: index * (width + GAP), y: HEIGHT - height, width, height, rx: 1.5 },
          svg('title', {}, labels[index]));
      })),
    h('figcaption.plot-days', { 'aria-hidden': 'true' }, [points[0], points.at(-1)].map(({ day }) => h('span', weekday.format(new Date(day))))));
}

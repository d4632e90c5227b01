// Creates elements from plain values. Text is never parsed as HTML, and an address that could run
// code is rejected.

const SVG = 'http://www.w3.org/2000/svg';
const ADDRESSES = new Set(['href', 'src']);
const SAFE_SCHEMES = new Set(['http:', 'https:', 'mailto:', 'blob:']);

/** The address if its scheme cannot run code, else null. */
export function safeAddress(text) {
  try {
    return SAFE_SCHEMES.has(new URL(text, document.baseURI).protocol) ? text : null;
  } catch {
    return null;
  }
}

function isAttributes(value) {
  return value !== null && typeof value === 'object' && !(value instanceof Node) && !Array.isArray(value);
}

function setUp(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) {
      element.addEventListener(name.slice(2), value);
    } else if (name === 'value' || name === 'checked' || name === 'indeterminate') {
      element[name] = value;
    } else if (ADDRESSES.has(name) && safeAddress(value) === null) {
      throw new TypeError(`the address in ${name} has a scheme that is not allowed`);
    } else {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  append(element, ...children);
  return element;
}

/**
 * Creates an element: `h('p.lead', { id: 'x', onclick: go }, 'text', child, [more])`. Children that
 * are null, undefined or false are left out.
 */
export function h(name, ...rest) {
  const [tag, ...classes] = name.split('.');
  const element = document.createElement(tag);
  if (classes.length > 0) element.className = classes.join(' ');
  return isAttributes(rest[0]) ? setUp(element, rest[0], rest.slice(1)) : setUp(element, {}, rest);
}

/** Creates an SVG element. */
export function svg(tag, attributes, ...children) {
  return setUp(document.createElementNS(SVG, tag), attributes, children);
}

/** Appends children, as `h` takes them. */
export function append(element, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Replaces all children of an element. */
export function setContent(element, ...children) {
  element.replaceChildren();
  return append(element, ...children);
}

const PATHS = {
  add: 'M8 3v10M3 8h10',
  archive: 'M2.5 3.5h11v3h-11zM3.5 6.5v6h9v-6M6.5 9h3',
  back: 'M10 3 5 8l5 5',
  check: 'm3 8.5 3.5 3.5L13 4.5',
  close: 'm4 4 8 8M12 4l-8 8',
  copy: 'M5.5 5.5h7v7h-7zM3.5 10.5h-1v-8h8v1',
  down: 'm4 6 4 4 4-4',
  file: 'M4 2.5h5l3 3v8H4zM9 2.5v3h3',
  link: 'M6.5 9.5l3-3M7.5 5l1.2-1.2a2.5 2.5 0 0 1 3.5 3.5L11 8.5M8.5 11l-1.2 1.2a2.5 2.5 0 0 1-3.5-3.5L5 7.5',
  menu: 'M2.5 4.5h11M2.5 8h11M2.5 11.5h11',
  next: 'm6 3 5 5-5 5',
  search: 'M7 2.8a4.2 4.2 0 1 0 0 8.4a4.2 4.2 0 0 0 0-8.4zM10 10l3.5 3.5',
  send: 'M3 8h10M9 4l4 4-4 4',
  stop: 'M4.5 4.5h7v7h-7z',
  thumb_down: 'M5 9.5v-7h6.2l1.8 5v2H9.2l.6 3.4c0 .9-1.6.9-1.8.2L6.5 9.5zM5 9.5H3v-7h2',
  thumb_up: 'M5 6.5v7h6.2l1.8-5v-2H9.2l.6-3.4c0-.9-1.6-.9-1.8-.2L6.5 6.5zM5 6.5H3v7h2',
  warn: 'M8 2.5l6 11H2zM8 6.5v3.2M8 11.6v.2',
};

/** A decorative icon. Screen readers skip it, so text must say the same. */
export function icon(name) {
  return svg('svg', { class: 'icon', viewBox: '0 0 16 16', width: 16, height: 16, 'aria-hidden': 'true', focusable: 'false' },
    svg('path', { d: PATHS[name] }));
}

let idCount = 0;
/** An id that is unique on the page. */
export function newId(stem) {
  idCount += 1;
  return `${stem}-${idCount}`;
}

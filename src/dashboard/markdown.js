// Renders Markdown as elements, in time linear in the length of the text. HTML in the text is shown
// as text.

import { h, safeAddress } from './dom.js';

/**
 * The limits on nested lists and quotes, on open emphasis, and on the columns of a table: a hostile
 * text must not overload the browser.
 */
const MAX_DEPTH = 16;
const MAX_OPEN = 32;
const MAX_COLUMNS = 64;

const PUNCTUATION = '!-/:-@[-`{-~';
const ESCAPED = new RegExp(`\\\\([${PUNCTUATION}])`, 'g');
/** The tokens of inline Markdown. No alternative backtracks over a long text. */
const TOKEN = new RegExp([
  `\\\\[\\n${PUNCTUATION}]`, '`+', '\\*+', '_+', '~+', '!?\\[', '\\]', '\\n',
  '<(?:https?://|mailto:)[^\\s<>]+>', '(?<![\\p{L}\\p{N}])https?://[^\\s<>[\\]`]+',
].join('|'), 'giu');
/** The part after the text of a link: its address, and a title in quotes. */
const TARGET = /\([ \n]{0,3}(?:<([^<>\n]*)>|((?:[^\s()<>\\]|\\.|\([^\s()<>]*\))*))(?:[ \n]{1,3}(?:"([^"]*)"|'([^']*)'))?[ \n]{0,3}\)/uy;
/** Punctuation that ends a sentence and is not part of an address. */
const TRAILING = '?!.,:;*_~\'"';

const isSpace = (character) => character === undefined || /\s/u.test(character);
const isPunctuation = (character) => character !== undefined && /[\p{P}\p{S}]/u.test(character);

/** The address, if its scheme is http, https or mailto. */
const allowedAddress = (address) => (/^(?:https?:\/\/|mailto:)/iu.test(address) ? safeAddress(address) : null);

const link = (href, title, ...children) => h('a', { href, title, target: '_blank', rel: 'noopener noreferrer' }, children);

/** Maps the index of each run of backticks to the index of the next run of the same length. */
function codeEnds(text) {
  const ends = new Map();
  const next = new Map();
  for (const { 0: { length }, index } of [...text.matchAll(/`+/g)].reverse()) {
    ends.set(index, next.get(length));
    next.set(length, index);
  }
  return ends;
}

function code(text) {
  const line = text.replaceAll('\n', ' ');
  return h('code', line.startsWith(' ') && line.endsWith(' ') && line.trim() !== '' ? line.slice(1, -1) : line);
}

/** A bare address without the punctuation of the sentence around it. */
function bareAddress(text) {
  let end = text.length;
  let unopened = text.split(')').length - text.split('(').length;
  for (;;) {
    const last = text[end - 1];
    if (last === ')' && unopened > 0) unopened -= 1;
    else if (!TRAILING.includes(last)) return text.slice(0, end);
    end -= 1;
  }
}

/** Whether a run of a mark can open or close emphasis (CommonMark 0.31, section 6.2). */
function flanks(mark, before, after) {
  const opens = !isSpace(after) && (!isPunctuation(after) || isSpace(before) || isPunctuation(before));
  const closes = !isSpace(before) && (!isPunctuation(before) || isSpace(after) || isPunctuation(after));
  if (mark !== '_') return { opens, closes };
  return { opens: opens && (!closes || isPunctuation(before)), closes: closes && (!opens || isPunctuation(after)) };
}

const EMPHASIS = { 1: 'em', 2: 'strong' };

/** Parses the inline Markdown of one block. */
class Inline {
  out = [];
  /**
   * The open marks: mark, size, and the index in `out` where the mark is text until it is closed.
   */
  open = [];

  constructor(text) {
    Object.assign(this, { text, codeEnds: codeEnds(text), tokens: new RegExp(TOKEN) });
  }

  all() {
    const { text, tokens } = this;
    let seen = 0;
    for (let token = tokens.exec(text); token !== null; token = tokens.exec(text)) {
      const before = text.slice(seen, token.index);
      if (token[0] === '\n') this.lineEnd(before);
      else {
        this.addText(before);
        this.readToken(token[0], token.index);
      }
      seen = tokens.lastIndex;
    }
    this.addText(text.slice(seen));
    return this.out;
  }

  /** Appends text, to the previous text unless that is an open mark. */
  addText(piece) {
    if (piece === '') return;
    const { out, open } = this;
    if (typeof out.at(-1) === 'string' && open.at(-1)?.at !== out.length - 1) out[out.length - 1] += piece;
    else out.push(piece);
  }

  openMark(mark, size, text) {
    this.out.push(text);
    this.open.push({ mark, size, at: this.out.length - 1 });
    if (this.open.length > MAX_OPEN) this.open.shift();
  }

  /** Removes an open mark and everything after it from `out`. Returns what was after it. */
  takeAfter(place) {
    const { at } = this.open[place];
    this.open.length = place;
    return this.out.splice(at).slice(1);
  }

  /** A line that ends with two spaces is broken; other lines are joined with a space. */
  lineEnd(before) {
    this.addText(before.trimEnd());
    if (before.endsWith('  ')) this.out.push(h('br'));
    else this.addText(' ');
  }

  readToken(found, index) {
    if (found === '\\\n') this.out.push(h('br'));
    else if (found[0] === '\\') this.addText(found[1]);
    else if (found[0] === '`') this.code(found, index);
    else if (found.endsWith('[')) this.openMark(found, 1, found);
    else if (found === ']') this.closeBracket();
    else if ('*_~'.includes(found[0])) this.emphasis(found, index);
    else this.address(found, index);
  }

  code(run, index) {
    const end = this.codeEnds.get(index);
    if (end === undefined) {
      this.addText(run);
      return;
    }
    this.out.push(code(this.text.slice(this.tokens.lastIndex, end)));
    this.tokens.lastIndex = end + run.length;
  }

  emphasis(run, index) {
    const mark = run[0];
    let left = run.length;
    if (left > 3 || mark === '~' && left !== 2) {
      this.addText(run);
      return;
    }
    const { opens, closes } = flanks(mark, this.text[index - 1], this.text[index + left]);
    while (closes && left > 0) {
      const place = this.open.findLastIndex((one) => one.mark === mark && one.size <= left);
      if (place < 0) break;
      const { size } = this.open[place];
      this.out.push(h(mark === '~' ? 's' : EMPHASIS[size], this.takeAfter(place)));
      left -= size;
    }
    if (!opens) {
      this.addText(mark.repeat(left));
      return;
    }
    if (left >= 2) this.openMark(mark, 2, mark + mark);
    if (left % 2 === 1) this.openMark(mark, 1, mark);
  }

  /** Makes a link of the text since the open bracket, if an allowed address follows. */
  closeBracket() {
    const { open, text, tokens } = this;
    const place = open.findLastIndex(({ mark }) => mark.endsWith('['));
    if (place < 0) {
      this.addText(']');
      return;
    }
    TARGET.lastIndex = tokens.lastIndex;
    const target = TARGET.exec(text);
    const address = target && allowedAddress((target[1] ?? target[2]).replace(ESCAPED, '$1'));
    if (!address) {
      open.splice(place, 1);
      this.addText(']');
      return;
    }
    tokens.lastIndex = TARGET.lastIndex;
    const { mark } = open[place];
    const inside = this.takeAfter(place);
    const made = link(address, target[3] ?? target[4], inside.length > 0 ? inside : address);
    for (const inner of made.querySelectorAll('a')) inner.replaceWith(...inner.childNodes);
    this.out.push(made);
    // A link contains no other link, but it can contain a picture.
    if (mark === '[') open.splice(0, Infinity, ...open.filter((one) => !one.mark.endsWith('[')));
  }

  /** An address in angle brackets, or a bare one. */
  address(found, index) {
    const isBare = found[0] !== '<';
    const written = isBare ? bareAddress(found) : found.slice(1, -1);
    const address = allowedAddress(written);
    if (isBare) this.tokens.lastIndex = index + written.length;
    if (address) this.out.push(link(address, null, written));
    else this.addText(this.text.slice(index, this.tokens.lastIndex));
  }
}

const inline = (text) => new Inline(text).all();

const MARKER = /^( *)([-+*]|\d{1,9}[.)])( +|$)/u;
const isBlank = (line) => line.trim() === '';
const isRule = (line) => /^(?:-{3,}|\*{3,}|_{3,})$/u.test(line.replaceAll(' ', ''));
const fenceOf = (line) => /^ *(`{3,}(?=[^`]*$)|~{3,})/u.exec(line)?.[1];
const levelOf = (line) => /^ *(#{1,6})(?=\s|$)/u.exec(line)?.[1].length;
const isQuote = (line) => /^ *>/u.test(line);

/** Whether a line can interrupt a paragraph. An ordered list can only if it starts at 1. */
function interruptsParagraph(line) {
  const marker = MARKER.exec(line);
  return levelOf(line) !== undefined || fenceOf(line) !== undefined || isQuote(line) || isRule(line)
    || marker !== null && marker[3] !== '' && (!/\d/u.test(marker[2]) || parseInt(marker[2], 10) === 1);
}

/** The cells of a table row. */
function cells(line) {
  const bare = line.trim();
  const parts = bare.slice(bare.startsWith('|') ? 1 : 0).split(/(?<!\\)\|/u);
  if (parts.length > 1 && isBlank(parts.at(-1))) parts.pop();
  return parts.map((part) => part.trim());
}

function isTable(lines, at) {
  const below = lines[at + 1];
  if (below === undefined || !lines[at].includes('|') || !/^[\s|:-]+$/u.test(below)) return false;
  const ruled = cells(below);
  return ruled.length <= MAX_COLUMNS && ruled.every((cell) => /^:?-+:?$/u.test(cell)) && ruled.length === cells(lines[at]).length;
}

/**
 * A block. `dir` is set last, because the browser computes an automatic direction again for each
 * child that is appended.
 */
function block(tag, attributes, ...children) {
  const made = h(tag, attributes, children);
  made.setAttribute('dir', 'auto');
  return made;
}

/** The most characters of a table's cell with a digit that stays on one line. */
const SHORT_CELL = 24;

/** Wide content must be focusable, so that the keyboard can scroll it. */
const SCROLLED = { tabindex: '0' };

/** Parses blocks. `levels` are those of the enclosing headings, so that the outline has no gaps. */
class Blocks {
  constructor(lines, depth, levels, isTight) {
    Object.assign(this, { lines, depth, levels, isTight, at: 0 });
  }

  within(lines, isTight = false) {
    return new Blocks(lines, this.depth + 1, this.levels, isTight).all();
  }

  all() {
    const blocks = [];
    while (this.at < this.lines.length) {
      if (isBlank(this.lines[this.at])) this.at += 1;
      else blocks.push(this.next());
    }
    return blocks;
  }

  next() {
    const line = this.lines[this.at];
    const level = levelOf(line);
    if (level !== undefined) {
      this.at += 1;
      return this.heading(level, line.trim().slice(level).trim().replace(/(?:^|\s)#+$/u, ''));
    }
    if (fenceOf(line) !== undefined) return this.fenced(fenceOf(line));
    if (isRule(line)) {
      this.at += 1;
      return h('hr');
    }
    if (isQuote(line) && this.depth < MAX_DEPTH) return this.quote();
    if (MARKER.test(line) && this.depth < MAX_DEPTH) return this.list();
    if (isTable(this.lines, this.at)) return this.table();
    return this.paragraph();
  }

  heading(level, text) {
    while (this.levels.at(-1) >= level) this.levels.pop();
    this.levels.push(level);
    return block(`h${Math.min(2 + this.levels.length, 6)}`, {}, inline(text.trim()));
  }

  fenced(fence) {
    const indent = this.lines[this.at].indexOf(fence);
    const inside = [];
    for (this.at += 1; this.at < this.lines.length; this.at += 1) {
      const line = this.lines[this.at];
      const end = line.trim();
      if (end.length >= fence.length && end === fence[0].repeat(end.length)) {
        this.at += 1;
        break;
      }
      inside.push(line.slice(Math.min(indent, line.length - line.trimStart().length)));
    }
    return block('pre', SCROLLED, h('code', inside.join('\n')));
  }

  quote() {
    const inside = [];
    for (; this.at < this.lines.length && isQuote(this.lines[this.at]); this.at += 1) {
      inside.push(this.lines[this.at].trimStart().replace(/^> ?/u, ''));
    }
    return block('blockquote', {}, this.within(inside));
  }

  list() {
    const sort = (line) => (isRule(line) ? undefined : MARKER.exec(line)?.[2].at(-1));
    const first = this.lines[this.at];
    const items = [];
    let isLoose = false;
    while (this.at < this.lines.length && sort(this.lines[this.at]) === sort(first)) {
      const item = this.item();
      const isLast = isBlank(item.at(-1)) && sort(this.lines[this.at] ?? '') !== sort(first);
      while (item.length > 1 && isBlank(item.at(-1))) {
        item.pop();
        isLoose ||= !isLast;
      }
      isLoose ||= item.some(isBlank) && item.length > 1;
      items.push(item);
    }
    const number = parseInt(first.trimStart(), 10);
    return block(Number.isNaN(number) ? 'ul' : 'ol', { start: number === 1 || Number.isNaN(number) ? null : number }, items.map(([line, ...rest]) => {
      const task = line.replace(/^\[( |x)\] /iu, (_, mark) => (mark === ' ' ? '☐ ' : '☑ '));
      return block('li', {}, this.within([task, ...rest], !isLoose));
    }));
  }

  /** The lines of a list item, without its indentation. */
  item() {
    const [whole, { length: indent }, , gap] = MARKER.exec(this.lines[this.at]);
    const width = gap.length > 4 ? whole.length - gap.length + 1 : whole.length + (gap === '' ? 1 : 0);
    const inside = [this.lines[this.at].slice(width)];
    for (this.at += 1; this.at < this.lines.length; this.at += 1) {
      const line = this.lines[this.at];
      const lead = line.search(/\S/u);
      if (lead < 0) inside.push('');
      // People indent by two spaces, whatever the width of the marker.
      else if (lead >= Math.min(width, indent + 2)) inside.push(line.slice(Math.min(lead, width)));
      else if (!isBlank(inside.at(-1)) && !interruptsParagraph(line) && !MARKER.test(line)) inside.push(line.trimStart());
      else break;
    }
    return inside;
  }

  table() {
    const head = cells(this.lines[this.at]);
    const rows = [];
    for (this.at += 2; this.at < this.lines.length; this.at += 1) {
      const line = this.lines[this.at];
      if (isBlank(line) || interruptsParagraph(line)) break;
      rows.push(cells(line).slice(0, head.length));
    }
    // A number, a date or an address with a few words is read as a whole.
    const isShort = (text) => text.length <= SHORT_CELL && /\d/u.test(text);
    const row = (tag, texts) => h('tr', texts.map((text) => block(tag, { class: isShort(text) ? 'short' : null }, inline(text))));
    return block('table', SCROLLED, h('thead', row('th', head)), h('tbody', rows.map((texts) => row('td', texts))));
  }

  paragraph() {
    const inside = [];
    do {
      inside.push(this.lines[this.at].trimStart());
      this.at += 1;
      const underline = /^ *(?:(=)+|-{2,}) *$/u.exec(this.lines[this.at] ?? '');
      if (underline) {
        this.at += 1;
        return this.heading(underline[1] ? 1 : 2, inside.join('\n').trimEnd());
      }
    } while (this.at < this.lines.length && !isBlank(this.lines[this.at]) && !interruptsParagraph(this.lines[this.at]) && !isTable(this.lines, this.at));
    const text = inline(inside.join('\n').trimEnd());
    return this.isTight ? text : block('p', {}, text);
  }
}

/** Renders a Markdown text. Nothing is loaded from another host, and no address can run code. */
export function markdown(text) {
  return h('div.markdown', new Blocks(text.replaceAll('\t', '    ').split(/\r\n?|\n/u), 0, [], false).all());
}

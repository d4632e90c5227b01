// HTML articles as Markdown text, as answers quote them. Text that is not HTML stays as it is. The
// browser never parses the HTML, so nothing in it can run or load. Time and text are linear in the
// length of the body.

const names = (text) => new Set(text.split(' '));
/** Elements whose content is not shown. */
const HIDDEN = names('head title script style noscript template svg');
/** Elements that stand apart from what is around them. */
const PARAGRAPHS = names('p ul ol dl table blockquote pre figure h1 h2 h3 h4 h5 h6 hr');
/** Elements that begin a line. */
const LINES = names('div section article header footer main nav aside body html tr thead tbody tfoot caption li dt dd figcaption form fieldset details');
/** Elements within a line. */
const INLINE = names('a abbr b bdi big br center cite code del em font i img ins kbd label mark q s samp small span strike strong sub summary sup td th u');
const isKnown = (name) => [HIDDEN, PARAGRAPHS, LINES, INLINE].some((known) => known.has(name));

/** A tag: whether it is an end tag, its name and its attributes. */
const TAG = /<(\/?)([a-z][a-z0-9:-]*)(?![a-z0-9:-])((?:[^<>"']|"[^"]*"|'[^']*')*)>/iy;
const BEGINNING = /^[\s\ufeff]*(?:<!doctype html|(?=(<)))/i;
const MARKDOWN_LINE = /^[^\S\n\r\u2028\u2029]*(?:```|- |#+ )/m;
/** Deeper lists have the indentation of this depth. */
const MAX_INDENTED_DEPTH = 16;
/** The highest number of an item: Markdown has none with more digits. */
const MAX_NUMBER = 999_999_999;
const ENTITIES = {
  amp: '&', lt: '<', gt: '>', quot: '"', apos: '\'', nbsp: ' ', ndash: '–', mdash: '—', hellip: '…', bull: '•', middot: '·', copy: '©', reg: '®', trade: '™',
  euro: '€', pound: '£', deg: '°', times: '×', rarr: '→', larr: '←', lsquo: '‘', rsquo: '’', sbquo: '‚', ldquo: '“', rdquo: '”', bdquo: '„', laquo: '«', raquo: '»',
  Auml: 'Ä', auml: 'ä', Ouml: 'Ö', ouml: 'ö', Uuml: 'Ü', uuml: 'ü', szlig: 'ß', Eacute: 'É', eacute: 'é', egrave: 'è', ecirc: 'ê', agrave: 'à', aacute: 'á',
  acirc: 'â', aring: 'å', Aring: 'Å', aelig: 'æ', oslash: 'ø', ccedil: 'ç', ntilde: 'ñ', iacute: 'í', oacute: 'ó', uacute: 'ú', ocirc: 'ô', ucirc: 'û', icirc: 'î',
};

const character = (entity, name) => {
  if (name[0] !== '#') return ENTITIES[name] ?? entity;
  const number = /^#x/i.test(name) ? parseInt(name.slice(2), 16) : Number(name.slice(1));
  return number > 0 && number <= 0x10ffff ? String.fromCodePoint(number) : '\ufffd';
};
const decode = (text) => text.replace(/&(#x[0-9a-f]{1,6}|#\d{1,7}|[a-z]+\d*);/gi, character);

/** The tag that begins at a place. */
function tagAt(body, at) {
  TAG.lastIndex = at;
  const [whole, slash, name, attributes] = TAG.exec(body) ?? [];
  return whole === undefined ? null : { name: name.toLowerCase(), isEnd: slash !== '', attributes, end: at + whole.length };
}

/** The value of an attribute, decoded. */
function attribute({ attributes }, name) {
  const found = new RegExp(`(?:^|\\s)${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([^\\s"']\\S*))`, 'i').exec(attributes);
  return found && decode(found[1] ?? found[2] ?? found[3]).trim();
}

/**
 * Maps where each run of backticks begins to where its code ends: a fenced block at a run that is as
 * long or longer, or at the end of the text; a span at a run of the same length in its paragraph. A
 * run that begins no code ends itself.
 */
function codeEnds(body) {
  const ends = new Map();
  const spans = new Map();
  const fences = [];
  let paragraph = 0;
  let next = body.length;
  for (const { 0: { length }, index } of [...body.matchAll(/`+/g)].reverse()) {
    const end = index + length;
    if (/\n\r?\n/.test(body.slice(end, next))) paragraph += 1;
    let before = index;
    while (body[before - 1] === ' ') before -= 1;
    while (fences.length > 0 && fences.at(-1).length < length) fences.pop();
    const span = spans.get(length);
    if (length >= 3 && (before === 0 || body[before - 1] === '\n')) ends.set(index, fences.at(-1)?.end ?? body.length);
    else ends.set(index, span?.paragraph === paragraph ? span.end : end);
    spans.set(length, { paragraph, end });
    fences.push({ length, end });
    next = index;
  }
  return ends;
}

/** The text that is being written. */
class Text {
  lines = [];
  /** The parts of the last line, none of which is empty. */
  line = [];
  /** White space was read since the last word. */
  isSpaced = false;
  /** The line so far is the marker of an item, and its text follows on the same line. */
  isAtMarker = false;
  /** The open lists: the number of the next item, or null. */
  lists = [];
  /** The open link: its address, and its text so far. Links do not nest. */
  link = null;
  preformatted = 0;
  length = 0;

  /** `hasLines`: the line breaks of the body count. */
  constructor(hasLines, maxIndented) {
    Object.assign(this, { hasLines, maxIndented });
  }

  get isLineStart() {
    return this.line.length === 0;
  }

  append(piece) {
    if (piece === '') return;
    this.line.push(piece);
    this.length += piece.length;
    if (this.link) this.link.text += piece;
  }

  newLine() {
    this.isSpaced = false;
    this.lines.push(this.line.join('').trimEnd());
    this.line = [];
    this.length += 1;
    if (this.link) this.link.text += '\n';
  }

  /** Begins a line, unless one has just begun. */
  beginLine() {
    this.isSpaced = false;
    if (!this.isAtMarker && !this.isLineStart) this.newLine();
  }

  beginParagraph() {
    this.beginLine();
    if (!this.isAtMarker && this.isLineStart && this.lines.length > 0 && this.lines.at(-1) !== '') this.newLine();
  }

  /** Appends the space that was read before a word. */
  space() {
    if (this.isSpaced && !this.isLineStart && !/\s$/.test(this.line.at(-1).slice(-1))) this.append(' ');
    this.isSpaced = false;
    this.isAtMarker = false;
  }

  /** Writes text as it is. */
  push(text) {
    this.space();
    text.split('\n').forEach((line, index) => {
      if (index > 0) this.newLine();
      this.append(line);
    });
  }

  /** Writes text, with one space for the white space of HTML. */
  words(text) {
    if (this.preformatted > 0) {
      this.push(text);
      return;
    }
    for (const [piece] of text.matchAll(/[^\s\u200b]+|[\s\u200b]/g)) {
      if (piece === '\n' && this.hasLines) {
        if (this.isLineStart && this.lines.length > 0 && this.lines.at(-1) !== '') this.newLine();
        else this.beginLine();
      } else if (piece === ' ' && this.hasLines && (this.isLineStart ? this.lines.length > 0 : this.line.at(-1).endsWith(' '))) {
        // A space at the beginning of a line of Markdown means something.
        this.append(' ');
      } else if (/^[\s\u200b]/.test(piece)) {
        this.isSpaced = true;
      } else {
        this.space();
        this.append(piece);
      }
    }
  }

  marker(marker) {
    this.isSpaced = false;
    this.append(marker);
    this.isAtMarker = true;
  }

  item() {
    // Indentation must not make a large text of a small body.
    const depth = this.length < this.maxIndented ? Math.min(Math.max(this.lists.length - 1, 0), MAX_INDENTED_DEPTH) : 0;
    const number = this.lists.at(-1) ?? null;
    if (number !== null) this.lists[this.lists.length - 1] = Math.min(number + 1, MAX_NUMBER);
    // An item without text stays a line of its own.
    if (this.isAtMarker) {
      this.isAtMarker = false;
      this.beginLine();
    }
    this.marker(`${'  '.repeat(depth)}${number === null ? '-' : `${number}.`} `);
  }

  cell() {
    this.isSpaced = false;
    if (this.isLineStart) return;
    while (!this.isLineStart && this.line.at(-1).trimEnd() === '') this.line.pop();
    if (!this.isLineStart) this.line.push(this.line.pop().trimEnd());
    this.append(' | ');
  }

  /** Names the address of a link after its text. */
  endLink() {
    const { address, text } = this.link ?? { address: null };
    this.link = null;
    if (!/^(?:https?:\/\/|mailto:|tel:)/i.test(address ?? '')) return;
    const shown = text.trim();
    if (shown === '') this.words(address);
    else if (shown !== address && shown !== address.slice(address.indexOf(':') + 1)) {
      // The space at the end of the link's text follows the address.
      const { isSpaced } = this;
      this.isSpaced = false;
      this.push(` (${address})`);
      this.isSpaced = isSpaced;
    }
  }

  tag(tag) {
    const { name, isEnd } = tag;
    const isPreEnd = name === 'pre' && isEnd;
    // A list within an item begins on the next line.
    if (PARAGRAPHS.has(name) && !isPreEnd && (this.lists.length === 0 || name === 'pre')) this.beginParagraph();
    else if (PARAGRAPHS.has(name) && !isPreEnd || LINES.has(name)) this.beginLine();
    if (name === 'br') this.newLine();
    else if (name === 'img') this.words(attribute(tag, 'alt') ?? '');
    else if (isEnd) this.endOf(name);
    else this.startOf(name, tag);
  }

  startOf(name, tag) {
    if (/^h[1-6]$/.test(name)) this.marker(`${'#'.repeat(name[1])} `);
    else if (name === 'ul') this.lists.push(null);
    else if (name === 'ol') {
      const start = /^\d{1,9}$/.exec(attribute(tag, 'start') ?? '');
      this.lists.push(start ? Number(start[0]) : 1);
    } else if (name === 'li') this.item();
    else if (name === 'td' || name === 'th') this.cell();
    else if (name === 'pre') {
      this.preformatted += 1;
      this.push('```\n');
    } else if (name === 'a') {
      this.endLink();
      this.link = { address: attribute(tag, 'href'), text: '' };
    }
  }

  endOf(name) {
    if (name === 'ul' || name === 'ol') this.lists.pop();
    else if (name === 'a') this.endLink();
    else if (name === 'pre' && this.preformatted > 0) {
      this.preformatted -= 1;
      this.beginLine();
      this.push('```');
      this.beginParagraph();
    }
  }

  /** The text, with at most one blank line in a row. */
  finish() {
    this.newLine();
    return this.lines.join('\n').replace(/\n{3,}/g, '\n\n').replace(/^\n+/, '').trimEnd();
  }
}

/**
 * How the line breaks of a body count: `document` if it is HTML alone, `mixed` if it is text with
 * HTML in it, and null if it is not HTML.
 */
function kindOf(body, codes) {
  const [start, bracket] = BEGINNING.exec(body) ?? [];
  const begins = start !== undefined && (bracket === undefined || isKnown(tagAt(body, start.length)?.name));
  let ends = 0;
  let breaks = 0;
  const special = /[<`]/g;
  for (let found = special.exec(body); found !== null; found = special.exec(body)) {
    if (found[0] === '`') {
      if (!begins) special.lastIndex = codes.get(found.index) ?? special.lastIndex;
      continue;
    }
    const tag = tagAt(body, found.index);
    if (tag === null) continue;
    if (tag.isEnd && isKnown(tag.name)) ends += 1;
    if (tag.name === 'br') breaks += 1;
    special.lastIndex = tag.end;
  }
  if (begins && ends + breaks > 0) return MARKDOWN_LINE.test(body) ? 'mixed' : 'document';
  return ends > 0 || breaks > 1 ? 'mixed' : null;
}

/** Where the first occurrence of an end after a place ends, or the body. */
function after(body, end, at) {
  const found = body.indexOf(end, at);
  return found < 0 ? body.length : found + end.length;
}

/** Where the end tag of an element whose content is not shown ends, or the body. */
function afterHidden(body, { name, end }) {
  for (let at = body.indexOf('</', end); at >= 0; at = body.indexOf('</', at + 2)) {
    const tag = tagAt(body, at);
    if (tag?.name === name) return tag.end;
  }
  return body.length;
}

/** Reads what begins with `<` at a place. Returns where it ends. */
function readSpecial(text, body, at) {
  if (body.startsWith('<!--', at)) return after(body, '-->', at + 4);
  if (body.startsWith('<!', at) || body.startsWith('<?', at)) return after(body, '>', at);
  const tag = tagAt(body, at);
  if (tag === null) {
    text.words('<');
    return at + 1;
  }
  // A placeholder, such as <server name>.
  if (text.hasLines && !isKnown(tag.name)) text.words(body.slice(at, tag.end));
  else if (HIDDEN.has(tag.name) && !tag.isEnd && !tag.attributes.endsWith('/')) return afterHidden(body, tag);
  else text.tag(tag);
  return tag.end;
}

/** Returns the text of an article's body. */
export function textOf(body) {
  const codes = codeEnds(body);
  const kind = kindOf(body, codes);
  if (kind === null) return body;
  const text = new Text(kind === 'mixed', body.length);
  const special = kind === 'mixed' ? /[<`]/g : /</g;
  let seen = 0;
  for (let found = special.exec(body); found !== null; found = special.exec(body)) {
    text.words(decode(body.slice(seen, found.index)));
    if (found[0] === '<') seen = readSpecial(text, body, found.index);
    else {
      seen = codes.get(found.index) ?? found.index + 1;
      text.push(body.slice(found.index, seen));
    }
    special.lastIndex = seen;
  }
  text.words(decode(body.slice(seen)));
  return text.finish();
}

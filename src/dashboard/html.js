// HTML articles as Markdown text, as answers quote them. Text that is not HTML stays as it is. The
// browser never parses the HTML, so nothing in it can run or load.

const KNOWN = 'p|div|ul|ol|li|dl|dt|dd|table|thead|tbody|tr|td|th|h[1-6]|span|b|strong|i|em|u|a|font|blockquote|pre|code|section|article|body|html|br|hr|img|sup|sub';
const BEGINNING = new RegExp(`^\\s*<(!doctype|(${KNOWN})\\b)`, 'i');
const END = new RegExp(`</(${KNOWN})\\s*>|<br\\s*/?>[^]*<br\\s*/?>`, 'i');
const CODE = /^ *```[^]*?(?:^ *```|$(?![^]))|(`+)(?!`)[^]*?[^`]\1(?!`)/gm;
const HIDDEN = /<!--[^]*?(?:-->|$)|<(head|title|script|style|noscript|template|svg)\b[^>]*>[^]*?(?:<\/\1\s*>|$)|<[!?][^>]*>/gi;
const TAG = /(<\/?[a-z](?:[^<>"']|"[^"]*"|'[^']*')*>)/i;
const PARAGRAPH = /^(p|ul|ol|dl|table|blockquote|pre|h[1-6]|hr)$/;
const LINE = /^(div|section|article|tr|li|dt|dd|body)$/;
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

/** Returns the text of an article's body. */
export function textOf(body) {
  const begins = BEGINNING.test(body);
  if (!END.test(begins ? body : body.replace(CODE, ''))) return body;
  let text = '';
  let code = false;
  const lists = [];
  const links = [];
  /** The last characters: a search through the whole text for each tag would take long. */
  const tail = () => text.slice(-80);
  const line = () => { if (text && !/(^|\n) *(- |\d+\. |#+ |)$/.test(tail())) text = `${text.trimEnd()}\n`; };
  const paragraph = () => { line(); if (/[^\n]\n$/.test(tail())) text += '\n'; };
  const words = (token) => {
    if (code) return token;
    const spaced = token.replace(begins ? /\s+/g : /[^\S\n]+/g, ' ');
    return /(^|\s)$/.test(tail()) ? spaced.replace(/^ +/, '') : spaced;
  };
  const open = {
    br: () => { text = `${text.trimEnd()}${/\n\s*$/.test(tail()) ? '\n\n' : '\n'}`; },
    ul: () => lists.push(0),
    ol: () => lists.push(1),
    li: () => {
      const number = lists.at(-1) ? `${lists[lists.length - 1]++}.` : '-';
      text += `${'  '.repeat(Math.max(lists.length - 1, 0))}${number} `;
    },
    td: () => { if (text && !text.endsWith('\n')) text = `${text.trimEnd()} | `; },
    pre: () => { code = true; text += '```\n'; },
    a: (tag) => links.push([/href\s*=\s*("|')?(.*?)(?:\1|[\s>])/i.exec(tag)?.[2] ?? '', text.length]),
    img: (tag) => { text += decode(/alt\s*=\s*("|')(.*?)\1/i.exec(tag)?.[2] ?? ''); },
  };
  open.th = open.td;
  const close = {
    pre: () => { code = false; text = `${text.trimEnd()}\n\`\`\`\n\n`; },
    a: () => {
      const [href, start] = links.pop() ?? ['', 0];
      const address = decode(href);
      if (/^(https?|mailto):/i.test(address) && ![address, address.slice(7)].includes(text.slice(start).trim())) text += ` (${address})`;
    },
  };
  for (const token of body.replace(HIDDEN, '').split(TAG)) {
    const [, end, tag] = /^<(\/?)([a-z][a-z0-9:-]*)/i.exec(token) ?? [];
    const name = tag?.toLowerCase();
    if (name === undefined || !TAG.test(token)) {
      text += words(decode(token));
      continue;
    }
    if (end && (name === 'ul' || name === 'ol')) lists.pop();
    if (PARAGRAPH.test(name) && lists.length === 0 && !(end && name === 'pre')) paragraph();
    else if (PARAGRAPH.test(name) || LINE.test(name)) line();
    if (!end && /^h[1-6]$/.test(name)) text += `${'#'.repeat(name[1])} `;
    (end ? close : open)[name]?.(token);
  }
  return text.replace(/[ \t]+\n/g, '\n').replace(/\n{3,}/g, '\n\n').trim();
}

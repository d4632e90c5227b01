// Knowledge articles: their text, and the people whose chats can use them.

import { allRows, get, path, post, put, remove } from './api.js';
import { h, setContent } from './dom.js';
import { badge, button, confirm, empty, facts, heading, identifier, linkButton, newPath, number, plural, resource, section, time, toast } from './components.js';
import { form } from './form.js';
import { textOf } from './html.js';
import { listView, pickFilter } from './list.js';
import { markdown } from './markdown.js';
import { agentNames, companyNames } from './names.js';
import { agentOption, agents, companies, companyOption, picker } from './picker.js';
import { multiPicker } from './multi-picker.js';
import { AUDIENCES, labelOf } from './labels.js';

const back = { href: '#/knowledge', label: 'Knowledge' };

/** The largest body of an article (contract, section 6). */
const MAX_BYTES = 65_536;
/** Agents of an article that are named in a row of the list. */
const NAMED = 2;
/** The preview is drawn this long after the last key, and later if drawing is slow. */
const PAUSE_MS = 120;

export const view = resource({ list, create, detail });

function list(context) {
  const add = context.me.can.manage && linkButton('New article', newPath('knowledge'), { kind: 'primary', icon: 'add' });
  const ofAgents = ({ agent_ids: ids }) => (ids.length === 0 ? 'All'
    : [ids.slice(0, NAMED).map((id, index) => [index > 0 && ', ', agentNames.element(id)]), ids.length > NAMED && ` and ${ids.length - NAMED} more`]);
  const found = listView(context, {
    path: '/knowledge-articles', caption: 'articles', search: 'Search titles',
    filters: [
      { name: 'audience', label: 'Audience', options: [['', 'Any'], ...AUDIENCES] },
      pickFilter('end_company_id', 'Company', companies(), companyOption),
      pickFilter('agent_id', 'Agent', agents(), agentOption),
    ],
    href: (row) => `#/knowledge/${row.id}`,
    columns: [
      { label: 'Article', cell: (row) => h('bdi', row.title), wide: true },
      { label: 'Audience', cell: (row) => labelOf(AUDIENCES, row.audience) },
      { label: 'Company', cell: (row) => (row.end_company_id === null ? 'All' : companyNames.element(row.end_company_id)) },
      { label: 'Agents', cell: ofAgents },
      { label: 'Changed', cell: (row) => time(row.updated_at) },
    ],
    none: context.me.can.manage
      ? empty('No articles yet.', 'Agents answer from articles. Start with the questions that your technicians or your clients’ staff ask most.', add.cloneNode(true))
      : empty('No articles yet.', 'An administrator writes articles.'),
  });
  return [heading('Knowledge', { lead: 'The articles that agents answer from. An answer uses only articles that the chat may see.', actions: add }), found.element];
}

/** Names as a list in a sentence: `A, B and C`. */
const listed = (names) => names.map((name, index) => [index > 0 && (index === names.length - 1 ? ' and ' : ', '), h('bdi', name)]);

/**
 * The sentences that say who can see an article (contract, section 6). `chosen` are options of
 * agents; an empty list means all agents. A chat has the audience of its agent, so agents for one
 * audience never show the article to the other one.
 */
function reach(tenant, { audience, company, chosen }) {
  const through = (of) => {
    if (chosen.length === 0) return ', with any agent';
    const names = chosen.filter(({ row }) => row.audience === of).map(({ label }) => label);
    return names.length === 0 ? null : [', through ', listed(names)];
  };
  const technicians = through('MSP');
  const staff = audience === 'END_USER' ? through('END_USER') : null;
  const whose = company === null ? 'every client company' : h('bdi', company.label);
  const seen = [
    staff !== null && ['Staff of ', whose, staff, '.'],
    technicians !== null && ['Technicians of ', h('bdi', tenant), technicians, '.'],
  ].filter(Boolean);
  const unseen = [
    audience === 'MSP' && (company === null ? 'No staff of client companies.' : ['No staff of ', whose, ' or another company, because the article is for technicians.']),
    audience === 'END_USER' && staff === null && 'No staff of client companies, because none of these agents serves them.',
    audience === 'END_USER' && staff !== null && company !== null && 'No staff of another company.',
    technicians === null && seen.length > 0 && 'No technicians, because none of these agents serves them.',
  ].filter(Boolean);
  return [
    seen.length === 0
      ? h('p', badge('Nobody', 'warn'), ' The article is for technicians, and the chosen agents serve only clients’ staff.')
      : h('ul', seen.map((line) => h('li', line))),
    seen.length > 0 && unseen.map((line) => h('p.muted', line)),
  ];
}

/** The options of an article's agents. A deleted agent is shown by its id. */
async function agentOptions(ids, signal) {
  const wanted = new Set(ids);
  const found = new Map();
  if (wanted.size > 0) {
    for await (const row of allRows('/agents', {}, signal)) {
      if (wanted.delete(row.agent_id)) found.set(row.agent_id, { value: row.agent_id, label: row.name, row });
      if (wanted.size === 0) break;
    }
  }
  return ids.map((id) => found.get(id) ?? { value: id, label: String(id), row: { audience: null } });
}

/** The field for an article's text, with its size and a preview. */
function editor(id, text, described) {
  const encoder = new TextEncoder();
  const size = h('p', { id: `${id}-size` });
  const input = h('textarea.input.code', { id, name: 'body', rows: 24, required: true, value: text ?? '', 'aria-describedby': `${described} ${size.id}` });
  const drawn = h('div.preview-text', { tabindex: '0', role: 'region', 'aria-label': 'Preview' });
  let timer = null;
  let drawMs = 0;
  const draw = () => {
    const start = performance.now();
    setContent(drawn, input.value.trim() === '' ? h('p.muted', 'The preview of your text.') : markdown(textOf(input.value)));
    drawMs = performance.now() - start;
  };
  const count = () => {
    const bytes = encoder.encode(input.value).length;
    const over = bytes > MAX_BYTES;
    size.className = over ? 'problem' : 'hint';
    size.textContent = over ? `${number(bytes - MAX_BYTES)} bytes too long. An article has up to ${number(MAX_BYTES)} bytes.` : `${number(bytes)} of ${number(MAX_BYTES)} bytes`;
  };
  input.addEventListener('input', () => {
    count();
    clearTimeout(timer);
    timer = setTimeout(draw, PAUSE_MS + 4 * drawMs);
  });
  count();
  draw();
  return {
    element: h('div.editor', input, size, h('div.preview', h('h2.preview-title', 'Preview'), drawn)),
    focusable: input, value: () => input.value,
  };
}

/**
 * The form of an article, with the list of who can see it. `start`: the options of its company and
 * agents.
 */
function settings(me, values, start, options) {
  const seen = h('div.stack', { 'aria-live': 'polite' });
  let company;
  let chosen;
  const draw = () => setContent(seen, reach(me.tenant.name, { audience: made.element.elements.audience.value, company: company.option(), chosen: chosen.options() }));
  const made = form({
    values,
    fields: [
      { name: 'title', label: 'Title', required: true, hint: 'The title must be unique.' },
      { name: 'url', label: 'Address', kind: 'url', nullable: true, hint: 'Optional. Answers link to this address.' },
      { name: 'audience', label: 'Audience', kind: 'select', options: AUDIENCES, hint: 'The people that the article is written for. Technicians see both kinds.' },
      {
        name: 'end_company_id', label: 'Company', kind: 'custom', hint: 'Leave it empty for all companies.',
        make: (id, _, described) => (company = picker({ id, described, search: companies(), start: start.company, placeholder: 'All companies', onpick: () => draw() })),
      },
      {
        name: 'agent_ids', label: 'Agents', kind: 'custom', hint: 'The agents that may use the article.',
        make: (id, _, described) => (chosen = multiPicker({
          id, described, search: agents(), start: start.agents, none: 'All agents', placeholder: 'Search agents…', onchange: () => draw(),
        })),
      },
      { name: 'body', label: 'Text', kind: 'custom', required: true, make: editor, hint: 'Markdown. Headings help agents find the part that answers a question.' },
    ],
    ...options,
  });
  made.element.classList.add('article-form');
  made.element.elements.audience.addEventListener('change', draw);
  made.element.querySelector('.editor').closest('.field').before(h('aside.card.reach', { 'aria-label': 'Who can see this' }, h('h2', 'Who can see this'), seen));
  draw();
  return made;
}

async function create(context) {
  const of = context.query.get('end_company_id');
  const company = of === null ? null : await companyOption(of);
  const made = settings(context.me, { audience: company === null ? 'MSP' : 'END_USER' }, { company, agents: [] }, {
    label: 'Create article',
    cancel: '#/knowledge',
    async submit(values) {
      const article = await post('/knowledge-articles', values);
      toast([h('bdi', article.title), ' was created.']);
      context.go(`#/knowledge/${article.id}`);
    },
  });
  context.guard(made.dirty);
  return [heading('New article', { back }), made.element];
}

async function detail(context, id) {
  const { me, signal } = context;
  const article = await get(path`/knowledge-articles/${id}`, {}, signal);
  const [company, chosen] = await Promise.all([
    article.end_company_id === null ? null : companyOption(article.end_company_id),
    agentOptions(article.agent_ids, signal),
  ]);
  const name = h('bdi', article.title);
  const changed = h('span', time(article.updated_at));
  const made = me.can.manage && settings(me, article, { company, agents: chosen }, {
    async submit(_, changes) {
      const { data } = await put(path`/knowledge-articles/${id}`, changes);
      name.textContent = data.title;
      setContent(changed, time(data.updated_at));
      toast('Saved.');
    },
  });
  if (made) context.guard(made.dirty);
  return [
    heading(name, {
      back,
      actions: [
        article.url !== null && h('a.button.plain', { href: article.url, target: '_blank', rel: 'noopener noreferrer' }, 'Open address'),
        me.can.manage && button('Delete', () => deleteArticle(context, id, name.textContent), { kind: 'danger' }),
      ],
    }),
    facts([
      !made && ['Audience', labelOf(AUDIENCES, article.audience)],
      !made && ['Company', company === null ? 'All companies' : h('bdi', company.label)],
      !made && ['Agents', chosen.length === 0 ? 'All agents' : plural(chosen.length, 'agent')],
      ['Article id', identifier(id)], ['Created', time(article.created_at)], ['Changed', changed],
    ]),
    made ? section('Article', made.element) : [
      section('Who can see this', h('div.stack.reach', reach(me.tenant.name, { audience: article.audience, company, chosen }))),
      section('Text', h('div.card', markdown(textOf(article.body)))),
    ],
  ];
}

async function deleteArticle(context, id, title) {
  if (!await confirm(['Delete ', h('bdi', title), '?'],
    'Agents stop using this article. Answers that were given stay. This cannot be undone.', 'Delete article')) return;
  await remove(path`/knowledge-articles/${id}`);
  toast([h('bdi', title), ' was deleted.']);
  context.go('#/knowledge');
}

// What agents know: articles, whose chats each may be used in, and how it reads.

import { all, get, path, post, put, remove } from './api.js';
import { h, refill } from './dom.js';
import { badge, button, confirm, empty, facts, heading, identifier, linkButton, newOf, number, plural, resource, say, section, time } from './parts.js';
import { form } from './form.js';
import { listing, pickFilter } from './list.js';
import { markdown } from './markdown.js';
import { agentNames, companyNames } from './names.js';
import { agentOption, agents, companies, companyOption, picker } from './picker.js';
import { several } from './several.js';
import { AUDIENCES, word } from './words.js';

const back = { href: '#/knowledge', label: 'Knowledge' };

/** The most that an article may have (contract, section 6). */
const MOST_BYTES = 65_536;
/** Agents of an article that are named in a list's row. */
const NAMED = 2;
/** The preview is drawn this long after the last key, and not so often that typing would wait for it. */
const PAUSE_MS = 120;

export const view = resource({ list, fresh, one });

function list(context) {
  const add = context.me.can.keep && linkButton('New article', newOf('knowledge'), { kind: 'primary', icon: 'add' });
  const ofAgents = ({ agent_ids: ids }) => (ids.length === 0 ? 'All'
    : [ids.slice(0, NAMED).map((id, index) => [index > 0 && ', ', agentNames.element(id)]), ids.length > NAMED && ` and ${ids.length - NAMED} more`]);
  const found = listing(context, {
    path: '/knowledge-articles', caption: 'articles', search: 'Search titles',
    filters: [
      { name: 'audience', label: 'Audience', options: [['', 'Any'], ...AUDIENCES] },
      pickFilter('end_company_id', 'Company', companies(), companyOption),
      pickFilter('agent_id', 'Agent', agents(), agentOption),
    ],
    href: (row) => `#/knowledge/${row.id}`,
    columns: [
      { label: 'Article', cell: (row) => h('bdi', row.title), wide: true },
      { label: 'Audience', cell: (row) => word(AUDIENCES, row.audience) },
      { label: 'Company', cell: (row) => (row.end_company_id === null ? 'All' : companyNames.element(row.end_company_id)) },
      { label: 'Agents', cell: ofAgents },
      { label: 'Changed', cell: (row) => time(row.updated_at) },
    ],
    none: context.me.can.keep
      ? empty('No articles yet.', 'Agents answer from articles. Write down what your technicians or your clients’ staff ask about most.', add.cloneNode(true))
      : empty('No articles yet.', 'An administrator writes them.'),
  });
  return [heading('Knowledge', { lead: 'The articles that agents answer from. Each answer uses only what its chat may see.', actions: add }), found.element];
}

/** Names in a sentence. */
const listed = (names) => names.map((name, index) => [index > 0 && (index === names.length - 1 ? ' and ' : ', '), h('bdi', name)]);

/**
 * Who can see an article, in sentences (contract, section 6). `chosen` are options of agents; where none is named, all agents are meant.
 * A chat has its agent's audience: technicians meet agents of their own only, and so do clients' staff.
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
    audience === 'MSP' && (company === null ? 'No client’s staff.' : ['Not staff of ', whose, ', nor of any other company: it is for technicians.']),
    audience === 'END_USER' && staff === null && 'No client’s staff: none of these agents serves them.',
    audience === 'END_USER' && staff !== null && company !== null && 'Not the staff of any other company.',
    technicians === null && seen.length > 0 && 'Not technicians: none of these agents serves them.',
  ].filter(Boolean);
  return [
    seen.length === 0
      ? h('p', badge('Nobody', 'warn'), ' It is for technicians, and the agents named here serve clients’ staff alone.')
      : h('ul', seen.map((line) => h('li', line))),
    seen.length > 0 && unseen.map((line) => h('p.muted', line)),
  ];
}

/** The options of an article's agents, those that are gone by their number alone. */
async function named(ids, signal) {
  const wanted = new Set(ids);
  const found = new Map();
  if (wanted.size > 0) {
    for await (const row of all('/agents', {}, signal)) {
      if (wanted.delete(row.agent_id)) found.set(row.agent_id, { value: row.agent_id, label: row.name, row });
      if (wanted.size === 0) break;
    }
  }
  return ids.map((id) => found.get(id) ?? { value: id, label: String(id), row: { audience: null } });
}

/** The field of an article's text: what is written, beside how it reads, with what is left of the room. */
function editor(id, text, described) {
  const encoder = new TextEncoder();
  const size = h('p', { id: `${id}-size` });
  const input = h('textarea.input.code', { id, name: 'body', rows: 24, required: true, value: text ?? '', 'aria-describedby': `${described} ${size.id}` });
  const drawn = h('div.preview-text', { tabindex: '0', role: 'region', 'aria-label': 'Preview' });
  let soon = null;
  let took = 0;
  const draw = () => {
    const began = performance.now();
    refill(drawn, input.value.trim() === '' ? h('p.muted', 'What you write is shown here as people read it.') : markdown(input.value));
    took = performance.now() - began;
  };
  const count = () => {
    const bytes = encoder.encode(input.value).length;
    const over = bytes > MOST_BYTES;
    size.className = over ? 'problem' : 'hint';
    size.textContent = over ? `${number(bytes - MOST_BYTES)} bytes too many: an article has at most ${number(MOST_BYTES)}.` : `${number(bytes)} of ${number(MOST_BYTES)} bytes`;
  };
  input.addEventListener('input', () => {
    count();
    clearTimeout(soon);
    soon = setTimeout(draw, PAUSE_MS + 4 * took);
  });
  count();
  draw();
  return {
    element: h('div.editor', input, size, h('div.preview', h('h2.preview-title', 'Preview'), drawn)),
    focusable: input, value: () => input.value,
  };
}

/** The form of an article, with who can see it beside it; `start` has the options of its company and its agents. */
function settings(me, values, start, options) {
  const seen = h('div.stack', { 'aria-live': 'polite' });
  let company;
  let chosen;
  const draw = () => refill(seen, reach(me.tenant.name, { audience: made.element.elements.audience.value, company: company.option(), chosen: chosen.options() }));
  const made = form({
    values,
    fields: [
      { name: 'title', label: 'Title', required: true, hint: 'No other article of yours has it.' },
      { name: 'url', label: 'Address', kind: 'url', nullable: true, hint: 'Where people can read it themselves, if anywhere; answers then link to it.' },
      { name: 'audience', label: 'Audience', kind: 'select', options: AUDIENCES, hint: 'Whom it is written for. Technicians see both kinds.' },
      {
        name: 'end_company_id', label: 'Company', kind: 'custom', hint: 'Leave it empty for all companies.',
        make: (id, _, described) => (company = picker({ id, described, search: companies(), start: start.company, placeholder: 'All companies', onpick: () => draw() })),
      },
      {
        name: 'agent_ids', label: 'Agents', kind: 'custom', hint: 'Those that may answer from it.',
        make: (id, _, described) => (chosen = several({
          id, described, search: agents(), start: start.agents, none: 'All agents', placeholder: 'Search agents…', onchange: () => draw(),
        })),
      },
      { name: 'body', label: 'Text', kind: 'custom', required: true, make: editor, hint: 'Markdown. Headings help to find the part that answers a question.' },
    ],
    ...options,
  });
  made.element.classList.add('article-form');
  made.element.elements.audience.addEventListener('change', draw);
  made.element.querySelector('.editor').closest('.field').before(h('aside.card.reach', { 'aria-label': 'Who can see this' }, h('h2', 'Who can see this'), seen));
  draw();
  return made;
}

async function fresh(context) {
  const of = context.query.get('end_company_id');
  const company = of === null ? null : await companyOption(of);
  const made = settings(context.me, { audience: company === null ? 'MSP' : 'END_USER' }, { company, agents: [] }, {
    label: 'Create article',
    cancel: '#/knowledge',
    async submit(values) {
      const article = await post('/knowledge-articles', values);
      say([h('bdi', article.title), ' is there now.']);
      context.go(`#/knowledge/${article.id}`);
    },
  });
  context.guard(made.dirty);
  return [heading('New article', { back }), made.element];
}

async function one(context, id) {
  const { me, signal } = context;
  const article = await get(path`/knowledge-articles/${id}`, {}, signal);
  const [company, chosen] = await Promise.all([
    article.end_company_id === null ? null : companyOption(article.end_company_id),
    named(article.agent_ids, signal),
  ]);
  const name = h('bdi', article.title);
  const changed = h('span', time(article.updated_at));
  const made = me.can.keep && settings(me, article, { company, agents: chosen }, {
    async submit(_, changes) {
      const { data } = await put(path`/knowledge-articles/${id}`, changes);
      name.textContent = data.title;
      refill(changed, time(data.updated_at));
      say('Saved.');
    },
  });
  if (made) context.guard(made.dirty);
  return [
    heading(name, {
      back,
      actions: [
        article.url !== null && h('a.button.plain', { href: article.url, target: '_blank', rel: 'noopener noreferrer' }, 'Open its address'),
        me.can.keep && button('Delete', () => erase(context, id, name.textContent), { kind: 'danger' }),
      ],
    }),
    facts([
      !made && ['Audience', word(AUDIENCES, article.audience)],
      !made && ['Company', company === null ? 'All companies' : h('bdi', company.label)],
      !made && ['Agents', chosen.length === 0 ? 'All agents' : plural(chosen.length, 'agent')],
      ['Article id', identifier(id)], ['Created', time(article.created_at)], ['Changed', changed],
    ]),
    made ? section('Article', made.element) : [
      section('Who can see this', h('div.stack.reach', reach(me.tenant.name, { audience: article.audience, company, chosen }))),
      section('Text', h('div.card', markdown(article.body))),
    ],
  ];
}

async function erase(context, id, title) {
  if (!await confirm(['Delete ', h('bdi', title), '?'],
    'No agent answers from it any more. Answers that were given stay. It cannot be brought back.', 'Delete article')) return;
  await remove(path`/knowledge-articles/${id}`);
  say([h('bdi', title), ' is deleted.']);
  context.go('#/knowledge');
}

// The MSP's clients: which there are, which M365 tenant each one's staff writes from, and what agents are told of them.

import { call, get, path, post, put, remove } from './api.js';
import { h, refill } from './dom.js';
import { badge, button, confirm, empty, facts, failure, fillIn, heading, identifier, linkButton, newOf, notice, plural, resource, say, section, time } from './parts.js';
import { form } from './form.js';
import { unshareDirectory } from './linking.js';
import { listing, textFilter } from './list.js';

/** Other companies of an M365 tenant that are named, and articles that are counted, before it is "more". */
const NAMED = 10;

const NAME = { name: 'psa_company_name', label: 'Name', required: true };
const DIRECTORY = {
  name: 'tenant_id', label: 'M365 tenant id', nullable: true, code: true,
  hint: 'The Microsoft directory that its staff sign in to. Whoever writes to a client bot from there is answered as this company’s staff. Leave it empty to link none.',
};
const INSTRUCTIONS = [
  {
    name: 'custom_instructions_for_user_facing_chat', label: 'Instructions for chats with its staff', kind: 'textarea', rows: 6, nullable: true,
    hint: 'The agent reads them whenever staff of this company write, and in no other chat.',
  },
  {
    name: 'custom_instructions', label: 'Internal instructions', kind: 'textarea', rows: 4, nullable: true,
    hint: 'For programs of yours that read them over the API. No chat is given them.',
  },
];

const pageOf = (id) => `#/companies/${encodeURIComponent(id)}`;

export const view = resource({ list, fresh, one });

function list(context) {
  const { me, signal } = context;
  const add = me.can.keep && linkButton('New company', newOf('companies'), { kind: 'primary', icon: 'add' });
  const csv = () => h('code', `switchboard import companies.csv --tenant ${me.client_id}`);
  const health = get('/end-companies/health', {}, signal);
  const shared = health.then(({ shared_directories: { items } }) => new Set(items.map((item) => item.tenant_id)), () => new Set());
  const directory = ({ tenant_id: id }) => {
    if (id === null) return badge('not linked', 'warn');
    const shown = h('span', h('code', id), ' ');
    shared.then((several) => several.has(id) && shown.append(badge('shared', 'warn')));
    return shown;
  };
  const found = listing(context, {
    path: '/end-companies', caption: 'companies', search: 'Search by name or PSA id',
    filters: [textFilter('tenant_id', 'M365 tenant')],
    href: (row) => pageOf(row.psa_company_id),
    columns: [
      { label: 'Company', cell: (row) => h('bdi', row.psa_company_name), wide: true },
      { label: 'PSA id', cell: (row) => h('code', row.psa_company_id) },
      { label: 'M365 tenant', cell: directory },
      { label: 'Changed', cell: (row) => time(row.updated_at) },
    ],
    none: me.can.keep
      ? empty('No companies yet.', ['Add your clients here one by one, or all at once from a CSV file: ', csv()], add.cloneNode(true))
      : empty('No companies yet.', 'An administrator adds them.'),
  });
  return [
    heading('Companies', {
      lead: ['Your clients, and the M365 tenant that each one’s staff writes from.', me.can.keep && [h('br'), 'Many at once, from a CSV file: ', csv()]],
      actions: add,
    }),
    hands(health, signal),
    found.element,
  ];
}

/** Leads to what needs a hand, where something does. */
function hands(health, signal) {
  const place = h('div.above');
  Promise.all([health, get('/end-companies/unlinked-tenants', { page_size: 1 }, signal)]).then(
    ([found, refused]) => found.installed_without_company.count + found.shared_directories.count + refused.length > 0
      && refill(place, notice('warn', 'Some people would be refused.',
        h('p', 'An M365 tenant leads to no company, or to several. ', h('a', { href: '#/overview' }, 'See what needs a hand')))),
    (error) => signal.aborted || refill(place, failure(error)));
  return place;
}

function fresh(context) {
  const made = form({
    fields: [NAME, { name: 'psa_company_id', label: 'PSA company id', required: true, code: true, hint: 'As your PSA names it. It cannot be changed later.' }, DIRECTORY, ...INSTRUCTIONS],
    label: 'Create company',
    cancel: '#/companies',
    async submit(values) {
      await mayLink(null, values.tenant_id);
      try {
        await post('/end-companies', values);
      } catch (error) {
        if (error.code === 'already_exists') error.message = 'A company has this id already. Change that one, or choose another id.';
        throw error;
      }
      say([h('bdi', values.psa_company_name), ' is added.']);
      context.go(pageOf(values.psa_company_id));
    },
  });
  context.guard(made.dirty);
  return [heading('New company', { back: { href: '#/companies', label: 'Companies' } }), made.element];
}

async function one(context, id) {
  const { me, signal } = context;
  const company = await get(path`/end-companies/${id}`, {}, signal);
  const name = h('bdi', company.psa_company_name);
  const of = encodeURIComponent(id);
  const link = linkOf(context, company);
  const details = me.can.keep && form({
    fields: [NAME, ...INSTRUCTIONS],
    values: company,
    async submit(_, changed) {
      const { data } = await put(path`/end-companies/${id}`, changed);
      name.textContent = data.psa_company_name;
      say('Saved.');
    },
  });
  if (details) context.guard(() => details.dirty() || link.dirty());
  return [
    heading(name, {
      back: { href: '#/companies', label: 'Companies' },
      actions: [
        linkButton('Sessions', `#/sessions?end_company_id=${of}`),
        linkButton('Articles', `#/knowledge?end_company_id=${of}`),
        me.can.keep && button('Delete', () => erase(context, company, name.textContent), { kind: 'danger' }),
      ],
    }),
    facts([['PSA company id', identifier(id)], ['Created', time(company.created_at)], ['Changed', time(company.updated_at)]]),
    h('div.columns.halves',
      section('M365 tenant', link.element),
      section('Details', details
        ? details.element
        : h('dl.stack', INSTRUCTIONS.map((field) => h('div', h('dt', h('strong', field.label)), h('dd.as-typed', { dir: 'auto' }, company[field.name] ?? h('span.muted', 'none'))))))),
  ];
}

/** The link to an M365 tenant: whether it leads its staff to this company, and what mends it. It is saved by itself. */
function linkOf({ me, signal }, company) {
  const state = h('div');
  const draw = () => fillIn(state, () => health(), 2);
  const made = me.can.keep && form({
    fields: [DIRECTORY],
    values: company,
    label: 'Save link',
    async submit({ tenant_id: directory }) {
      await mayLink(company, directory);
      const { data, meta } = await put(path`/end-companies/${company.psa_company_id}`, { tenant_id: directory });
      now(data);
      if (meta.warnings.length > 0) say(meta.warnings.join(' '), 'bad');
      else say(data.tenant_id === null ? 'It is not linked any more.' : 'The link is saved.');
      draw();
    },
  });
  const now = (row) => {
    company = row;
    made.element.elements.tenant_id.value = row.tenant_id ?? '';
  };
  const share = button('Choose who keeps it', async () => {
    if (!await unshareDirectory(company.tenant_id)) return;
    const row = await get(path`/end-companies/${company.psa_company_id}`, {}, signal);
    // What was typed here meanwhile stays, and is what Save sends.
    if (made.dirty()) company = row;
    else {
      now(row);
      made.settle();
    }
    draw();
  }, { small: true });

  async function health() {
    if (company.tenant_id === null) {
      return notice('warn', 'Not linked.', h('p', 'When its staff write to a client bot, nobody knows that they are this company’s, and they are refused.'));
    }
    const { rows, more } = await others(company.tenant_id, company.psa_company_id, signal);
    const tenant = h('p', identifier(company.tenant_id));
    if (rows.length === 0) {
      return notice('good', 'Linked to this company alone.', tenant, h('p', 'Whoever writes to a client bot from there is answered as its staff.'));
    }
    return notice('warn', 'Shared: everyone there is refused.', tenant,
      h('p', 'It cannot be told whose staff is writing until one company is left. It is also the link of ', named(rows, more, true), '.'),
      me.can.keep && share);
  }
  draw();
  return { element: h('div.stack', state, made && made.element), dirty: made ? made.dirty : () => false };
}

/** The companies beside `id` that carry an M365 tenant, the first of them, and whether there are more. */
async function others(directory, id, signal) {
  const { data, meta } = await call('GET', '/end-companies', { query: { tenant_id: directory, page_size: NAMED + 1 }, signal });
  const rows = data.filter((row) => row.psa_company_id !== id);
  return { rows: rows.slice(0, NAMED), more: rows.length > NAMED || meta.pagination.has_more };
}

/** Companies in a sentence. */
function named(rows, more, links = false) {
  return rows.map((row, index) => {
    const name = h('bdi', row.psa_company_name);
    const before = index === 0 ? '' : index === rows.length - 1 && !more ? ' and ' : ', ';
    return [before, links ? h('a', { href: pageOf(row.psa_company_id) }, name) : name];
  }).concat(more ? [' and more'] : []);
}

/** Asks first where a link would have people refused who are not; throws where the answer is no, so that the form keeps what was typed. */
async function mayLink(company, directory) {
  const before = company?.tenant_id ?? null;
  const after = directory?.toLowerCase() ?? null;
  if (before === after) return;
  const told = [];
  if (after !== null) {
    const { rows, more } = await others(after, company?.psa_company_id);
    if (rows.length > 0) told.push(h('span', 'It is linked to ', named(rows, more), ' already. While several companies share it, everyone there is refused. '));
  }
  if (before !== null && (await others(before, company.psa_company_id)).rows.length === 0) {
    told.push(h('span', 'Whoever writes from ', h('code', before), ' is refused from then on.'));
  }
  if (told.length > 0 && !await confirm('People would be refused', told, 'Save all the same')) {
    throw Object.assign(new Error('This is not saved.'), { details: { field: 'tenant_id' } });
  }
}

async function erase(context, company, name) {
  const { data, meta } = await call('GET', '/knowledge-articles', { query: { end_company_id: company.psa_company_id, page_size: NAMED } });
  const articles = meta.pagination.has_more ? `Its articles, more than ${NAMED}, go along.`
    : data.length > 0 ? `${plural(data.length, 'article')} for it alone ${data.length === 1 ? 'goes' : 'go'} along.`
      : 'No articles are for it alone.';
  const text = `Its staff are refused from then on. ${articles} Its sessions stay to be read, and take no new messages. It cannot be brought back.`;
  if (!await confirm(['Delete ', h('bdi', name), '?'], text, 'Delete company')) return;
  await remove(path`/end-companies/${company.psa_company_id}`);
  say([h('bdi', name), ' is deleted.']);
  context.go('#/companies');
}

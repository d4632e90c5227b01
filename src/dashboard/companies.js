// The MSP's client companies: the M365 tenants of each one, and the instructions that agents get for
// it.

import { call, get, path, post, put, remove } from './api.js';
import { h, setContent } from './dom.js';
import { badge, button, confirm, empty, facts, failure, heading, identifier, linkButton, loadInto, newPath, notice, plural, resource, section, time, toast } from './components.js';
import { form } from './form.js';
import { unshareDirectory } from './linking.js';
import { listView, textFilter } from './list.js';

/** Companies that are named in a sentence, and articles that are counted, before "more". */
const NAMED = 10;
/** M365 tenants of a company that the list shows, before "more". */
const SHOWN = 3;
/** M365 tenants of a company whose state its page shows. */
const CHECKED = 20;

const NAME = { name: 'psa_company_name', label: 'Name', required: true };
const DIRECTORIES = {
  name: 'tenant_ids', label: 'M365 tenant ids', kind: 'lines', rows: 2, code: true,
  hint: 'The Microsoft directories that the staff sign in to, one a line. People who write to a client bot from there are answered as this company’s staff. Find the id in the Microsoft Entra admin center under Overview > Tenant ID. Leave it empty for no link.',
};
const INSTRUCTIONS = [
  {
    name: 'custom_instructions_for_user_facing_chat', label: 'Instructions for chats with its staff', kind: 'textarea', rows: 6, nullable: true,
    hint: 'The agent reads them in chats with staff of this company, and in no other chat.',
  },
  {
    name: 'custom_instructions', label: 'Internal instructions', kind: 'textarea', rows: 4, nullable: true,
    hint: 'For your own programs, which read them with the API. No agent reads them.',
  },
];

const pageOf = (id) => `#/companies/${encodeURIComponent(id)}`;

export const view = resource({ list, create, detail });

function list(context) {
  const { me, signal } = context;
  const add = me.can.manage && linkButton('New company', newPath('companies'), { kind: 'primary', icon: 'add' });
  const csv = () => h('code', `switchboard import companies.csv --tenant ${me.client_id}`);
  const health = get('/end-companies/health', {}, signal);
  const shared = health.then(({ shared_directories: { items } }) => new Set(items.map((item) => item.tenant_id)), () => new Set());
  const directory = (id) => {
    const shown = h('div', h('code', id), ' ');
    shared.then((directories) => directories.has(id) && shown.append(badge('shared', 'warn')));
    return shown;
  };
  const directories = ({ tenant_ids: ids }) => {
    if (ids.length === 0) return badge('not linked', 'warn');
    return ids.slice(0, SHOWN).map(directory).concat(ids.length > SHOWN ? h('div.muted', `and ${ids.length - SHOWN} more`) : []);
  };
  const found = listView(context, {
    path: '/end-companies', caption: 'companies', search: 'Search by name or PSA id',
    filters: [textFilter('tenant_id', 'M365 tenant')],
    href: (row) => pageOf(row.psa_company_id),
    columns: [
      { label: 'Company', cell: (row) => h('bdi', row.psa_company_name), wide: true },
      { label: 'PSA id', cell: (row) => h('code', row.psa_company_id) },
      { label: 'M365 tenant', cell: directories },
      { label: 'Changed', cell: (row) => time(row.updated_at) },
    ],
    none: me.can.manage
      ? empty('No companies yet.', ['Add your clients one by one, or import a CSV file: ', csv()], add.cloneNode(true))
      : empty('No companies yet.', 'An administrator adds them.'),
  });
  return [
    heading('Companies', {
      lead: ['Your clients, and the M365 tenants of each one’s staff.', me.can.manage && [h('br'), 'To import a CSV file: ', csv()]],
      actions: add,
    }),
    refusalNotice(health, signal),
    found.element,
  ];
}

/** A notice that leads to the overview, if an M365 tenant needs attention. */
function refusalNotice(health, signal) {
  const place = h('div.above');
  Promise.all([health, get('/end-companies/unlinked-tenants', { page_size: 1 }, signal)]).then(
    ([found, refused]) => found.installed_without_company.count + found.shared_directories.count + refused.length > 0
      && setContent(place, notice('warn', 'Some people are refused.',
        h('p', 'An M365 tenant is linked to no company, or to several. ', h('a', { href: '#/overview' }, 'See what needs attention')))),
    (error) => signal.aborted || setContent(place, failure(error)));
  return place;
}

function create(context) {
  const made = form({
    fields: [NAME, { name: 'psa_company_id', label: 'PSA company id', required: true, code: true, hint: 'The id of the company in your PSA. It cannot be changed later.' }, DIRECTORIES, ...INSTRUCTIONS],
    label: 'Create company',
    cancel: '#/companies',
    async submit(values) {
      await confirmLinks(null, values.tenant_ids);
      let company;
      try {
        company = await post('/end-companies', values);
      } catch (error) {
        if (error.code === 'already_exists') error.message = 'Another company has this id. Change that company, or choose another id.';
        throw error;
      }
      toast([h('bdi', values.psa_company_name), ' was created.']);
      context.go(pageOf(company.psa_company_id));
    },
  });
  context.guard(made.dirty);
  return [heading('New company', { back: { href: '#/companies', label: 'Companies' } }), made.element];
}

async function detail(context, id) {
  const { me, signal } = context;
  const company = await get(path`/end-companies/${id}`, {}, signal);
  const name = h('bdi', company.psa_company_name);
  const of = encodeURIComponent(id);
  const link = linkOf(context, company);
  const details = me.can.manage && form({
    fields: [NAME, ...INSTRUCTIONS],
    values: company,
    async submit(_, changed) {
      const { data } = await put(path`/end-companies/${id}`, changed);
      name.textContent = data.psa_company_name;
      toast('Saved.');
    },
  });
  if (details) context.guard(() => details.dirty() || link.dirty());
  return [
    heading(name, {
      back: { href: '#/companies', label: 'Companies' },
      actions: [
        linkButton('Sessions', `#/sessions?end_company_id=${of}`),
        linkButton('Articles', `#/knowledge?end_company_id=${of}`),
        me.can.manage && button('Delete', () => deleteCompany(context, company, name.textContent), { kind: 'danger' }),
      ],
    }),
    facts([['PSA company id', identifier(id)], ['Created', time(company.created_at)], ['Changed', time(company.updated_at)]]),
    h('div.columns.halves',
      section('M365 tenants', link.element),
      section('Details', details
        ? details.element
        : h('dl.stack', INSTRUCTIONS.map((field) => h('div', h('dt', h('strong', field.label)), h('dd.preformatted', { dir: 'auto' }, company[field.name] ?? h('span.muted', 'none'))))))),
  ];
}

/** The links to M365 tenants: the state of each, a fix for a shared one, and a form of their own. */
function linkOf({ me, signal }, company) {
  const state = h('div');
  const draw = () => loadInto(state, () => health(), 2);
  const made = me.can.manage && form({
    fields: [DIRECTORIES],
    values: company,
    label: 'Save links',
    async submit({ tenant_ids: directories }) {
      await confirmLinks(company, directories);
      const { data, meta } = await put(path`/end-companies/${company.psa_company_id}`, { tenant_ids: directories });
      show(data);
      if (meta.warnings.length > 0) toast(meta.warnings.join(' '), 'bad');
      else toast(data.tenant_ids.length === 0 ? 'The company is not linked now.' : 'The links were saved.');
      draw();
    },
  });
  const show = (row) => {
    company = row;
    made.element.elements.tenant_ids.value = row.tenant_ids.join('\n');
  };
  const share = (directory) => button('Choose one company', async () => {
    if (!await unshareDirectory(directory)) return;
    const row = await get(path`/end-companies/${company.psa_company_id}`, {}, signal);
    // Input that was typed meanwhile stays in the form.
    if (made.dirty()) company = row;
    else {
      show(row);
      made.settle();
    }
    draw();
  }, { small: true });

  async function health() {
    const { tenant_ids: directories, psa_company_id: id } = company;
    if (directories.length === 0) {
      return notice('warn', 'Not linked.', h('p', 'Switchboard refuses the company’s staff when they write to a client bot, because it cannot tell which company they belong to.'));
    }
    const found = await Promise.all(directories.slice(0, CHECKED).map(async (directory) => ({ directory, ...await others(directory, id, signal) })));
    const own = found.filter(({ rows }) => rows.length === 0);
    const shared = found.filter(({ rows }) => rows.length > 0);
    return [
      own.length > 0 && notice('good', 'Linked to this company only.', own.map(({ directory }) => h('p', identifier(directory))),
        h('p', 'People who write to a client bot from there are answered as the company’s staff.')),
      shared.map(({ directory, rows, more }) => notice('warn', 'Shared: everybody there is refused.', h('p', identifier(directory)),
        h('p', 'Switchboard cannot tell whose staff is writing until only one company is linked. Also linked: ', named(rows, more, true), '.'),
        me.can.manage && share(directory))),
      directories.length > CHECKED && h('p.muted', `And ${directories.length - CHECKED} more M365 tenants.`),
    ];
  }
  draw();
  return { element: h('div.stack', state, made && made.element), dirty: made ? made.dirty : () => false };
}

/**
 * The first companies, except `id`, that are linked to an M365 tenant, and whether there are more.
 */
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

/**
 * Asks for confirmation if a link would make Switchboard refuse more people. Throws if the person
 * cancels, so that the form keeps its input.
 */
async function confirmLinks(company, after) {
  const before = company?.tenant_ids ?? [];
  // The server reads every spelling of a GUID as the same M365 tenant.
  const plain = (id) => id.toLowerCase().replace(/urn:uuid:|[\s{}()-]/g, '');
  const without = (list, others) => list.filter((id) => !others.some((other) => plain(other) === plain(id)));
  const warnings = [];
  for (const id of without(after, before)) {
    const { rows, more } = await others(id, company?.psa_company_id);
    if (rows.length > 0) warnings.push(h('span', 'The M365 tenant ', h('code', id), ' is already linked to ', named(rows, more), '. While several companies share it, Switchboard refuses everybody there. '));
  }
  for (const id of without(before, after)) {
    if ((await others(id, company.psa_company_id)).rows.length === 0) warnings.push(h('span', 'Switchboard will refuse people who write from ', h('code', id), '. '));
  }
  if (warnings.length > 0 && !await confirm('People would be refused', warnings, 'Save anyway')) {
    throw Object.assign(new Error('Not saved.'), { details: { field: 'tenant_ids' } });
  }
}

async function deleteCompany(context, company, name) {
  const { data, meta } = await call('GET', '/knowledge-articles', { query: { end_company_id: company.psa_company_id, page_size: NAMED } });
  const articles = meta.pagination.has_more ? `More than ${NAMED} articles for this company only are deleted too.`
    : data.length > 0 ? `${plural(data.length, 'article')} for this company only ${data.length === 1 ? 'is' : 'are'} deleted too.`
      : 'No article is for this company only.';
  const text = `Switchboard will refuse its staff. ${articles} Its sessions stay readable and take no new messages. This cannot be undone.`;
  if (!await confirm(['Delete ', h('bdi', name), '?'], text, 'Delete company')) return;
  await remove(path`/end-companies/${company.psa_company_id}`);
  toast([h('bdi', name), ' was deleted.']);
  context.go('#/companies');
}

// The audit log: changes and refused requests, newest first.

import { call } from './api.js';
import { append, h } from './dom.js';
import { badge, empty, heading, plural, time } from './components.js';
import { LOCALE } from './labels.js';
import { listView } from './list.js';
import { picker } from './picker.js';

/** The labels of the actions. */
const ACTIONS = {
  'agent.create': 'Agent created', 'agent.update': 'Agent changed', 'agent.delete': 'Agent deleted',
  'api_key.create': 'Key created', 'api_key.rotate': 'Key rotated', 'api_key.revoke': 'Key revoked',
  'article.create': 'Article created', 'article.update': 'Article changed', 'article.delete': 'Article deleted',
  'channel.create': 'Channel created', 'channel.update': 'Channel changed', 'channel.delete': 'Channel deleted', 'channel.release_bot': 'Bot released by the platform',
  'company.create': 'Company created', 'company.update': 'Company changed', 'company.delete': 'Company deleted',
  'companies.import': 'Companies imported', 'seed.import': 'Seed file imported',
  'install.create': 'Install added', 'install.link': 'Company linked to an install', 'install.delete': 'Install removed', 'install.refused': 'Install by another tenant refused', 'dry_run.refused': 'Dry run by another tenant refused',
  'request.refused': 'Request refused',
  'session.create_as_company': 'Agent tried as a company', 'session.update': 'Session changed', 'session.delete': 'Session deleted', 'session.purge': 'Idle sessions removed',
  'session_token.mint': 'Session token created', 'session_token.revoke': 'Session token revoked',
  'login_link.create': 'Sign-in link created', 'sign_in.create': 'Signed in with a link', 'sign_in.end': 'Signed out',
  'tenant.create': 'Tenant created', 'tenant.update': 'Tenant changed', 'unlinked_tenant.delete': 'Refused M365 tenant dismissed',
  'user.update': 'Role changed',
};
const ACTORS = { service_account: 'API key', dashboard_user: 'User', end_user_session: 'Client staff', operator: 'Server' };
/** The view of a target, by the noun of the action. */
const TARGET_VIEWS = { agent: 'agents', article: 'knowledge', channel: 'channels', company: 'companies', session: 'sessions' };

export function view(context) {
  const found = listView(context, {
    path: '/audit-events', caption: 'audit events', search: 'Search targets, names and details',
    filters: [
      { name: 'action', label: 'Action', options: [['', 'Any'], ...Object.entries(ACTIONS).sort(([, one], [, other]) => one.localeCompare(other, LOCALE))] },
      actorFilter(context.me),
    ],
    columns: [
      { label: 'When', cell: (row) => time(row.created_at) },
      { label: 'Action', cell: ({ action }) => h('div.roomy', action === 'request.refused' ? badge(ACTIONS[action], 'bad') : ACTIONS[action], h('div.audit-action', h('code.muted.audit-id', action))) },
      { label: 'Who', cell: (row) => actor(row.actor) },
      { label: 'Target', cell: target },
      { label: 'Details', cell: details, wide: true },
    ],
    none: empty('No entries yet.', 'Switchboard records each change and each request that is not allowed.'),
  });
  return [heading('Audit', { lead: 'Changes and refused requests. Entries cannot be changed or deleted.' }), found.element];
}

/** The actor of an event, with a link to all events of the same actor. */
function actor({ kind, id, name }) {
  return h('div.roomy',
    h('div', h('bdi', name ?? ACTORS[kind] ?? kind), name !== null && [' ', h('span.muted', ACTORS[kind] ?? kind)]),
    h('a.audit-id', { href: `#/audit?actor=${encodeURIComponent(id)}`, title: 'All entries of this id' }, h('code', id)));
}

function target({ action, target: what }) {
  if (what === null) return h('span.muted', '–');
  const [noun, verb] = action.split('.');
  const shown = h('code.audit-id', h('bdi', what));
  return h('div.roomy', noun in TARGET_VIEWS && verb !== 'delete' ? h('a', { href: `#/${TARGET_VIEWS[noun]}/${encodeURIComponent(what)}` }, shown) : shown);
}

/** A value of the details as JSON, but a text without quotes. */
const valueOf = (value) => h('code', h('bdi', typeof value === 'string' ? value : JSON.stringify(value)));

/** The other details of an event, collapsed. */
function details({ details: { changed, ...rest }, remote_address: from, request_id: request }) {
  const differences = Object.entries(changed ?? {});
  const pairs = [
    ...differences.map(([name, change]) => [name, [valueOf(change.from), ' → ', valueOf(change.to)]]),
    ...Object.entries(rest).map(([name, value]) => [name, valueOf(value)]),
    ['remote address', from === null ? 'none (on the server)' : h('code', from)],
    ['request id', request === null ? 'none' : h('code', request)],
  ];
  const named = rest.code ?? rest.name ?? rest.title ?? rest.role;
  const summary = differences.length > 0 ? `${plural(differences.length, 'field')} changed: ${differences.map(([name]) => name).join(', ')}`
    : typeof named === 'string' ? h('bdi.audit-name', named) : 'Details';
  const list = h('dl.audit-details');
  // A page of 25 rows is drawn much faster if each row is filled only when it is opened.
  const fillList = () => list.hasChildNodes() || append(list, pairs.map(([name, value]) => h('div', h('dt', name), h('dd', value))));
  return h('details.audit-fold', { ontoggle: fillList }, h('summary', summary), list);
}

/** A filter by actor. Administrators search users and keys by name; everybody else enters an id. */
function actorFilter(me) {
  const found = async (where, q, signal, option) => (await call('GET', where, { query: { page_size: 10, q }, signal })).data.map(option);
  const search = async (q, signal) => {
    const [users, keys] = me.can.admin ? await Promise.all([
      found('/users', q, signal, (user) => ({ value: user.id, label: user.name ?? user.email ?? user.id, note: 'user' })),
      found('/api-keys', q, signal, (key) => ({ value: key.id, label: key.name, note: `key …${key.hint}` })),
    ]) : [[], []];
    return [...users, ...keys, ...(q === '' ? [] : [{ value: q, label: q, note: 'use as id' }])];
  };
  return {
    name: 'actor', label: 'Who',
    picker(id, value, onchange) {
      const start = value === null ? null : { value, label: value };
      return picker({ id, search, start, placeholder: 'Anyone', onpick: (option) => onchange(option === null ? null : option.value) });
    },
  };
}

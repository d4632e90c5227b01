// Who changed what, and who was refused: as it was recorded, newest first.

import { call } from './api.js';
import { h, put } from './dom.js';
import { badge, empty, heading, plural, time } from './parts.js';
import { listing } from './list.js';
import { picker } from './picker.js';

/** What can be done, in words. */
const ACTIONS = {
  'agent.create': 'Agent created', 'agent.update': 'Agent changed', 'agent.delete': 'Agent deleted',
  'api_key.create': 'Key created', 'api_key.rotate': 'Key rotated', 'api_key.revoke': 'Key revoked',
  'article.create': 'Article created', 'article.update': 'Article changed', 'article.delete': 'Article deleted',
  'channel.create': 'Channel created', 'channel.update': 'Channel changed', 'channel.delete': 'Channel deleted',
  'company.create': 'Company created', 'company.update': 'Company changed', 'company.delete': 'Company deleted',
  'companies.import': 'Companies imported', 'seed.import': 'Seed file imported',
  'install.create': 'Install added', 'install.link': 'Company linked to an install', 'install.delete': 'Install removed',
  'request.refused': 'Attempt refused',
  'session.create_as_company': 'Agent tried as a company', 'session.update': 'Session changed', 'session.delete': 'Session deleted', 'session.purge': 'Idle sessions removed',
  'session_token.mint': 'Session token made', 'session_token.revoke': 'Session token revoked',
  'login_link.create': 'Sign-in link made', 'sign_in.create': 'Signed in by a link', 'sign_in.end': 'Signed out',
  'tenant.create': 'Tenant created', 'tenant.update': 'Tenant changed', 'unlinked_tenant.delete': 'Refused M365 tenant forgotten',
  'user.update': 'Role changed',
};
const ACTORS = { service_account: 'API key', dashboard_user: 'User', end_user_session: 'Client staff', operator: 'Server' };
/** Where a target is shown, by the noun of what was done to it. */
const PLACES = { agent: 'agents', article: 'knowledge', channel: 'channels', company: 'companies', session: 'sessions' };

export function view(context) {
  const found = listing(context, {
    path: '/audit-events', caption: 'audit events', search: 'Search targets, names and details',
    filters: [
      { name: 'action', label: 'Action', options: [['', 'Any'], ...Object.entries(ACTIONS).sort(([, one], [, other]) => one.localeCompare(other))] },
      actorFilter(context.me),
    ],
    columns: [
      { label: 'When', cell: (row) => time(row.created_at) },
      { label: 'Action', cell: ({ action }) => h('div.roomy', action === 'request.refused' ? badge(ACTIONS[action], 'bad') : ACTIONS[action], h('div.audit-action', h('code.muted.audit-id', action))) },
      { label: 'Who', cell: (row) => who(row.actor) },
      { label: 'Target', cell: target },
      { label: 'Details', cell: details, wide: true },
    ],
    none: empty('Nothing is recorded yet.', 'Each change, and each attempt that is not allowed, is recorded here.'),
  });
  return [heading('Audit', { lead: 'Who changed what, and what was refused. Nothing here can be changed or removed.' }), found.element];
}

/** Whoever did it, leading to all that they did. */
function who({ kind, id, name }) {
  return h('div.roomy',
    h('div', h('bdi', name ?? ACTORS[kind] ?? kind), name !== null && [' ', h('span.muted', ACTORS[kind] ?? kind)]),
    h('a.audit-id', { href: `#/audit?actor=${encodeURIComponent(id)}`, title: 'All that was done by this id' }, h('code', id)));
}

function target({ action, target: what }) {
  if (what === null) return h('span.muted', '–');
  const [noun, verb] = action.split('.');
  const shown = h('code.audit-id', h('bdi', what));
  return h('div.roomy', noun in PLACES && verb !== 'delete' ? h('a', { href: `#/${PLACES[noun]}/${encodeURIComponent(what)}` }, shown) : shown);
}

/** A value of the details as it stands there; a text without its quotes. */
const valueOf = (value) => h('code', h('bdi', typeof value === 'string' ? value : JSON.stringify(value)));

/** What else is recorded of an event, folded. */
function details({ details: { changed, ...rest }, remote_address: from, request_id: request }) {
  const differences = Object.entries(changed ?? {});
  const pairs = [
    ...differences.map(([name, change]) => [name, [valueOf(change.from), ' → ', valueOf(change.to)]]),
    ...Object.entries(rest).map(([name, value]) => [name, valueOf(value)]),
    ['remote address', from === null ? 'none: on the server itself' : h('code', from)],
    ['request id', request === null ? 'none' : h('code', request)],
  ];
  const named = rest.code ?? rest.name ?? rest.title ?? rest.role;
  const summary = differences.length > 0 ? `${plural(differences.length, 'field')} changed: ${differences.map(([name]) => name).join(', ')}`
    : typeof named === 'string' ? h('bdi.audit-name', named) : 'Details';
  const list = h('dl.audit-details');
  // Twenty-five rows of these are drawn much sooner when each is filled on being opened.
  const fill = () => list.hasChildNodes() || put(list, pairs.map(([name, value]) => h('div', h('dt', name), h('dd', value))));
  return h('details.audit-fold', { ontoggle: fill }, h('summary', summary), list);
}

/** Finds who acted: people and keys by name where that may be asked, anyone by the id. */
function actorFilter(me) {
  const found = async (where, q, signal, option) => (await call('GET', where, { query: { page_size: 10, q }, signal })).data.map(option);
  const search = async (q, signal) => {
    const [users, keys] = me.can.admin ? await Promise.all([
      found('/users', q, signal, (user) => ({ value: user.id, label: user.name ?? user.email ?? user.id, note: 'user' })),
      found('/api-keys', q, signal, (key) => ({ value: key.id, label: key.name, note: `key …${key.hint}` })),
    ]) : [[], []];
    return [...users, ...keys, ...(q === '' ? [] : [{ value: q, label: q, note: 'as an id' }])];
  };
  return {
    name: 'actor', label: 'Who',
    picker(id, value, onchange) {
      const start = value === null ? null : { value, label: value };
      return picker({ id, search, start, placeholder: 'Anyone', onpick: (option) => onchange(option === null ? null : option.value) });
    },
  };
}

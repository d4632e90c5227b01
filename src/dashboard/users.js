// The people who signed in, and what each may do.

import { patch, path } from './api.js';
import { h, newId } from './dom.js';
import { busy, confirm, empty, heading, identifier, notice, say, sentence, time } from './parts.js';
import { listing } from './list.js';

const ROLES = [['ADMIN', 'Administrator'], ['USER', 'User'], ['VIEWER', 'Viewer']];
const MAY = {
  ADMIN: 'They may then do everything here, keys and roles of others included.',
  USER: 'They may then chat, and read all but keys, users and the audit.',
  VIEWER: 'They may then read what a user may, and chat with nobody.',
};
const ARTICLE = { ADMIN: 'an administrator', USER: 'a user', VIEWER: 'a viewer' };
const nameOf = (user) => user.name ?? user.email ?? user.id;

export function view(context) {
  const problem = h('div.above');
  const found = listing(context, {
    path: '/users', caption: 'users', search: 'Search by name or address',
    filters: [{ name: 'role', label: 'Role', options: [['', 'Any'], ...ROLES] }],
    columns: [
      { label: 'User', cell: (row) => [h('bdi', nameOf(row)), row.email !== null && row.name !== null && h('div.muted', h('bdi', row.email))], wide: true },
      { label: 'Role', cell: (row) => role(context.me, row, problem) },
      { label: 'Last seen', cell: (row) => time(row.last_seen_at) },
      { label: 'User id', cell: (row) => identifier(row.id) },
    ],
    none: empty('Nobody is recorded yet.', [
      'People are recorded as users when they first sign in with Microsoft Entra ID. Their roles can also come by the ', h('code', 'users'),
      ' of a seed file. Whoever signs in by a link is not listed.',
    ]),
  });
  return [
    heading('Users', { lead: 'People who sign in with Microsoft Entra ID. An app role that Entra ID gives them there counts before the role here.' }),
    problem,
    found.element,
  ];
}

/** The role of a user, to be changed in its place. */
function role(me, user, problem) {
  const id = newId('role');
  const select = h('select.input.role', { id, 'aria-label': `Role of ${nameOf(user)}` }, ROLES.map(([value, label]) => h('option', { value }, label)));
  select.value = user.role;
  const change = async () => {
    const wanted = select.value;
    select.value = user.role;
    problem.replaceChildren();
    const isLess = ROLES.findIndex(([key]) => key === wanted) > ROLES.findIndex(([key]) => key === user.role);
    const text = [MAY[wanted], isLess && ' Session tokens that they made end at once.', user.id === me.id && ' This is you: you could not take it back yourself.'];
    if (!await confirm(['Change the role of ', h('bdi', nameOf(user)), '?'], text, `Make ${ARTICLE[wanted]}`, { kind: 'primary' })) return;
    try {
      const { data } = await patch(path`/users/${user.id}`, { role: wanted });
      Object.assign(user, data);
      select.value = user.role;
      say([h('bdi', nameOf(user)), ` is ${ARTICLE[user.role]} now.`]);
      if (user.id === me.id) location.reload();
    } catch (error) {
      problem.append(error.code === 'last_admin'
        ? notice('bad', 'This is the last administrator.', h('p', 'Make somebody else one before you take the role from ', h('bdi', nameOf(user)), '. Whoever signs in by a link does not count.'))
        : notice('bad', 'The role was not changed.', h('p', sentence(error))));
      problem.scrollIntoView({ block: 'nearest' });
    }
  };
  select.addEventListener('change', () => busy(select, change));
  return select;
}

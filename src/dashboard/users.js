// Users: the people who signed in with Microsoft Entra ID, and their roles.

import { patch, path, post, remove } from './api.js';
import { h, newId } from './dom.js';
import { busy, button, confirm, dialog, empty, errorText, heading, identifier, notice, time, toast } from './components.js';
import { form } from './form.js';
import { listView } from './list.js';

const ROLES = [['ADMIN', 'Administrator'], ['USER', 'User'], ['VIEWER', 'Viewer']];
const PERMISSIONS = {
  ADMIN: 'An administrator can do everything here, including managing API keys and the roles of others.',
  USER: 'A user can chat, and can read everything except API keys, users and the audit log.',
  VIEWER: 'A viewer can read what a user can read, and cannot chat.',
};
const ARTICLE = { ADMIN: 'an administrator', USER: 'a user', VIEWER: 'a viewer' };
const nameOf = (user) => user.name ?? user.email ?? user.id;

export function view(context) {
  const problem = h('div.above');
  const found = listView(context, {
    path: '/users', caption: 'users', search: 'Search by name or email address',
    filters: [{ name: 'role', label: 'Role', options: [['', 'Any'], ...ROLES] }],
    columns: [
      { label: 'User', cell: (row) => [h('bdi', nameOf(row)), row.email !== null && row.name !== null && h('div.muted', h('bdi', row.email))], wide: true },
      { label: 'Role', cell: (row) => role(context.me, row, problem) },
      { label: 'Last seen', cell: (row) => time(row.last_seen_at) },
      { label: 'User id', cell: (row) => identifier(row.id) },
      { label: 'Actions', cell: (row) => button('Remove', () => removeUser(row, problem, () => found.reload()), { small: true, kind: 'quiet' }) },
    ],
    none: empty('No users yet.', [
      'A member of your directory is added at the first sign-in with Microsoft Entra ID. Add a guest here, or in the ', h('code', 'users'),
      ' of a seed file. People who sign in with a link are not listed.',
    ]),
  });
  return [
    heading('Users', {
      lead: 'People who sign in with Microsoft Entra ID. An app role in Entra ID takes precedence over the role here.',
      actions: [button('Add user', () => addUser(() => found.reload()), { kind: 'primary' })],
    }),
    problem,
    found.element,
  ];
}

/** Asks for a person who may sign in, such as a guest of the directory, and adds the user. */
async function addUser(reload) {
  const added = await dialog('Add a user', (close) => form({
    fields: [
      { name: 'id', label: 'Object id', required: true, code: true, hint: 'Microsoft Entra admin center > Users > the person > Object ID.' },
      { name: 'name', label: 'Name', nullable: true },
      { name: 'email', label: 'Email address', nullable: true },
      { name: 'role', label: 'Role', kind: 'select', options: ROLES },
    ],
    values: { id: '', name: null, email: null, role: 'USER' },
    label: 'Add user',
    async submit(values) {
      close(await post('/users', values));
    },
  }).element);
  if (added === null) return;
  toast([h('bdi', nameOf(added)), ' was added.']);
  await reload();
}

async function removeUser(user, problem, reload) {
  problem.replaceChildren();
  const text = 'Session tokens that the user created expire at once. A member of your directory comes back at the next sign-in with the role USER, unless the server admits only users who were added.';
  if (!await confirm(['Remove ', h('bdi', nameOf(user)), '?'], text, 'Remove user')) return;
  try {
    await remove(path`/users/${user.id}`);
    toast([h('bdi', nameOf(user)), ' was removed.']);
    await reload();
  } catch (error) {
    problem.append(notice('bad', 'The user was not removed.', h('p', errorText(error))));
    problem.scrollIntoView({ block: 'nearest' });
  }
}

/** The select that changes the role of a user. */
function role(me, user, problem) {
  const id = newId('role');
  const select = h('select.input.role', { id, 'aria-label': `Role of ${nameOf(user)}` }, ROLES.map(([value, label]) => h('option', { value }, label)));
  select.value = user.role;
  const change = async () => {
    const wanted = select.value;
    select.value = user.role;
    problem.replaceChildren();
    const isLess = ROLES.findIndex(([key]) => key === wanted) > ROLES.findIndex(([key]) => key === user.role);
    const text = [PERMISSIONS[wanted], isLess && ' Session tokens that the user created expire at once.', user.id === me.id && ' This is your own role. You cannot change it back yourself.'];
    if (!await confirm(['Change the role of ', h('bdi', nameOf(user)), '?'], text, `Make ${ARTICLE[wanted]}`, { kind: 'primary' })) return;
    try {
      const { data } = await patch(path`/users/${user.id}`, { role: wanted });
      Object.assign(user, data);
      select.value = user.role;
      toast([h('bdi', nameOf(user)), ` is now ${ARTICLE[user.role]}.`]);
      if (user.id === me.id) location.reload();
    } catch (error) {
      problem.append(error.code === 'last_admin'
        ? notice('bad', 'This is the last administrator.', h('p', 'Make another user an administrator before you change the role of ', h('bdi', nameOf(user)), '. People who sign in with a link do not count.'))
        : notice('bad', 'The role was not changed.', h('p', errorText(error))));
      problem.scrollIntoView({ block: 'nearest' });
    }
  };
  select.addEventListener('change', () => busy(select, change));
  return select;
}

// The keys that programs call with: each is shown once, when it is made.

import { address, path, post, remove } from './api.js';
import { h } from './dom.js';
import { badge, button, confirm, copyButton, dialog, empty, heading, linkButton, newOf, notice, say, time } from './parts.js';
import { form } from './form.js';
import { listing } from './list.js';

const back = { href: '#/keys', label: 'Keys' };

export function view(context) {
  return context.parts.length > 0 ? fresh(context) : list(context);
}

/** Whether a key counts, in a word. */
function state(key) {
  if (key.revoked_at !== null) return 'Revoked';
  return key.expires_at !== null && new Date(key.expires_at) <= new Date() ? 'Expired' : 'Active';
}
const KINDS = { Active: 'good', Expired: 'quiet', Revoked: 'bad' };

function list(context) {
  const add = linkButton('New key', newOf('keys'), { kind: 'primary', icon: 'add' });
  const found = listing(context, {
    path: '/api-keys', caption: 'keys', search: 'Search by name',
    columns: [
      { label: 'Key', cell: (row) => [h('bdi', row.name), row.platform && [' ', badge('Platform', 'info')], h('div.muted', h('code', `…${row.hint}`))], wide: true },
      { label: 'State', cell: (row) => badge(state(row), KINDS[state(row)]) },
      { label: 'Created', cell: (row) => time(row.created_at) },
      { label: 'Last used', cell: (row) => time(row.last_used_at) },
      { label: 'Ends', cell: (row) => time(row.revoked_at ?? row.expires_at) },
      { label: 'Actions', cell: (row) => actions(row, () => found.reload()) },
    ],
    none: empty('No keys yet.', 'A program that calls the API acts as this tenant by a key: a PSA integration, a report, a script.', add.cloneNode(true)),
  });
  return [
    heading('Keys', { lead: 'What programs call the API with. A key may do what this tenant’s administrators may, except manage keys and users.', actions: add }),
    found.element,
  ];
}

function actions(key, reload) {
  if (state(key) !== 'Active') return h('span.muted', '–');
  const rotate = async () => {
    const text = 'A new key of this name is made, and shown once. The old one counts for another 24 hours, so that programs can be changed over; if it ends earlier, it ends then.';
    if (!await confirm(['Rotate ', h('bdi', key.name), '?'], text, 'Rotate key', { kind: 'primary' })) return;
    await reveal('The new key', await post(path`/api-keys/${key.id}/rotate`));
    await reload();
  };
  const revoke = async () => {
    const text = 'Whatever calls with it is refused from now on, and so are the session tokens that it made. It cannot be brought back.';
    if (!await confirm(['Revoke ', h('bdi', key.name), '?'], text, 'Revoke key')) return;
    await remove(path`/api-keys/${key.id}`);
    say([h('bdi', key.name), ' is revoked.']);
    await reload();
  };
  return h('div.row.roomy',
    key.platform
      ? h('span.muted', 'Rotated at the command line')
      : button('Rotate', rotate, { small: true }),
    button('Revoke', revoke, { small: true, kind: 'danger' }));
}

function fresh(context) {
  const made = form({
    fields: [
      { name: 'name', label: 'Name', required: true, hint: 'What calls with it, so that you know later what to change.' },
      {
        name: 'expires_at', label: 'Ends', kind: 'datetime-local', nullable: true,
        hint: `In your time zone (${Intl.DateTimeFormat().resolvedOptions().timeZone}). Left empty, it counts until it is revoked.`,
      },
    ],
    label: 'Create key',
    cancel: '#/keys',
    async submit({ name, expires_at: ends }) {
      const key = await post('/api-keys', { name, expires_at: ends === null ? null : new Date(ends).toISOString() });
      await reveal(['The key of ', h('bdi', key.name)], key);
      context.go('#/keys');
    },
  });
  context.guard(made.dirty);
  return [heading('New key', { back }), made.element];
}

/** Shows a key. Nothing of it is left on the page once that is closed. */
function reveal(title, { key }) {
  const line = `curl -s ${address('/whoami')} -H 'Authorization: Bearer ${key}'`;
  return dialog(title, (close) => [
    notice('warn', 'This is the only time that it is shown.', h('p', 'Copy it to where it is needed before you close this.')),
    h('div.secret', h('code', key), copyButton(key, 'Copy the key')),
    h('div.field', h('p', 'Try it:'), h('div.secret', h('code', line), copyButton(line, 'Copy the command'))),
    h('div.dialog-actions', button('I have copied it', () => close(), { kind: 'primary' })),
  ], { wide: true, stays: true });
}

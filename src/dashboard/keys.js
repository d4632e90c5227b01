// API keys. A key is shown once, when it is created.

import { address, path, post, remove } from './api.js';
import { h } from './dom.js';
import { badge, button, confirm, copyButton, dialog, empty, heading, linkButton, newPath, notice, time, toast } from './components.js';
import { form } from './form.js';
import { listView } from './list.js';

const back = { href: '#/keys', label: 'Keys' };

export function view(context) {
  return context.parts.length > 0 ? create(context) : list(context);
}

/** The state of a key. */
function state(key) {
  if (key.revoked_at !== null) return 'Revoked';
  return key.expires_at !== null && new Date(key.expires_at) <= new Date() ? 'Expired' : 'Active';
}
const KINDS = { Active: 'good', Expired: 'quiet', Revoked: 'bad' };

function list(context) {
  const add = linkButton('New key', newPath('keys'), { kind: 'primary', icon: 'add' });
  const found = listView(context, {
    path: '/api-keys', caption: 'keys', search: 'Search by name',
    columns: [
      { label: 'Key', cell: (row) => [h('bdi', row.name), row.platform && [' ', badge('Platform', 'info')], h('div.muted', h('code', `…${row.hint}`))], wide: true },
      { label: 'State', cell: (row) => badge(state(row), KINDS[state(row)]) },
      { label: 'Created', cell: (row) => time(row.created_at) },
      { label: 'Last used', cell: (row) => time(row.last_used_at) },
      { label: 'Expires', cell: (row) => time(row.revoked_at ?? row.expires_at) },
      { label: 'Actions', cell: (row) => actions(row, () => found.reload()) },
    ],
    none: empty('No keys yet.', 'A program calls the API with a key, on behalf of this tenant: a PSA integration, a report, a script.', add.cloneNode(true)),
  });
  return [
    heading('Keys', { lead: 'Programs call the API with a key. A key has the permissions of an administrator, except managing keys and users.', actions: add }),
    found.element,
  ];
}

function actions(key, reload) {
  if (state(key) !== 'Active') return h('span.muted', '–');
  const rotate = async () => {
    const text = 'A new key with the same name is created and shown once. The old key stays valid for up to 24 hours, so that you can update your programs.';
    if (!await confirm(['Rotate ', h('bdi', key.name), '?'], text, 'Rotate key', { kind: 'primary' })) return;
    await reveal('New key', await post(path`/api-keys/${key.id}/rotate`));
    await reload();
  };
  const revoke = async () => {
    const text = 'Programs that use this key are refused from now on, and so are the session tokens that it created. This cannot be undone.';
    if (!await confirm(['Revoke ', h('bdi', key.name), '?'], text, 'Revoke key')) return;
    await remove(path`/api-keys/${key.id}`);
    toast([h('bdi', key.name), ' was revoked.']);
    await reload();
  };
  return h('div.row.roomy',
    key.platform
      ? h('span.muted', 'Rotated on the command line')
      : button('Rotate', rotate, { small: true }),
    button('Revoke', revoke, { small: true, kind: 'danger' }));
}

/** A local date and time such as `2027-01-31 18:00`, as the API writes it. Throws what a form shows. */
function momentOf(text) {
  const [, date, time = '00:00'] = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d))?$/.exec(text) ?? [];
  const moment = new Date(`${date}T${time}`);
  // The 31st of a short month would be the 1st of the next one.
  if (Number.isNaN(moment.getTime()) || moment.getDate() !== Number(date.slice(-2))) {
    throw Object.assign(new Error('Write a date and a time as YYYY-MM-DD HH:MM, such as 2027-01-31 18:00.'), { details: { field: 'expires_at' } });
  }
  return moment.toISOString();
}

function create(context) {
  const made = form({
    fields: [
      { name: 'name', label: 'Name', required: true, hint: 'The program that uses the key.' },
      {
        // A browser draws a field of dates in its own language, so this one is a text.
        name: 'expires_at', label: 'Expires', nullable: true, code: true, placeholder: 'YYYY-MM-DD HH:MM',
        hint: `In your time zone (${Intl.DateTimeFormat().resolvedOptions().timeZone}). Leave it empty for a key that is valid until it is revoked.`,
      },
    ],
    label: 'Create key',
    cancel: '#/keys',
    async submit({ name, expires_at: expires }) {
      const key = await post('/api-keys', { name, expires_at: expires === null ? null : momentOf(expires) });
      await reveal(['Key: ', h('bdi', key.name)], key);
      context.go('#/keys');
    },
  });
  context.guard(made.dirty);
  return [heading('New key', { back }), made.element];
}

/** Shows a key in a dialog. The key is removed from the page when the dialog closes. */
function reveal(title, { key }) {
  const line = `curl -s ${address('/whoami')} -H 'Authorization: Bearer ${key}'`;
  return dialog(title, (close) => [
    notice('warn', 'This key is shown only once.', h('p', 'Copy it before you close this dialog.')),
    h('div.secret', h('code', key), copyButton(key, 'Copy the key')),
    h('div.field', h('p', 'Test the key:'), h('div.secret', h('code', line), copyButton(line, 'Copy the command'))),
    h('div.dialog-actions', button('I have copied it', () => close(), { kind: 'primary' })),
  ], { wide: true, stays: true });
}

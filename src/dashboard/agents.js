// Agents: the people that each one serves, who may use it, and how it answers.

import { allRows, call, get, path, post, put, remove } from './api.js';
import { h, setContent } from './dom.js';
import { badge, button, confirm, dialog, empty, facts, heading, identifier, linkButton, loadInto, newPath, notice, resource, section, time, toast } from './components.js';
import { form } from './form.js';
import { listView } from './list.js';
import { multiPicker } from './multi-picker.js';
import { AUDIENCES, labelOf } from './labels.js';

const KINDS = [['CONVERSATIONAL', 'Conversational'], ['CHAINED_ACTIONS', 'Chained actions'], ['AGENTIC', 'Agentic']];
const STATES = [['ENABLED', 'Enabled'], ['DISABLED', 'Disabled']];
const ACCESS = [['ALL_USERS', 'All users'], ['ADMINS_ONLY', 'Administrators only'], ['SPECIFIC_USERS', 'Specific users']];
const stateBadge = (state) => badge(labelOf(STATES, state), state === 'ENABLED' ? 'good' : 'warn');
const back = { href: '#/agents', label: 'Agents' };

/** Channels of an agent, and users of a search, that are shown. */
const SHOWN = 10;
/** Users that are read to find the names of those who may use an agent. */
const USERS_READ = 2_000;

/** The fields that can be changed: the name in the API, the label, and how the value is written. */
const FIELDS = [
  ['name', 'Name'], ['description', 'Description'],
  ['state', 'State', (value) => labelOf(STATES, value)], ['access', 'Who may use it', (value) => labelOf(ACCESS, value)],
  ['allowed_users', 'Users', (value) => value.join('\n')],
  ['agent_settings.custom_instructions', 'Instructions'], ['agent_settings.welcome_message', 'Welcome message'],
  ['agent_settings.suggested_prompts', 'Suggested prompts', (value) => value.join('\n')],
  ['agent_settings.show_reasoning', 'Model’s thoughts', (value) => (value ? 'shown to everybody' : 'shown to technicians')],
];
const at = (agent, name) => name.split('.').reduce((inner, part) => inner[part], agent);
// A textarea turns CRLF into LF.
const written = (agent, name) => JSON.stringify(at(agent, name)).replaceAll('\\r\\n', '\\n');
const isSame = (one, other, name) => written(one, name) === written(other, name);

export const view = resource({ list, create, detail });

function list(context) {
  const add = context.me.can.manage && linkButton('New agent', newPath('agents'), { kind: 'primary', icon: 'add' });
  const found = listView(context, {
    path: '/agents', caption: 'agents', search: 'Search by name',
    filters: [
      { name: 'state', label: 'State', options: [['', 'Any'], ...STATES] },
      { name: 'audience', label: 'Audience', options: [['', 'Any'], ...AUDIENCES] },
      { name: 'autonomy_type', label: 'Kind', options: [['', 'Any'], ...KINDS] },
    ],
    href: (row) => `#/agents/${row.agent_id}`,
    columns: [
      { label: 'Agent', cell: (row) => [h('bdi', row.name), row.managed_agent_key !== null && [' ', badge('Managed', 'info')]], wide: true },
      { label: 'Audience', cell: (row) => labelOf(AUDIENCES, row.audience) },
      { label: 'Kind', cell: (row) => labelOf(KINDS, row.autonomy_type) },
      { label: 'State', cell: (row) => stateBadge(row.state) },
      { label: 'Who may use it', cell: (row) => labelOf(ACCESS, row.access) },
    ],
    none: context.me.can.manage
      ? empty('No agents yet.', 'An agent answers your technicians, or your clients’ staff through a channel.', add.cloneNode(true))
      : empty('No agents yet.', 'An administrator creates agents.'),
  });
  return [heading('Agents', { lead: 'Agents answer your technicians, and your clients’ staff through channels.', actions: add }), found.element];
}

const person = (user) => ({ value: user.id, label: user.name ?? user.email ?? user.id, note: user.name ? user.email : null });

/**
 * A search for users by name or email address, for administrators. Every text is offered as a user
 * id.
 */
const people = (me) => async (q, signal) => {
  const found = me.can.admin ? (await call('GET', '/users', { query: { page_size: SHOWN, q }, signal })).data.map(person) : [];
  return q === '' || found.some(({ value }) => value === q) ? found : [...found, { value: q, label: q, note: 'use as user id' }];
};

/**
 * The form of an agent, or of a new one if `agent` is null. `take(agent)` shows the values of the
 * server.
 */
function settings({ me, signal }, agent, options) {
  let users;
  const byId = (ids) => ids.map((id) => ({ value: id, label: id }));
  const made = form({
    values: agent ?? {},
    fields: [
      { name: 'name', label: 'Name', required: true },
      { name: 'description', label: 'Description', kind: 'textarea', rows: 2, nullable: true },
      agent === null && {
        name: 'audience', label: 'Audience', kind: 'select', options: AUDIENCES,
        hint: 'The people that the agent serves. The audience decides which channels can use the agent and which articles it reads. It cannot be changed later.',
      },
      { name: 'state', label: 'State', kind: 'select', options: STATES, hint: 'A disabled agent answers nobody. Its sessions are kept.' },
      { name: 'access', label: 'Who may use it', kind: 'select', options: ACCESS, hint: 'Applies to people who sign in to the dashboard, not to channels and API keys.' },
      {
        name: 'allowed_users', label: 'Users', kind: 'custom',
        hint: me.can.admin ? 'Search by name or email address, or enter the id of a user who has not signed in yet.' : 'Enter user ids. Users need not have signed in yet.',
        make: (id, value, described) => (users = multiPicker({
          id, described, search: people(me), start: byId(value ?? []), none: 'Nobody yet.', placeholder: me.can.admin ? 'Search users…' : 'User id…',
        })),
      },
      { title: 'How it answers' },
      {
        name: 'agent_settings.custom_instructions', label: 'Instructions', kind: 'textarea', rows: 10, nullable: true,
        hint: 'The model receives them before each answer. People in the chat do not see them.',
      },
      { name: 'agent_settings.welcome_message', label: 'Welcome message', kind: 'textarea', rows: 3, nullable: true, hint: 'Shown before the first message. Markdown.' },
      { name: 'agent_settings.suggested_prompts', label: 'Suggested prompts', kind: 'lines', rows: 4, hint: 'One per line, up to 20. People can choose one to start a chat.' },
      {
        name: 'agent_settings.show_reasoning', label: 'Show the model’s thoughts to everybody', kind: 'checkbox',
        hint: 'Some models think before they answer. Without this, technicians see the thoughts and clients’ staff do not.',
      },
    ].filter(Boolean),
    ...options,
  });
  const { elements } = made.element;
  const field = users.element.closest('.field');
  const showOrHideUsers = () => (field.hidden = elements.access.value !== 'SPECIFIC_USERS');
  elements.access.addEventListener('change', showOrHideUsers);
  const nameUsers = async () => {
    if (!me.can.admin || users.value().length === 0) return;
    const known = new Map();
    for await (const user of allRows('/users', {}, signal, USERS_READ)) known.set(user.id, person(user));
    users.set(users.options().map((option) => known.get(option.value) ?? option));
  };
  // Until the names are loaded, or if loading fails, the ids are shown.
  const nameUsersLater = () => nameUsers().catch(() => {});
  showOrHideUsers();
  nameUsersLater();
  return {
    ...made,
    take(now) {
      for (const [key] of FIELDS) {
        const value = at(now, key);
        if (key === 'allowed_users') users.set(byId(value));
        else if (typeof value === 'boolean') elements[key].checked = value;
        else elements[key].value = Array.isArray(value) ? value.join('\n') : value ?? '';
      }
      showOrHideUsers();
      nameUsersLater();
    },
  };
}

function create(context) {
  const made = settings(context, null, {
    label: 'Create agent',
    cancel: '#/agents',
    async submit(values) {
      const agent = await post('/agents', values);
      toast([h('bdi', agent.name), ' was created.']);
      context.go(`#/agents/${agent.agent_id}`);
    },
  });
  context.guard(made.dirty);
  return [heading('New agent', { back }), made.element];
}

/** Why an agent cannot be changed here, or null if it can. */
function readOnlyReason(agent) {
  if (agent.managed_agent_key !== null) return 'Switchboard manages this agent. It answers technicians if no channel is registered for their bot, and cannot be changed.';
  if (agent.autonomy_type !== 'CONVERSATIONAL') return 'Agents of this kind do not chat. They are defined in the seed file. Change them there.';
  return null;
}

async function detail(context, id) {
  const { me, signal } = context;
  let agent = await get(path`/agents/${id}`, {}, signal);
  const why = readOnlyReason(agent);
  const name = h('bdi');
  const known = h('div');
  const problem = h('div.above');
  const draw = () => {
    name.textContent = agent.name;
    setContent(known, facts([
      ['State', stateBadge(agent.state)], ['Audience', labelOf(AUDIENCES, agent.audience)], ['Kind', labelOf(KINDS, agent.autonomy_type)],
      ['Agent id', identifier(agent.id)], ['Version', agent.version], ['Changed', time(agent.updated_at)],
    ]));
  };
  draw();
  const changes = me.can.manage && why === null;
  const made = changes && settings(context, agent, {
    async submit(values) {
      agent = await save(agent, values);
      made.take(agent);
      draw();
      toast('Saved.');
    },
  });
  if (made) context.guard(made.dirty);
  const used = h('div');
  loadInto(used, () => usedBy(agent, signal), 2);
  return [
    heading(name, {
      back,
      actions: [
        me.can.chat && agent.autonomy_type === 'CONVERSATIONAL' && linkButton('Try it', `#/try?agent_id=${agent.agent_id}`),
        linkButton('Sessions', `#/sessions?agent_id=${agent.agent_id}`),
        linkButton('Articles', `#/knowledge?agent_id=${agent.agent_id}`),
        changes && button('Delete', () => deleteAgent(context, agent, problem), { kind: 'danger' }),
      ],
    }),
    problem,
    known,
    h('div.columns.two',
      changes ? section('Settings', made.element) : section('Settings', why !== null && me.can.manage && h('p.lead', why), readOnlySettings(agent)),
      section('Channels that use this agent', used)),
  ];
}

/** The settings of an agent, read-only. */
function readOnlySettings(agent) {
  const fields = FIELDS.filter(([key]) => key !== 'name' && key !== 'state' && (key !== 'allowed_users' || agent.access === 'SPECIFIC_USERS'));
  return h('dl.stack', fields.map(([key, label, text = String]) => {
    const value = at(agent, key);
    return h('div', h('dt', h('strong', label)),
      h('dd.preformatted', { dir: 'auto' }, value === null || value.length === 0 ? h('span.muted', 'none') : text(value)));
  }));
}

/** The channels that use an agent. */
async function usedBy(agent, signal) {
  const { data, meta } = await call('GET', '/channels', { query: { agent_id: agent.agent_id, page_size: SHOWN }, signal });
  if (data.length === 0) {
    return h('p.muted', agent.autonomy_type === 'CONVERSATIONAL' ? 'None. People reach the agent in the dashboard, and programs by its id.' : 'None.');
  }
  return channelLinks(data, meta.pagination.has_more, agent);
}

const channelLinks = (channels, more, agent) => h('ul.plain-list',
  channels.map((channel) => h('li', h('a', { href: `#/channels/${channel.id}` }, h('bdi', channel.internal_name)))),
  more && h('li', h('a', { href: `#/channels?agent_id=${agent.agent_id}` }, 'More channels')));

/**
 * Saves the fields that differ from `base`, and returns the agent that the server has then. If
 * somebody else saved the agent meanwhile, the person first chooses the values to keep.
 */
async function save(base, values) {
  const wanted = FIELDS.map(([key]) => key).filter((key) => !isSame(base, values, key));
  if (wanted.length === 0) return base;
  // The API replaces `agent_settings` as a whole.
  const body = Object.fromEntries(wanted.map((key) => key.split('.')[0]).map((key) => [key, values[key]]));
  try {
    return (await put(path`/agents/${base.agent_id}`, { ...body, version: base.version })).data;
  } catch (error) {
    if (error.code !== 'agent_update_conflict') throw error;
  }
  const theirs = await get(path`/agents/${base.agent_id}`);
  const agreed = await resolveConflict(base, values, theirs);
  if (agreed === null) throw new Error('Somebody else changed this agent in the meantime. Save again to compare the versions.');
  return save(theirs, agreed);
}

/**
 * Asks for each field which version to keep. Returns the merged agent, or null if the person
 * cancels.
 */
function resolveConflict(base, ours, theirs) {
  const differing = FIELDS.filter(([key]) => !isSame(ours, theirs, key));
  const rows = differing.map(([key, label, text = String]) => {
    const id = `version-${key}`;
    const choice = (value, name, agent) => {
      const field = at(agent, key);
      const input = h('input', { type: 'radio', name: id, value, checked: value === (isSame(base, ours, key) ? 'theirs' : 'ours') });
      return {
        input,
        element: h('div.version', h('label.row', input, name),
          h('div.version-text.preformatted', { dir: 'auto', tabindex: '0', role: 'group', 'aria-label': `${label}: ${name}` },
            field === null || field.length === 0 ? h('span.muted', 'none') : text(field))),
      };
    };
    const their = choice('theirs', 'Theirs', theirs);
    const our = choice('ours', 'Yours', ours);
    return { key, their: their.input, our: our.input, element: h('fieldset.choice', h('legend', h('strong', label)), h('div.versions', their.element, our.element)) };
  });
  const merge = () => {
    const agreed = structuredClone(theirs);
    for (const { key, our } of rows) {
      if (!our.checked) continue;
      const parts = key.split('.');
      const last = parts.pop();
      parts.reduce((inner, part) => inner[part], agreed)[last] = at(ours, key);
    }
    return agreed;
  };
  const takeAll = (which) => {
    for (const row of rows) row[which].checked = true;
  };
  return dialog('Somebody else changed this agent', (close) => (rows.length === 0
    ? [
      h('p', 'They saved the same values as yours (', time(theirs.updated_at), '). Nothing is lost.'),
      h('div.dialog-actions', button('Continue', () => close(theirs), { kind: 'primary' })),
    ]
    : [
      h('p', 'Somebody saved version ', theirs.version, ' (', time(theirs.updated_at), ') while you edited version ', base.version,
        '. The audit log shows who it was. Choose a value for each field that differs.'),
      h('div.row', button('Use all of theirs', () => takeAll('their'), { small: true }), button('Keep all of mine', () => takeAll('our'), { small: true })),
      rows.map(({ element }) => element),
      h('div.dialog-actions', button('Back to the form', () => close()), button('Save selection', () => close(merge()), { kind: 'primary' })),
    ]), { wide: true });
}

async function deleteAgent(context, agent, problem) {
  setContent(problem);
  if (!await confirm(['Delete ', h('bdi', agent.name), '?'],
    'The agent stops answering. Its sessions stay readable and take no new messages. Articles that name other agents too stay with those. This cannot be undone.',
    'Delete agent')) return;
  try {
    await remove(path`/agents/${agent.agent_id}`);
  } catch (error) {
    if (error.code !== 'agent_in_use') throw error;
    setContent(problem, await inUse(agent, error));
    problem.scrollIntoView({ block: 'nearest' });
    return;
  }
  toast([h('bdi', agent.name), ' was deleted.']);
  context.go('#/agents');
}

/** What a person has to do before the agent can be deleted. */
async function inUse(agent, error) {
  if (error.details.article_id) {
    return notice('bad', 'An article is assigned to this agent only.',
      h('p', 'Without the agent, every agent could use the article. Delete the article or assign it to other agents first.'),
      h('p', h('a', { href: `#/knowledge/${error.details.article_id}` }, 'Open the article')));
  }
  const { data, meta } = await call('GET', '/channels', { query: { agent_id: agent.agent_id, page_size: SHOWN } });
  return notice('bad', 'Channels use this agent.',
    h('p', 'Choose another agent for these channels first:'), channelLinks(data, meta.pagination.has_more, agent));
}

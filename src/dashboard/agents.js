// The agents that answer: whom each serves, who may use it, and how it speaks.

import { all, call, get, path, post, put, remove } from './api.js';
import { h, refill } from './dom.js';
import { badge, button, confirm, dialog, empty, facts, fillIn, heading, identifier, linkButton, newOf, notice, resource, say, section, time } from './parts.js';
import { form } from './form.js';
import { listing } from './list.js';
import { several } from './several.js';
import { AUDIENCES, word } from './words.js';

const KINDS = [['CONVERSATIONAL', 'Conversational'], ['CHAINED_ACTIONS', 'Chained actions'], ['AGENTIC', 'Agentic']];
const STATES = [['ENABLED', 'Enabled'], ['DISABLED', 'Disabled']];
const ACCESS = [['ALL_USERS', 'All users'], ['ADMINS_ONLY', 'Administrators only'], ['SPECIFIC_USERS', 'Specific users']];
const stateBadge = (state) => badge(word(STATES, state), state === 'ENABLED' ? 'good' : 'warn');
const back = { href: '#/agents', label: 'Agents' };

/** Channels that are shown as an agent's, before it is "more". */
const SHOWN = 10;
/** People who are looked through for the names of those who may use an agent. */
const LOOKED_THROUGH = 2_000;

/** What can be changed of an agent: its name on the wire, its label, and how its value is written. */
const CHANGES = [
  ['name', 'Name'], ['description', 'Description'],
  ['state', 'State', (value) => word(STATES, value)], ['access', 'Who may use it', (value) => word(ACCESS, value)],
  ['allowed_users', 'Users', (value) => value.join('\n')],
  ['agent_settings.custom_instructions', 'Instructions'], ['agent_settings.welcome_message', 'Welcome message'],
  ['agent_settings.suggested_prompts', 'Suggested prompts', (value) => value.join('\n')],
];
const at = (agent, name) => name.split('.').reduce((inner, part) => inner[part], agent);
// What a textarea gives back has lost the other kind of line end.
const written = (agent, name) => JSON.stringify(at(agent, name)).replaceAll('\\r\\n', '\\n');
const isSame = (one, other, name) => written(one, name) === written(other, name);

export const view = resource({ list, fresh, one });

function list(context) {
  const add = context.me.can.keep && linkButton('New agent', newOf('agents'), { kind: 'primary', icon: 'add' });
  const found = listing(context, {
    path: '/agents', caption: 'agents', search: 'Search by name',
    filters: [
      { name: 'state', label: 'State', options: [['', 'Any'], ...STATES] },
      { name: 'audience', label: 'Audience', options: [['', 'Any'], ...AUDIENCES] },
      { name: 'autonomy_type', label: 'Kind', options: [['', 'Any'], ...KINDS] },
    ],
    href: (row) => `#/agents/${row.agent_id}`,
    columns: [
      { label: 'Agent', cell: (row) => [h('bdi', row.name), row.managed_agent_key !== null && [' ', badge('Managed', 'info')]], wide: true },
      { label: 'Audience', cell: (row) => word(AUDIENCES, row.audience) },
      { label: 'Kind', cell: (row) => word(KINDS, row.autonomy_type) },
      { label: 'State', cell: (row) => stateBadge(row.state) },
      { label: 'Who may use it', cell: (row) => word(ACCESS, row.access) },
    ],
    none: context.me.can.keep
      ? empty('No agents yet.', 'An agent answers your technicians, or your clients’ staff through a channel.', add.cloneNode(true))
      : empty('No agents yet.', 'An administrator makes them.'),
  });
  return [heading('Agents', { lead: 'Who answers your technicians, and your clients’ staff through channels.', actions: add }), found.element];
}

const person = (user) => ({ value: user.id, label: user.name ?? user.email ?? user.id, note: user.name ? user.email : null });

/** Finds people by name or address where that may be asked; anybody else is named by the id. */
const people = (me) => async (q, signal) => {
  const found = me.can.admin ? (await call('GET', '/users', { query: { page_size: SHOWN, q }, signal })).data.map(person) : [];
  return q === '' || found.some(({ value }) => value === q) ? found : [...found, { value: q, label: q, note: 'as a user id' }];
};

/** The form of an agent, `agent` null for a new one. Gives it with `take(agent)`, which has it show what the server has. */
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
        hint: 'Whom it serves. It decides which channels can use it and which articles it sees, and cannot be changed later.',
      },
      { name: 'state', label: 'State', kind: 'select', options: STATES, hint: 'A disabled agent answers nobody; its sessions stay.' },
      { name: 'access', label: 'Who may use it', kind: 'select', options: ACCESS, hint: 'For people who sign in here. Channels and API keys are not held to it.' },
      {
        name: 'allowed_users', label: 'Users', kind: 'custom',
        hint: me.can.admin ? 'Search by name or address, or give a user id: they need not have signed in yet.' : 'Give user ids; they need not have signed in yet.',
        make: (id, value, described) => (users = several({
          id, described, search: people(me), start: byId(value ?? []), none: 'Nobody yet.', placeholder: me.can.admin ? 'Search users…' : 'User id…',
        })),
      },
      { title: 'How it answers' },
      {
        name: 'agent_settings.custom_instructions', label: 'Instructions', kind: 'textarea', rows: 10, nullable: true,
        hint: 'What a model is told before each answer. People in the chat do not see it.',
      },
      { name: 'agent_settings.welcome_message', label: 'Welcome message', kind: 'textarea', rows: 3, nullable: true, hint: 'Shown before the first message; Markdown.' },
      { name: 'agent_settings.suggested_prompts', label: 'Suggested prompts', kind: 'lines', rows: 4, hint: 'One on each line, at most 20. People are offered them to begin with.' },
    ].filter(Boolean),
    ...options,
  });
  const { elements } = made.element;
  const field = users.element.closest('.field');
  const showUsers = () => (field.hidden = elements.access.value !== 'SPECIFIC_USERS');
  elements.access.addEventListener('change', showUsers);
  const name = async () => {
    if (!me.can.admin || users.value().length === 0) return;
    const known = new Map();
    for await (const user of all('/users', {}, signal, LOOKED_THROUGH)) known.set(user.id, person(user));
    users.set(users.options().map((option) => known.get(option.value) ?? option));
  };
  // An id says as much as is needed until its name is there.
  const nameSoon = () => name().catch(() => {});
  showUsers();
  nameSoon();
  return {
    ...made,
    take(now) {
      for (const [key] of CHANGES) {
        const value = at(now, key);
        if (key === 'allowed_users') users.set(byId(value));
        else elements[key].value = Array.isArray(value) ? value.join('\n') : value ?? '';
      }
      showUsers();
      nameSoon();
    },
  };
}

function fresh(context) {
  const made = settings(context, null, {
    label: 'Create agent',
    cancel: '#/agents',
    async submit(values) {
      const agent = await post('/agents', values);
      say([h('bdi', agent.name), ' is there now.']);
      context.go(`#/agents/${agent.agent_id}`);
    },
  });
  context.guard(made.dirty);
  return [heading('New agent', { back }), made.element];
}

/** Why an agent cannot be changed here, null where it can. */
function fixed(agent) {
  if (agent.managed_agent_key !== null) return 'Switchboard manages this agent: it answers technicians who reach no other one, and cannot be changed.';
  if (agent.autonomy_type !== 'CONVERSATIONAL') return 'Agents of this kind do not chat. They come by the seed file, and are changed there.';
  return null;
}

async function one(context, id) {
  const { me, signal } = context;
  let agent = await get(path`/agents/${id}`, {}, signal);
  const why = fixed(agent);
  const name = h('bdi');
  const known = h('div');
  const problem = h('div.above');
  const draw = () => {
    name.textContent = agent.name;
    refill(known, facts([
      ['State', stateBadge(agent.state)], ['Audience', word(AUDIENCES, agent.audience)], ['Kind', word(KINDS, agent.autonomy_type)],
      ['Agent id', identifier(agent.id)], ['Version', agent.version], ['Changed', time(agent.updated_at)],
    ]));
  };
  draw();
  const changes = me.can.keep && why === null;
  const made = changes && settings(context, agent, {
    async submit(values) {
      agent = await save(agent, values);
      made.take(agent);
      draw();
      say('Saved.');
    },
  });
  if (made) context.guard(made.dirty);
  const used = h('div');
  fillIn(used, () => usedBy(agent, signal), 2);
  return [
    heading(name, {
      back,
      actions: [
        me.can.chat && agent.autonomy_type === 'CONVERSATIONAL' && linkButton('Try it', `#/try?agent_id=${agent.agent_id}`),
        linkButton('Sessions', `#/sessions?agent_id=${agent.agent_id}`),
        linkButton('Articles', `#/knowledge?agent_id=${agent.agent_id}`),
        changes && button('Delete', () => erase(context, agent, problem), { kind: 'danger' }),
      ],
    }),
    problem,
    known,
    h('div.columns.two',
      changes ? section('Settings', made.element) : section('Settings', why !== null && me.can.keep && h('p.lead', why), shown(agent)),
      section('Channels that use it', used)),
  ];
}

/** An agent's settings, to be read. */
function shown(agent) {
  const told = CHANGES.filter(([key]) => key !== 'name' && key !== 'state' && (key !== 'allowed_users' || agent.access === 'SPECIFIC_USERS'));
  return h('dl.stack', told.map(([key, label, text = String]) => {
    const value = at(agent, key);
    return h('div', h('dt', h('strong', label)),
      h('dd.as-typed', { dir: 'auto' }, value === null || value.length === 0 ? h('span.muted', 'none') : text(value)));
  }));
}

/** The channels that an agent answers in. */
async function usedBy(agent, signal) {
  const { data, meta } = await call('GET', '/channels', { query: { agent_id: agent.agent_id, page_size: SHOWN }, signal });
  if (data.length === 0) {
    return h('p.muted', agent.autonomy_type === 'CONVERSATIONAL' ? 'None. People reach it where they sign in, and programs by its id.' : 'None.');
  }
  return channelLinks(data, meta.pagination.has_more, agent);
}

const channelLinks = (channels, more, agent) => h('ul.plain-list',
  channels.map((channel) => h('li', h('a', { href: `#/channels/${channel.id}` }, h('bdi', channel.internal_name)))),
  more && h('li', h('a', { href: `#/channels?agent_id=${agent.agent_id}` }, 'and more')));

/**
 * Sends what differs from `base`, and gives what the server has then. Where somebody else was faster, it is asked what shall stand;
 * until that is answered nothing is sent.
 */
async function save(base, values) {
  const wanted = CHANGES.map(([key]) => key).filter((key) => !isSame(base, values, key));
  if (wanted.length === 0) return base;
  // The settings are replaced whole on the wire.
  const body = Object.fromEntries(wanted.map((key) => key.split('.')[0]).map((key) => [key, values[key]]));
  try {
    return (await put(path`/agents/${base.agent_id}`, { ...body, version: base.version })).data;
  } catch (error) {
    if (error.code !== 'agent_update_conflict') throw error;
  }
  const theirs = await get(path`/agents/${base.agent_id}`);
  const agreed = await settle(base, values, theirs);
  if (agreed === null) throw new Error('Somebody else changed this agent meanwhile. Save again to see what differs.');
  return save(theirs, agreed);
}

/** Asks, field by field, whether theirs or ours shall stand. Gives the agent as it shall be, null where it was not answered. */
function settle(base, ours, theirs) {
  const differing = CHANGES.filter(([key]) => !isSame(ours, theirs, key));
  const rows = differing.map(([key, label, text = String]) => {
    const id = `stands-${key}`;
    const choice = (value, name, agent) => {
      const said = at(agent, key);
      const input = h('input', { type: 'radio', name: id, value, checked: value === (isSame(base, ours, key) ? 'theirs' : 'ours') });
      return {
        input,
        element: h('div.version', h('label.row', input, name),
          h('div.version-text.as-typed', { dir: 'auto', tabindex: '0', role: 'group', 'aria-label': `${label}: ${name}` },
            said === null || said.length === 0 ? h('span.muted', 'none') : text(said))),
      };
    };
    const their = choice('theirs', 'Theirs', theirs);
    const our = choice('ours', 'Yours', ours);
    return { key, their: their.input, our: our.input, element: h('fieldset.choice', h('legend', h('strong', label)), h('div.versions', their.element, our.element)) };
  });
  const agree = () => {
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
      h('p', 'They saved just what you have here (', time(theirs.updated_at), '). Nothing is lost.'),
      h('div.dialog-actions', button('Go on', () => close(theirs), { kind: 'primary' })),
    ]
    : [
      h('p', 'Somebody saved version ', theirs.version, ' (', time(theirs.updated_at), ') while you worked on version ', base.version,
        '; the audit says who. These fields differ: choose what shall stand.'),
      h('div.row', button('Take all of theirs', () => takeAll('their'), { small: true }), button('Keep all of mine', () => takeAll('our'), { small: true })),
      rows.map(({ element }) => element),
      h('div.dialog-actions', button('Back to the form', () => close()), button('Save what is chosen', () => close(agree()), { kind: 'primary' })),
    ]), { wide: true });
}

async function erase(context, agent, problem) {
  refill(problem);
  if (!await confirm(['Delete ', h('bdi', agent.name), '?'],
    'It answers nobody from then on. Its sessions stay to be read and take no new messages. Articles for it and others are for the others. It cannot be brought back.',
    'Delete agent')) return;
  try {
    await remove(path`/agents/${agent.agent_id}`);
  } catch (error) {
    if (error.code !== 'agent_in_use') throw error;
    refill(problem, await inUse(agent, error));
    problem.scrollIntoView({ block: 'nearest' });
    return;
  }
  say([h('bdi', agent.name), ' is deleted.']);
  context.go('#/agents');
}

/** What has to be done before an agent can go. */
async function inUse(agent, error) {
  if (error.details.article_id) {
    return notice('bad', 'An article is for this agent alone.',
      h('p', 'Without the agent it would be for all of them. Delete it, or name other agents in it, first.'),
      h('p', h('a', { href: `#/knowledge/${error.details.article_id}` }, 'Open the article')));
  }
  const { data, meta } = await call('GET', '/channels', { query: { agent_id: agent.agent_id, page_size: SHOWN } });
  return notice('bad', 'Channels use this agent.',
    h('p', 'Have another agent answer there first:'), channelLinks(data, meta.pagination.has_more, agent));
}

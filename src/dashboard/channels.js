// The bots that people write to: whom each reaches, which agent answers there, how it looks, and which M365 tenants it is installed for.

import { call, get, patch, path, post, remove } from './api.js';
import { h, refill } from './dom.js';
import { badge, button, confirm, dialog, empty, facts, heading, identifier, linkButton, newOf, notice, resource, say, section, time } from './parts.js';
import { form } from './form.js';
import { carriers, linkDirectory, unshareDirectory } from './linking.js';
import { listing, pickFilter, textFilter } from './list.js';
import { markdown } from './markdown.js';
import { agentNames, companyNames } from './names.js';
import { agentOption, agents, companies, picker } from './picker.js';
import { AUDIENCES, word } from './words.js';

const STATUSES = [['ACTIVE', 'Active'], ['DISCONNECTED', 'Disconnected']];
const statusBadge = (status) => badge(word(STATUSES, status), status === 'ACTIVE' ? 'good' : 'warn');
const back = { href: '#/channels', label: 'Channels' };

/** What the server answers through a disconnected channel (contract, section 1). */
const DISCONNECTED = 'This chat is not connected at the moment. Please contact your IT support.';

export const view = resource({ list, fresh, one });

function list(context) {
  const add = context.me.can.keep && linkButton('New channel', newOf('channels'), { kind: 'primary', icon: 'add' });
  const found = listing(context, {
    path: '/channels', caption: 'channels', search: 'Search by name',
    filters: [
      { name: 'audience', label: 'Audience', options: [['', 'Any'], ...AUDIENCES] },
      { name: 'status', label: 'Status', options: [['', 'Any'], ...STATUSES] },
      pickFilter('agent_id', 'Agent', agents(), agentOption),
      textFilter('bot_id', 'Bot'),
    ],
    href: (row) => `#/channels/${row.id}`,
    columns: [
      { label: 'Channel', cell: (row) => h('bdi', row.internal_name), wide: true },
      { label: 'Audience', cell: (row) => word(AUDIENCES, row.audience) },
      { label: 'Status', cell: (row) => statusBadge(row.status) },
      { label: 'Agent', cell: (row) => agentNames.element(row.agent_id) },
      { label: 'Bot', cell: (row) => (row.bot_id === null ? h('span.muted', 'none') : h('code', row.bot_id)) },
    ],
    none: context.me.can.keep
      ? empty('No channels yet.', ['A channel has a bot answer with ', h('a', { href: '#/agents' }, 'an agent of yours'), ': for your technicians, or for your clients’ staff.'], add.cloneNode(true))
      : empty('No channels yet.', 'An administrator makes them.'),
  });
  return [
    heading('Channels', { lead: 'The bots that people write to, and the agent that answers in each.', actions: add }),
    found.element,
  ];
}

function fresh(context) {
  const made = settings(null, null, {
    label: 'Create channel',
    cancel: '#/channels',
    async submit(values) {
      const channel = await placed(values, post('/channels', values));
      say([h('bdi', channel.internal_name), ' is added.']);
      context.go(`#/channels/${channel.id}`);
    },
  });
  context.guard(made.dirty);
  return [heading('New channel', { back }), made.element];
}

async function one(context, id) {
  const { me, signal } = context;
  let channel;
  try {
    channel = await get(path`/channels/${id}`, {}, signal);
  } catch (error) {
    if (error.status !== 404) throw error;
    return deleted(context, id, error);
  }
  const name = h('bdi', channel.internal_name);
  const status = h('span');
  const agent = h('div.above');
  const option = await agentOption(channel.agent_id);
  const draw = (answers) => {
    name.textContent = channel.internal_name;
    refill(status, statusBadge(channel.status));
    refill(agent, silent(answers, me.can.keep));
  };
  const made = me.can.keep && settings(channel, option, {
    async submit(_, changed) {
      const { data } = await placed(changed, patch(path`/channels/${id}`, changed));
      channel = data;
      made.take(data);
      draw(made.agent());
      say('Saved.');
    },
  });
  if (made) context.guard(made.dirty);
  const isInstalled = channel.audience === 'END_USER';
  const installed = isInstalled && installs(context, channel);
  draw(option);
  return [
    heading(name, {
      back,
      actions: [
        isInstalled && button('Installs', () => {
          installed.scrollIntoView();
          installed.focus({ preventScroll: true });
        }, { icon: 'down' }),
        linkButton('Sessions', `#/sessions?channel_id=${encodeURIComponent(id)}`),
        me.can.keep && button('Delete', () => erase(context, channel), { kind: 'danger' }),
      ],
    }),
    agent,
    facts([
      ['Status', status], ['Audience', word(AUDIENCES, channel.audience)], ['Transport', 'Microsoft Teams'], ['Channel id', identifier(id)],
    ]),
    made ? made.element : shown(channel, option),
    installed,
  ];
}

/** Says why a channel's agent cannot answer, where it cannot. */
function silent(option, mayMend) {
  const agent = option?.row;
  const name = agent && h('a', { href: `#/agents/${agent.agent_id}` }, h('bdi', agent.name));
  const why = agent === undefined ? ['Its agent is gone.', ' Choose another one below.']
    : agent.autonomy_type !== 'CONVERSATIONAL' ? [['Its agent, ', name, ', is not one that chats.'], ' Choose another one below.']
      : agent.state === 'DISABLED' ? [['Its agent, ', name, ', is switched off.'], ' Enable it, or choose another one below.']
        : null;
  return why && notice('warn', 'Everyone who writes here is refused.', h('p', why[0], mayMend && why[1]));
}

/** Has a refusal of a thing that was picked, and is gone since, say so where it was picked. */
function lacks(error, field, noun) {
  error.message = `This ${noun} is gone. Choose another one.`;
  error.details.field ??= field;
}

/** Has the refusals of a channel say which agent, or which M365 tenant of its installs, stands in the way. */
async function placed(sent, asked) {
  try {
    return await asked;
  } catch (error) {
    if (error.code === 'not_found' && 'agent_id' in sent) lacks(error, 'agent_id', 'agent');
    if (error.code === 'install_conflict' && error.details.end_client_tenant_id) error.message += ` It is ${error.details.end_client_tenant_id}.`;
    throw error;
  }
}

/** The form of a channel, with what it makes of the bot beside it. */
function settings(channel, option, { label, cancel, submit }) {
  const preview = teams();
  let agent = null;
  const made = form({
    fields: [
      { name: 'internal_name', label: 'Name', required: true, hint: 'Your own people see it, in lists. No two channels have the same.' },
      channel === null && { name: 'audience', label: 'Audience', kind: 'select', options: AUDIENCES.toReversed(), hint: 'Who writes to the bot. It cannot be changed later.' },
      {
        name: 'agent_id', label: 'Agent', kind: 'custom', required: true, hint: 'Enabled agents of the same audience.',
        make(id, _, described) {
          agent = picker({
            id, described, start: option, placeholder: 'Search agents…', onpick: () => draw(),
            search: (text, signal) => agents({ audience: audience(), state: 'ENABLED', autonomy_type: 'CONVERSATIONAL' })(text, signal),
          });
          return { element: agent.element, focusable: agent.focusable, value: agent.value };
        },
      },
      {
        name: 'status', label: 'Status', kind: 'select', options: STATUSES,
        hint: 'A disconnected channel lets no message through. Its sessions, installs and settings stay.',
      },
      { name: 'bot_id', label: 'Bot id', nullable: true, code: true, hint: 'The Microsoft App ID of the Teams bot. Messages to this bot come here.' },
      { title: 'In Teams' },
      { name: 'display_name', label: 'Bot’s name', nullable: true },
      { name: 'welcome_message', label: 'Welcome message', kind: 'textarea', rows: 5, nullable: true, hint: 'What the bot says when it has been installed. Markdown.' },
      { name: 'description', label: 'Description', kind: 'textarea', rows: 2, nullable: true, hint: 'What the bot is for.' },
      { name: 'color_icon_url', label: 'Colour icon', kind: 'url', nullable: true, code: true, hint: 'An https address of an image. It is not loaded here.' },
      { name: 'outline_icon_url', label: 'Outline icon', kind: 'url', nullable: true, code: true, hint: 'An https address of an image. It is not loaded here.' },
      { name: 'relay_prefix', label: 'Relay prefix', nullable: true, hint: 'What the relay puts before its messages.' },
      { name: 'show_agent_progress_steps', label: 'Show the agent’s progress steps', kind: 'checkbox' },
    ].filter(Boolean),
    values: channel ?? { show_agent_progress_steps: true },
    label, cancel, submit,
  });
  const { elements } = made.element;
  const audience = () => channel?.audience ?? elements.audience.value;
  const draw = () => preview.draw({
    audience: audience(), status: elements.status.value, display_name: elements.display_name.value, welcome_message: elements.welcome_message.value,
  }, agent.option()?.row);
  let waits = false;
  made.element.addEventListener('input', () => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      draw();
    });
  });
  if (channel === null) {
    elements.audience.addEventListener('change', () => {
      agent.show(null);
      draw();
    });
  }
  draw();
  return {
    element: h('div.columns.two', section('Settings', made.element), preview.element),
    dirty: made.dirty,
    agent: () => agent.option(),
    /** Shows what the server has made of what was typed. */
    take: (row) => (elements.bot_id.value = row.bot_id ?? ''),
  };
}

/** The channel for those who may not change it. */
function shown(channel, option) {
  const preview = teams();
  preview.draw(channel, option?.row);
  return h('div.columns.two',
    section('Settings', facts([
      ['Agent', option ? h('a', { href: `#/agents/${channel.agent_id}` }, h('bdi', option.label)) : 'gone'],
      ['Bot id', channel.bot_id && identifier(channel.bot_id)],
      ['Bot’s name', channel.display_name && h('bdi', channel.display_name)],
      ['Description', channel.description && h('div.as-typed', { dir: 'auto' }, channel.description)],
      ['Colour icon', channel.color_icon_url && h('code', channel.color_icon_url)],
      ['Outline icon', channel.outline_icon_url && h('code', channel.outline_icon_url)],
      ['Relay prefix', channel.relay_prefix && h('bdi', channel.relay_prefix)],
      ['Progress steps', channel.show_agent_progress_steps ? 'shown' : 'not shown'],
      ['Created', time(channel.created_at)],
      ['Changed', time(channel.updated_at)],
    ])),
    preview.element);
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'short' });

/** The letters in the place of a bot's picture, which a page of this server does not load. */
const initials = (name) => name.split(/\s+/u).map((part) => [...part].find((letter) => /[\p{L}\p{N}]/u.test(letter)) ?? '').join('').slice(0, 2).toUpperCase();

/** How a bot looks to those who write to it. */
function teams() {
  const head = h('div.teams-head');
  const chat = h('div.teams-chat', { tabindex: '0', role: 'group', 'aria-label': 'Chat with the bot' });
  const said = (name, ...content) => h('div.teams-said',
    h('span.teams-face', { 'aria-hidden': 'true' }, initials(name) || '?'),
    h('div.teams-message',
      h('div.row', h('bdi.teams-name', name), badge('App'), h('span.muted', clock.format(new Date()))),
      content));
  const bubble = (content) => h('div.teams-bubble', content);
  const note = h('p.hint', { 'aria-live': 'polite' });
  return {
    element: section('As people see it', h('div.stack', h('div.teams', head, chat), note)),
    draw({ audience, status, display_name: given, welcome_message: welcome }, agent) {
      const name = given?.trim() || 'Your bot';
      const prompts = agent?.agent_settings?.suggested_prompts ?? [];
      refill(head, h('span.teams-face', { 'aria-hidden': 'true' }, initials(name) || '?'), h('bdi.teams-name', name));
      refill(chat,
        welcome?.trim()
          ? said(name, bubble(markdown(welcome)),
            prompts.length > 0 && h('ul.teams-prompts', { 'aria-label': 'Suggested prompts' }, prompts.map((prompt) => h('li', { dir: 'auto' }, prompt))))
          : h('p.muted', 'Without a welcome message the bot says nothing until somebody writes.'),
        status === 'DISCONNECTED' && [h('div.teams-mine', 'Hello?'), said(name, bubble(DISCONNECTED))]);
      note.textContent = status !== 'DISCONNECTED' ? ''
        : audience === 'END_USER' ? 'While it is disconnected, client staff read this at every message. No other agent answers in its place.'
          : 'While it is disconnected, technicians read this in the sessions that they have open. The managed agent answers new ones.';
    },
  };
}

/** The M365 tenants that a channel's bot serves; of a deleted channel they can only be removed. */
function installs(context, channel, isDeleted = false) {
  const { me, signal } = context;
  const where = path`/channels/${channel.id}/installs`;
  /** The company of an install, or what is missing, and what mends it. */
  const company = (row) => {
    if (row.psa_company_id !== null) {
      return h('a', { href: `#/companies/${encodeURIComponent(row.psa_company_id)}` }, companyNames.element(row.psa_company_id));
    }
    if (isDeleted) return h('span.muted', 'none, or several');
    const place = h('span.row', badge('not linked', 'warn'));
    const id = row.end_client_tenant_id;
    const mend = (label, run, drawing) => me.can.keep && button(label, async () => await run(id) && found.reload(), { small: true, icon: drawing });
    call('GET', '/end-companies', { query: { tenant_id: id, page_size: 2 }, signal }).then(({ data }) => refill(place, data.length > 1
      ? [badge('shared by several', 'warn'), mend('Choose who keeps it', unshareDirectory)]
      : [badge(carriers(0), 'warn'), mend('Link to a company', linkDirectory, 'link')]), () => {});
    return place;
  };
  const add = me.can.keep && !isDeleted && button('Add an install', async () => await install(context, channel) && found.reload(), { icon: 'add' });
  const found = listing({ ...context, query: new URLSearchParams() }, {
    path: where, caption: 'installs',
    columns: [
      { label: 'M365 tenant', cell: (row) => identifier(row.end_client_tenant_id), wide: true },
      { label: 'Company', cell: company },
      { label: 'Added', cell: (row) => time(row.created_at) },
      ...me.can.keep ? [{ label: 'Remove', cell: (row) => button('Remove', async () => await uninstall(channel, row, isDeleted) && found.reload(), { small: true }) }] : [],
    ],
    none: isDeleted
      ? empty('No installs are left.', 'Every M365 tenant that it had can be installed elsewhere.')
      : empty('Not installed yet.', 'People reach this channel once its bot is installed for their M365 tenant. Add the first one.'),
  });
  const element = section('Installs',
    h('div.heading-row.above', h('p.lead', isDeleted
      ? 'Whoever writes from these M365 tenants is told that the chat is not connected, until this bot is installed for them on another channel.'
      : 'The M365 tenants whose people reach this channel. Each needs exactly one company.'), add),
    found.element);
  element.classList.add('installs');
  element.setAttribute('tabindex', '-1');
  return element;
}

/** Asks for an M365 tenant, and installs the channel for it. True once it is done. */
async function install(context, channel) {
  const done = await dialog('Add an install', (close) => {
    const elsewhere = h('div');
    return [
      h('p', 'Say which M365 tenant has the bot installed. Its people then reach this channel.'),
      form({
        fields: [
          { name: 'end_client_tenant_id', label: 'M365 tenant id', required: true, code: true },
          {
            name: 'psa_company_id', label: 'Company', kind: 'custom', hint: 'Links it in the same step. It can be linked later too, and until then everyone there is refused.',
            make(id, _, described) {
              const made = picker({ id, described, search: companies(), placeholder: 'Search companies…' });
              return { element: made.element, focusable: made.focusable, value: made.value };
            },
          },
        ],
        label: 'Install',
        async submit(values) {
          elsewhere.replaceChildren();
          try {
            const { meta } = await call('POST', path`/channels/${channel.id}/installs`, { body: values });
            close(meta.warnings);
          } catch (error) {
            if (error.code === 'not_found' && values.psa_company_id !== null) lacks(error, 'psa_company_id', 'company');
            const { channel_id: other } = error.details;
            if (other) refill(elsewhere, h('a', { href: `#/channels/${other}`, onclick: () => close() }, 'Go to the channel that has it'));
            throw error;
          }
        },
      }).element,
      elsewhere,
    ];
  });
  if (done === null) return false;
  if (done.length > 0) say(done.join(' '), 'bad');
  else say('It is installed.');
  return true;
}

async function uninstall(channel, row, isDeleted) {
  const text = isDeleted
    ? ['Then any channel of yours can be installed for ', h('code', row.end_client_tenant_id), '. The sessions that it had stay to be read, and take no new messages.']
    : ['Everyone in ', h('code', row.end_client_tenant_id), ' is cut off from this channel: their open sessions take no new messages, and new ones do not get here. The company stays linked.'];
  if (!await confirm('Remove this install?', text, 'Remove install')) return false;
  await remove(path`/channels/${channel.id}/installs/${row.id}`);
  say('The install is removed.');
  return true;
}

async function erase(context, channel) {
  const text = channel.audience === 'END_USER'
    ? 'Client staff at its installs are told that the chat is not connected, until their bot is installed on another channel. Its sessions stay to be read, and take no new messages. It cannot be brought back.'
    : 'New chats with its bot are answered by the managed agent. Its sessions stay to be read, and take no new messages. It cannot be brought back.';
  if (!await confirm(['Delete ', h('bdi', channel.internal_name), '?'], text, 'Delete channel')) return;
  await remove(path`/channels/${channel.id}`);
  say([h('bdi', channel.internal_name), ' is deleted.']);
  context.go('#/channels');
}

/** What is left of a deleted channel: installs that go on refusing, and can be removed (contract, section 6). Throws `gone` for what never was one. */
async function deleted(context, id, gone) {
  try {
    await get(path`/channels/${id}/installs`, { page_size: 1 }, context.signal);
  } catch (error) {
    throw error.status === 404 ? gone : error;
  }
  return [
    heading('A deleted channel', { back, lead: 'It answers nobody any more.' }),
    facts([['Channel id', identifier(id)]]),
    installs(context, { id }, true),
  ];
}

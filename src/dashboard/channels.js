// Channels: the bots that people write to, the agent of each one, its appearance, and the M365
// tenants that it is installed for.

import { call, get, patch, path, post, remove } from './api.js';
import { appPackage } from './app-package.js';
import { h, setContent } from './dom.js';
import { badge, button, confirm, dialog, empty, facts, heading, identifier, linkButton, newPath, notice, resource, section, time, toast } from './components.js';
import { form } from './form.js';
import { linkDirectory, linkedCompanies, unshareDirectory } from './linking.js';
import { listView, pickFilter, textFilter } from './list.js';
import { markdown } from './markdown.js';
import { agentNames, companyNames } from './names.js';
import { agentOption, agents, companies, picker } from './picker.js';
import { AUDIENCES, LOCALE, labelOf } from './labels.js';

const STATUSES = [['ACTIVE', 'Active'], ['DISCONNECTED', 'Disconnected']];
const GROUP_REPLIES = [['MENTIONED', 'Messages that mention the bot'], ['ALWAYS', 'Every message']];
const statusBadge = (status) => badge(labelOf(STATUSES, status), status === 'ACTIVE' ? 'good' : 'warn');
const back = { href: '#/channels', label: 'Channels' };

/** The server's message to people who write to a disconnected channel (contract, section 1). */
const DISCONNECTED = 'This chat is not connected at the moment. Please contact your IT support.';

export const view = resource({ list, create, detail });

function list(context) {
  const add = context.me.can.manage && linkButton('New channel', newPath('channels'), { kind: 'primary', icon: 'add' });
  const found = listView(context, {
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
      { label: 'Audience', cell: (row) => labelOf(AUDIENCES, row.audience) },
      { label: 'Status', cell: (row) => statusBadge(row.status) },
      { label: 'Agent', cell: (row) => agentNames.element(row.agent_id) },
      { label: 'Bot', cell: (row) => (row.bot_id === null ? h('span.muted', 'none') : h('code', row.bot_id)) },
    ],
    none: context.me.can.manage
      ? empty('No channels yet.', ['A channel connects a bot to ', h('a', { href: '#/agents' }, 'an agent'), ': for your technicians, or for your clients’ staff.'], add.cloneNode(true))
      : empty('No channels yet.', 'An administrator creates channels.'),
  });
  return [
    heading('Channels', { lead: 'The bots that people write to, and the agent of each one.', actions: add }),
    found.element,
  ];
}

function create(context) {
  const made = settings(null, null, {
    label: 'Create channel',
    cancel: '#/channels',
    async submit(values) {
      const channel = await explainRefusal(values, post('/channels', values));
      toast([h('bdi', channel.internal_name), ' was created.']);
      context.go(`#/channels/${channel.id}`);
    },
  });
  context.guard(made.dirty);
  return [heading('New channel', { back }), made.element];
}

async function detail(context, id) {
  const { me, signal } = context;
  let channel;
  try {
    channel = await get(path`/channels/${id}`, {}, signal);
  } catch (error) {
    if (error.status !== 404) throw error;
    return deletedChannel(context, id, error);
  }
  const name = h('bdi', channel.internal_name);
  const status = h('span');
  const agent = h('div.above');
  const option = await agentOption(channel.agent_id);
  const draw = (answers) => {
    name.textContent = channel.internal_name;
    setContent(status, statusBadge(channel.status));
    setContent(agent, cannotAnswer(answers, me.can.manage));
  };
  const made = me.can.manage && settings(channel, option, {
    async submit(_, changed) {
      const { data } = await explainRefusal(changed, patch(path`/channels/${id}`, changed));
      channel = data;
      made.take(data);
      draw(made.agent());
      packaged.redraw(data);
      toast('Saved.');
    },
  });
  const packaged = await appPackage(context, channel);
  context.guard(() => (made && made.dirty()) || packaged.dirty());
  const isInstalled = channel.audience === 'END_USER';
  const installed = isInstalled && installs(context, channel);
  const connected = await connection(channel, signal);
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
        me.can.manage && button('Delete', () => deleteChannel(context, channel), { kind: 'danger' }),
      ],
    }),
    agent,
    facts([
      ['Status', status], ['Audience', labelOf(AUDIENCES, channel.audience)], ['Transport', 'Microsoft Teams'], ['Channel id', identifier(id)],
    ]),
    made ? made.element : readOnlySettings(channel, option),
    packaged.element,
    connected,
    installed,
  ];
}

/** The notice that a channel's agent cannot answer, or null if it can. */
function cannotAnswer(option, mayFix) {
  const agent = option?.row;
  const name = agent && h('a', { href: `#/agents/${agent.agent_id}` }, h('bdi', agent.name));
  const why = agent === undefined ? ['The agent was deleted.', ' Choose another one below.']
    : agent.autonomy_type !== 'CONVERSATIONAL' ? [['The agent ', name, ' is of a kind that does not chat.'], ' Choose another one below.']
      : agent.state === 'DISABLED' ? [['The agent ', name, ' is disabled.'], ' Enable it, or choose another one below.']
        : null;
  return why && notice('warn', 'Switchboard refuses everybody who writes to this channel.', h('p', why[0], mayFix && why[1]));
}

/** Assigns `not_found` to the field whose value was deleted after it was chosen. */
function nameMissing(error, field, noun) {
  error.message = `This ${noun} does not exist any more. Choose another one.`;
  error.details.field ??= field;
}

/**
 * Waits for a request to save a channel. Adds to an error which agent or which M365 tenant caused
 * it.
 */
async function explainRefusal(sent, request) {
  try {
    return await request;
  } catch (error) {
    if (error.code === 'not_found' && 'agent_id' in sent) nameMissing(error, 'agent_id', 'agent');
    if (error.code === 'install_conflict' && error.details.end_client_tenant_id) error.message += ` M365 tenant: ${error.details.end_client_tenant_id}.`;
    throw error;
  }
}

/** The form of a channel, with a preview of the bot. */
function settings(channel, option, { label, cancel, submit }) {
  const preview = teamsPreview();
  let agent = null;
  const made = form({
    fields: [
      { name: 'internal_name', label: 'Name', required: true, hint: 'Shown to your own staff. The name must be unique.' },
      channel === null && { name: 'audience', label: 'Audience', kind: 'select', options: AUDIENCES.toReversed(), hint: 'The people who write to the bot. The audience cannot be changed later.' },
      {
        name: 'agent_id', label: 'Agent', kind: 'custom', required: true, hint: 'Only enabled agents of the same audience can be chosen.',
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
        hint: 'A disconnected channel takes no messages. Its sessions, installs and settings are kept.',
      },
      { name: 'bot_id', label: 'Bot id', nullable: true, code: true, hint: 'The Microsoft App ID of the Teams bot. The channel takes the messages to this bot.' },
      { title: 'In Teams' },
      { name: 'display_name', label: 'Bot’s name', nullable: true },
      { name: 'welcome_message', label: 'Welcome message', kind: 'textarea', rows: 5, nullable: true, hint: 'The first message of the bot after its installation. Markdown.' },
      { name: 'description', label: 'Description', kind: 'textarea', rows: 2, nullable: true, hint: 'The purpose of the bot.' },
      { name: 'group_replies', label: 'Answers in groups', kind: 'select', options: GROUP_REPLIES, hint: 'In a group chat or a team, where several people write.' },
      { name: 'color_icon_url', label: 'Color icon for a relay', kind: 'url', nullable: true, code: true, hint: 'An https address of an image. Neither the dashboard nor the app package loads it.' },
      { name: 'outline_icon_url', label: 'Outline icon for a relay', kind: 'url', nullable: true, code: true, hint: 'An https address of an image. Neither the dashboard nor the app package loads it.' },
      { name: 'relay_prefix', label: 'Relay prefix', nullable: true, hint: 'Text that the relay puts before its messages.' },
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
  let isDrawing = false;
  made.element.addEventListener('input', () => {
    if (isDrawing) return;
    isDrawing = true;
    requestAnimationFrame(() => {
      isDrawing = false;
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
    /** Shows the bot id as the server has normalized it. */
    take: (row) => (elements.bot_id.value = row.bot_id ?? ''),
  };
}

/** The settings of a channel, read-only. */
function readOnlySettings(channel, option) {
  const preview = teamsPreview();
  preview.draw(channel, option?.row);
  return h('div.columns.two',
    section('Settings', facts([
      ['Agent', option ? h('a', { href: `#/agents/${channel.agent_id}` }, h('bdi', option.label)) : 'deleted'],
      ['Bot id', channel.bot_id && identifier(channel.bot_id)],
      ['Bot’s name', channel.display_name && h('bdi', channel.display_name)],
      ['Description', channel.description && h('div.preformatted', { dir: 'auto' }, channel.description)],
      ['Color icon for a relay', channel.color_icon_url && h('code', channel.color_icon_url)],
      ['Outline icon for a relay', channel.outline_icon_url && h('code', channel.outline_icon_url)],
      ['Relay prefix', channel.relay_prefix && h('bdi', channel.relay_prefix)],
      ['Answers in groups', labelOf(GROUP_REPLIES, channel.group_replies)],
      ['Progress steps', channel.show_agent_progress_steps ? 'shown' : 'not shown'],
      ['Created', time(channel.created_at)],
      ['Changed', time(channel.updated_at)],
    ])),
    preview.element);
}

const clock = new Intl.DateTimeFormat(LOCALE, { timeStyle: 'short' });

/** The initials of a bot. The content security policy forbids loading its icon. */
const initials = (name) => name.split(/\s+/u).map((part) => [...part].find((letter) => /[\p{L}\p{N}]/u.test(letter)) ?? '').join('').slice(0, 2).toUpperCase();

/** A preview of a bot in Teams. */
function teamsPreview() {
  const head = h('div.teams-head');
  const chat = h('div.teams-chat', { tabindex: '0', role: 'group', 'aria-label': 'Chat with the bot' });
  const message = (name, ...content) => h('div.teams-post',
    h('span.teams-avatar', { 'aria-hidden': 'true' }, initials(name) || '?'),
    h('div.teams-message',
      h('div.row', h('bdi.teams-name', name), badge('App'), h('span.muted', clock.format(new Date()))),
      content));
  const bubble = (content) => h('div.teams-bubble', content);
  const note = h('p.hint', { 'aria-live': 'polite' });
  return {
    element: section('Preview', h('div.stack', h('div.teams', head, chat), note)),
    draw({ audience, status, display_name: displayName, welcome_message: welcome }, agent) {
      const name = displayName?.trim() || 'Your bot';
      const prompts = agent?.agent_settings?.suggested_prompts ?? [];
      setContent(head, h('span.teams-avatar', { 'aria-hidden': 'true' }, initials(name) || '?'), h('bdi.teams-name', name));
      setContent(chat,
        welcome?.trim()
          ? message(name, bubble(markdown(welcome)),
            prompts.length > 0 && h('ul.teams-prompts', { 'aria-label': 'Suggested prompts' }, prompts.map((prompt) => h('li', { dir: 'auto' }, prompt))))
          : h('p.muted', 'Without a welcome message, the bot is silent until somebody writes.'),
        status === 'DISCONNECTED' && [h('div.teams-own', 'Hello?'), message(name, bubble(DISCONNECTED))]);
      note.textContent = status !== 'DISCONNECTED' ? ''
        : audience === 'END_USER' ? 'While the channel is disconnected, client staff get this reply to every message. No other agent answers.'
          : 'While the channel is disconnected, technicians get this reply in open sessions. The managed agent answers new sessions.';
    },
  };
}

/** How the bot of a channel is connected to Teams, and what came in and went out last. */
async function connection(channel, signal) {
  if (channel.bot_id === null) return null;
  const found = await get(path`/channels/${channel.id}/teams`, {}, signal);
  const refusal = found.last_refusal;
  const never = h('span.muted', 'never');
  const when = (at) => (at === null ? never.cloneNode(true) : time(at));
  const deliveries = [
    found.waiting_deliveries > 0 && badge(`${found.waiting_deliveries} waiting`, 'warn'),
    found.given_up_deliveries > 0 && badge(`${found.given_up_deliveries} given up`, 'bad'),
    found.waiting_deliveries + found.given_up_deliveries === 0 && h('span.muted', 'none'),
  ];
  return section('Connection to Teams', facts([
    ['Messaging endpoint', identifier(found.endpoint)],
    ['Credentials', found.has_credentials ? badge('This server has them', 'good') : h('span.muted', 'not on this server: a relay connects the bot, or the operator adds it to the file of bots')],
    ['Last message in', when(found.last_received_at)],
    ['Last message out', when(found.last_sent_at)],
    ['Last refusal', refusal === null ? h('span.muted', 'none') : h('div', time(refusal.at), ' ', h('code', refusal.code), h('div', { dir: 'auto' }, refusal.message))],
    ['Deliveries', h('span.row', deliveries)],
    found.last_error !== null && ['Last failure', h('div', { dir: 'auto' }, found.last_error)],
  ].filter(Boolean)));
}

/** The installs of a channel. The installs of a deleted channel can only be removed. */
function installs(context, channel, isDeleted = false) {
  const { me, signal } = context;
  const where = path`/channels/${channel.id}/installs`;
  /** The company of an install, or a badge and a button that fixes a missing or shared link. */
  const company = (row) => {
    if (row.psa_company_id !== null) {
      return h('a', { href: `#/companies/${encodeURIComponent(row.psa_company_id)}` }, companyNames.element(row.psa_company_id));
    }
    if (isDeleted) return h('span.muted', 'none or several');
    const place = h('span.row', badge('not linked', 'warn'));
    const id = row.end_client_tenant_id;
    const fix = (label, run, drawing) => me.can.manage && button(label, async () => await run(id) && found.reload(), { small: true, icon: drawing });
    call('GET', '/end-companies', { query: { tenant_id: id, page_size: 2 }, signal }).then(({ data }) => setContent(place, data.length > 1
      ? [badge('shared by several companies', 'warn'), fix('Choose one company', unshareDirectory)]
      : [badge(linkedCompanies(0), 'warn'), fix('Link to a company', linkDirectory, 'link')]), () => {});
    return place;
  };
  const add = me.can.manage && !isDeleted && button('Add install', async () => await install(context, channel) && found.reload(), { icon: 'add' });
  const found = listView({ ...context, query: new URLSearchParams(), remember: null }, {
    path: where, caption: 'installs',
    columns: [
      { label: 'M365 tenant', cell: (row) => identifier(row.end_client_tenant_id), wide: true },
      { label: 'Company', cell: company },
      { label: 'Added', cell: (row) => time(row.created_at) },
      ...me.can.manage ? [{ label: 'Remove', cell: (row) => button('Remove', async () => await uninstall(channel, row, isDeleted) && found.reload(), { small: true }) }] : [],
    ],
    none: isDeleted
      ? empty('No installs are left.', 'The bot can be installed on another channel for every M365 tenant.')
      : empty('No installs yet.', 'People reach this channel after its bot is installed for their M365 tenant. Add the first install.'),
  });
  const element = section('Installs',
    h('div.heading-row.above', h('p.lead', isDeleted
      ? 'People in these M365 tenants are told that the chat is not connected, until the bot is installed for their tenant on another channel.'
      : 'The M365 tenants whose people reach this channel. Each one must be linked to exactly one company.'), add),
    found.element);
  element.classList.add('installs');
  element.setAttribute('tabindex', '-1');
  return element;
}

/** Asks for an M365 tenant and installs the channel for it. True if the install was added. */
async function install(context, channel) {
  const done = await dialog('Add install', (close) => {
    const otherChannel = h('div');
    return [
      h('p', 'Enter the M365 tenant that has the bot installed. Its people then reach this channel.'),
      form({
        fields: [
          { name: 'end_client_tenant_id', label: 'M365 tenant id', required: true, code: true, hint: 'Microsoft Entra admin center > Overview > Tenant ID.' },
          {
            name: 'psa_company_id', label: 'Company', kind: 'custom', hint: 'Optional. Links the M365 tenant to the company. Until it is linked, Switchboard refuses its people.',
            make(id, _, described) {
              const made = picker({ id, described, search: companies(), placeholder: 'Search companies…' });
              return { element: made.element, focusable: made.focusable, value: made.value };
            },
          },
        ],
        label: 'Add install',
        async submit(values) {
          otherChannel.replaceChildren();
          try {
            const { meta } = await call('POST', path`/channels/${channel.id}/installs`, { body: values });
            close(meta.warnings);
          } catch (error) {
            if (error.code === 'not_found' && values.psa_company_id !== null) nameMissing(error, 'psa_company_id', 'company');
            const { channel_id: other } = error.details;
            if (other) setContent(otherChannel, h('a', { href: `#/channels/${other}`, onclick: () => close() }, 'Go to the channel that has this install'));
            throw error;
          }
        },
      }).element,
      otherChannel,
    ];
  });
  if (done === null) return false;
  if (done.length > 0) toast(done.join(' '), 'bad');
  else toast('The install was added.');
  return true;
}

async function uninstall(channel, row, isDeleted) {
  const text = isDeleted
    ? ['Any channel can then be installed for ', h('code', row.end_client_tenant_id), '. Existing sessions stay readable and take no new messages.']
    : ['People in ', h('code', row.end_client_tenant_id), ' lose access to this channel. Their open sessions take no new messages. The company stays linked.'];
  if (!await confirm('Remove this install?', text, 'Remove install')) return false;
  await remove(path`/channels/${channel.id}/installs/${row.id}`);
  toast('The install was removed.');
  return true;
}

async function deleteChannel(context, channel) {
  const text = channel.audience === 'END_USER'
    ? 'Client staff at its installs are told that the chat is not connected, until the bot is installed on another channel. Existing sessions stay readable and take no new messages. This cannot be undone.'
    : 'The managed agent answers new chats with its bot. Existing sessions stay readable and take no new messages. This cannot be undone.';
  if (!await confirm(['Delete ', h('bdi', channel.internal_name), '?'], text, 'Delete channel')) return;
  await remove(path`/channels/${channel.id}`);
  toast([h('bdi', channel.internal_name), ' was deleted.']);
  context.go('#/channels');
}

/**
 * The view of a deleted channel, whose installs still refuse people and can be removed (contract,
 * section 6). Throws `notFound` if the channel never existed.
 */
async function deletedChannel(context, id, notFound) {
  try {
    await get(path`/channels/${id}/installs`, { page_size: 1 }, context.signal);
  } catch (error) {
    throw error.status === 404 ? notFound : error;
  }
  return [
    heading('Deleted channel', { back, lead: 'This channel answers nobody any more.' }),
    facts([['Channel id', identifier(id)]]),
    installs(context, { id }, true),
  ];
}

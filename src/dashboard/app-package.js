// The app package of a channel's bot: the icons in it, the addresses that it names, and the file.

import { file, get, patch, path, put, remove } from './api.js';
import { h, newId, setContent } from './dom.js';
import { badge, button, download, section, toast } from './components.js';
import { form } from './form.js';

const ICONS = [
  { kind: 'color', label: 'Color icon', rule: 'PNG, 192 × 192 pixels.', uploaded: 'color_icon_uploaded' },
  { kind: 'outline', label: 'Outline icon', rule: 'PNG, 32 × 32 pixels, white on a transparent ground.', uploaded: 'outline_icon_uploaded' },
];

/**
 * The section of a channel's app package: `{ element, dirty(), redraw(channel) }`. `redraw` shows
 * the icons of the channel as it is now.
 */
export async function appPackage(context, channel) {
  const { me, signal } = context;
  const where = path`/channels/${channel.id}`;
  const icons = ICONS.map((icon) => iconOf(me, where, icon, signal));
  const redraw = async (row) => await Promise.all(icons.map((icon) => icon.draw(row)));
  const addresses = me.can.manage && await addressForm(signal);
  const fetchPackage = button('Download the package', async () => {
    const { blob, name } = await file(`${where}/app-package`, signal);
    download(name ?? 'teams-app.zip', blob.type, blob);
    toast('The package was downloaded. Upload it in the Teams admin center.');
  }, { kind: 'primary' });
  await redraw(channel);
  return {
    element: section('App package', h('div.stack',
      h('p.lead', 'The file with which people get the bot in Teams: upload it in the Teams admin center, under Manage apps. Its version grows with each change.'),
      h('div.app-icons', icons.map(({ element }) => element)),
      h('div', fetchPackage),
      addresses && addresses.element)),
    dirty: () => Boolean(addresses) && addresses.dirty(),
    redraw,
  };
}

/** An icon with its buttons: `{ element, draw(channel) }`. */
function iconOf(me, where, { kind, label, rule, uploaded }, signal) {
  const address = `${where}/icons/${kind}`;
  const ground = h('div', { class: `app-icon-ground ${kind}` });
  const state = h('span.row');
  const actions = h('div.row');
  const chooser = h('input', { type: 'file', accept: 'image/png', hidden: true, id: newId('icon'), 'aria-label': label });
  const upload = button('Upload', () => chooser.click(), { small: true, title: `Upload: ${label}` });
  const undo = button('Remove', async () => {
    await remove(address);
    await draw(await get(where, {}, signal));
    toast('The icon is drawn again.');
  }, { small: true, title: `Remove: ${label}` });
  chooser.addEventListener('change', async () => {
    const [chosen] = chooser.files;
    chooser.value = '';
    if (!chosen) return;
    try {
      const { data } = await put(address, chosen);
      await draw(data);
      toast('The icon was uploaded.');
    } catch (error) {
      if (error.name === 'AbortError') return;
      toast(error.message.replace(/^body /, 'The picture '), 'bad');
    }
  });
  async function draw(channel) {
    const { blob } = await file(address, signal);
    const url = URL.createObjectURL(blob);
    const picture = h('img', { src: url, alt: `${label} of the bot`, onload: () => URL.revokeObjectURL(url) });
    setContent(ground, picture);
    setContent(state, h('strong', label), badge(channel[uploaded] ? 'uploaded' : 'drawn from the name'));
    setContent(actions, upload, channel[uploaded] && undo);
  }
  return {
    element: h('div.app-icon', ground, h('div.stack', state, h('p.hint', rule), me.can.manage && [actions, chooser])),
    draw,
  };
}

/** The form of the addresses that all packages of the tenant name. */
async function addressForm(signal) {
  const made = form({
    fields: [
      { title: 'Addresses of all your packages' },
      ...[
        ['website_url', 'Website', 'Who you are.'],
        ['privacy_url', 'Privacy statement', 'What is kept about the people who write to your bots.'],
        ['terms_url', 'Terms of use', 'How your bots may be used.'],
      ].map(([name, label, hint]) => ({ name, label, kind: 'url', nullable: true, code: true, hint: `${hint} An https address. Empty: a page of this server.` })),
    ],
    values: await get('/tenant', {}, signal),
    label: 'Save addresses',
    async submit(_, changed) {
      await patch('/tenant', changed);
      toast('Saved.');
    },
  });
  return made;
}

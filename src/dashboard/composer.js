// The composer of a conversation: a text field, files, the choice of the model, and the buttons
// Send and Stop.

import { errorOf, path, post, signedAddress } from './api.js';
import { h, icon, newId, setContent } from './dom.js';
import { button, errorText, iconButton, notice } from './components.js';

const FILES = 'image/png,image/jpeg,image/gif,image/webp,image/heic,application/pdf,text/plain,text/csv,application/msword,'
  + 'application/vnd.openxmlformats-officedocument.wordprocessingml.document,application/vnd.openxmlformats-officedocument.spreadsheetml.sheet,'
  + 'message/rfc822,application/vnd.ms-outlook,application/zip,.csv,.eml,.heic,.log,.msg,.txt,.zip';
/** Types by the end of the name: a browser knows no type, or another one, for these files. */
const TYPES = {
  csv: 'text/csv', eml: 'message/rfc822', heic: 'image/heic', log: 'text/plain', msg: 'application/vnd.ms-outlook', txt: 'text/plain', zip: 'application/zip',
};
const typeOf = (file) => TYPES[file.name.split('.').pop().toLowerCase()] ?? file.type;
const MAX_FILES = 6;
const TIERS = [['FAST', 'Fast'], ['SMART', 'Smart']];

const randomId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');

/** The files of the next message. A file is uploaded when it is chosen. */
class Attachments {
  /**
   * `{ filename, mime, blob_path, element }` each. `blob_path` is null until the upload is
   * complete.
   */
  items = [];
  element = h('ul.files');

  constructor(session, problem, onremove) {
    Object.assign(this, { session, problem, onremove });
  }

  get isUploading() {
    return this.items.some((item) => item.blob_path === null);
  }

  async add(files) {
    this.problem.replaceChildren();
    for (const file of files) {
      if (this.items.length >= MAX_FILES) {
        setContent(this.problem, notice('bad', `A message can have up to ${MAX_FILES} files.`));
        return;
      }
      await this.upload(file);
    }
  }

  async upload(file) {
    const state = h('span.muted', 'Uploading…');
    const item = { filename: file.name, mime: typeOf(file), blob_path: null };
    item.element = h('li', h('span.file', icon('file'), h('bdi', file.name), state,
      iconButton(`Remove ${file.name}`, 'close', () => this.remove(item))));
    this.items.push(item);
    this.element.append(item.element);
    try {
      const { blob_path: blobPath, mime } = await upload(this.session, file);
      Object.assign(item, { blob_path: blobPath, mime });
      state.remove();
    } catch (error) {
      this.remove(item);
      setContent(this.problem, notice('bad', `${file.name} was not attached.`, h('p', errorText(error))));
    }
  }

  remove(item) {
    this.items = this.items.filter((other) => other !== item);
    item.element.remove();
    this.onremove();
  }

  clear() {
    this.items = [];
    this.element.replaceChildren();
  }
}

/** Uploads a file. Returns its `blob_path`, and the type that the server detected. */
async function upload(session, file) {
  const type = typeOf(file);
  const offer = await post(path`/chat/sessions/${session.id}/attachments/upload-url`, { content_type: type, filename: file.name });
  const response = await fetch(signedAddress(offer.upload_url), { method: 'PUT', body: file, headers: { 'Content-Type': type }, credentials: 'omit' });
  if (!response.ok) throw await errorOf(response);
  return offer;
}

/**
 * Returns a function that sends a message. A message that is retried after an error is stored only
 * once.
 */
function sender(session) {
  /** The message that was not confirmed yet, and its id. */
  let pending = null;
  return async (body) => {
    const text = JSON.stringify(body);
    if (pending?.text !== text) pending = { text, id: randomId() };
    let reply;
    try {
      reply = await post(path`/chat/sessions/${session.id}/messages`, { ...body, client_message_id: pending.id });
    } catch (error) {
      if (error.code !== 'duplicate_client_message') throw error;
      // The server had stored the message, but its response was lost.
      reply = error.details;
    }
    pending = null;
    return reply;
  };
}

/**
 * A composer. Enter sends the message, Shift+Enter starts a new line. A message that could not be
 * sent stays in the field. `sent(reply, text, attachments)` is called after each message. Returns
 * `{ element, ask(text), runs(isRunning) }`.
 */
export function composer(session, { sent }) {
  const id = newId('message');
  const problem = h('div');
  const text = h('textarea.input', { id, rows: 2, placeholder: 'Write a message…', maxlength: 32_000, 'aria-describedby': `${id}-hint` });
  const tier = h('select.input.tier', { 'aria-label': 'Model' }, TIERS.map(([value, label]) => h('option', { value }, label)));
  const go = button('Send', null, { kind: 'primary', icon: 'send', type: 'submit' });
  const stop = button('Stop', () => post(path`/chat/sessions/${session.id}/cancel`), { icon: 'stop' });
  stop.hidden = true;
  const files = new Attachments(session, problem, () => text.focus());
  const send = sender(session);

  const ask = async (words, items) => {
    problem.replaceChildren();
    const attachments = items.map(({ blob_path, mime, filename }) => ({ blob_path, mime, filename }));
    sent(await send({ message: words, attachments, model_tier: tier.value }), words, attachments);
  };

  const submit = async () => {
    const words = text.value.trim();
    if (go.getAttribute('aria-disabled') === 'true') return;
    if (files.isUploading) {
      setContent(problem, notice('warn', 'A file is still being uploaded.'));
      return;
    }
    if (words === '' && files.items.length === 0) return;
    go.setAttribute('aria-disabled', 'true');
    try {
      await ask(words, files.items);
      if (text.value.trim() === words) text.value = '';
      files.clear();
    } catch (error) {
      setContent(problem, notice('bad', 'The message was not sent.', h('p', errorText(error))));
    } finally {
      go.removeAttribute('aria-disabled');
      text.focus();
    }
  };

  submitOnEnter(text, submit);
  attachOnPaste(text, files);
  const chooser = fileChooser(files);
  return {
    element: h('form.composer', { ...attachOnDrop(files), onsubmit: (event) => {
      event.preventDefault();
      submit();
    } },
    problem, files.element,
    h('label.visually-hidden', { for: id }, 'Message'), text, chooser,
    h('div.composer-foot',
      button('Attach', () => chooser.click(), { icon: 'file', small: true }), tier,
      h('span.hint', { id: `${id}-hint` }, 'Enter sends. Shift+Enter starts a new line.'),
      h('div.actions', stop, go))),
    /** Sends a text. The content of the field stays. */
    ask: (words) => ask(words, []),
    /** Shows the Stop button while an answer is being written. */
    runs(isRunning) {
      stop.hidden = !isRunning;
    },
  };
}

function submitOnEnter(text, submit) {
  text.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  });
}

function attachOnPaste(text, files) {
  text.addEventListener('paste', (event) => {
    if (event.clipboardData.files.length > 0) {
      event.preventDefault();
      files.add(event.clipboardData.files);
    }
  });
}

/** The attributes of an element that files can be dropped on. */
const attachOnDrop = (files) => ({
  ondragover: (event) => event.preventDefault(),
  ondrop: (event) => {
    event.preventDefault();
    files.add(event.dataTransfer.files);
  },
});

function fileChooser(files) {
  const input = h('input', { type: 'file', multiple: true, accept: FILES, hidden: true, 'aria-label': 'Files to attach' });
  input.addEventListener('change', () => {
    files.add([...input.files]);
    input.value = '';
  });
  return input;
}

// A form that shows each of the server's refusals at the field it names, and keeps what was typed.

import { h, newId, put, refill } from './dom.js';
import { button, linkButton, notice, sentence } from './parts.js';

/** What is at a dotted name of an object. */
function at(values, name) {
  return name.split('.').reduce((inner, part) => inner?.[part], values);
}

function set(values, name, value) {
  const parts = name.split('.');
  const last = parts.pop();
  parts.reduce((inner, part) => (inner[part] ??= {}), values)[last] = value;
}

const lines = (text) => text.split('\n').map((line) => line.trim()).filter((line) => line !== '');

/** Makes the control of a field; gives it, and how its value is read. */
function control(field, id, value) {
  const common = {
    id, name: field.name, required: field.required, disabled: field.disabled, placeholder: field.placeholder,
    autocomplete: 'off', spellcheck: field.code ? 'false' : null, class: field.code ? 'input code' : 'input',
    'aria-describedby': `${id}-hint ${id}-problem`,
  };
  switch (field.kind) {
    case 'textarea': {
      const element = h('textarea', { ...common, rows: field.rows ?? 4, value: value ?? '' });
      return [element, () => element.value];
    }
    case 'lines': {
      const element = h('textarea', { ...common, rows: field.rows ?? 4, value: (value ?? []).join('\n') });
      return [element, () => lines(element.value)];
    }
    case 'select': {
      const element = h('select', common, field.options.map(([key, label]) => h('option', { value: key }, label)));
      element.value = value ?? field.options[0][0];
      return [element, () => element.value];
    }
    case 'checkbox': {
      const element = h('input', { ...common, class: 'checkbox', type: 'checkbox', checked: Boolean(value) });
      return [element, () => element.checked];
    }
    case 'custom': {
      // A control of its own, such as a picker: { element, value(), focusable }.
      const made = field.make(id, value, `${id}-hint ${id}-problem`);
      return [made.element, made.value, made.focusable];
    }
    default: {
      const element = h('input', { ...common, type: field.kind ?? 'text', value: value ?? '' });
      // An id is most often pasted, with what stood around it.
      return [element, () => (field.code ? element.value.trim() : element.value)];
    }
  }
}

/** Draws a field. Gives its element, and its control: `{ input, problem, value() }`. */
function fieldOf(field, values) {
  const id = newId('field');
  const [input, read, focusable = input] = control(field, id, at(values, field.name));
  const problem = h('p.problem', { id: `${id}-problem` });
  const hint = h('p.hint', { id: `${id}-hint` }, field.hint);
  const name = h('label', { for: id }, field.label, field.required && h('span.required', { 'aria-hidden': 'true' }, ' *'));
  const element = field.kind === 'checkbox'
    ? h('div.field.check', h('div.check-row', input, name), hint, problem)
    : h('div.field', name, input, hint, problem);
  const value = () => {
    const raw = read();
    if (field.nullable && (raw === '' || raw === undefined)) return null;
    return field.kind === 'number' && raw !== '' ? Number(raw) : raw;
  };
  return { element, control: { input: focusable, problem, value, start: null } };
}

/** The controls of a form by their names, and the values that they hold. */
class Controls extends Map {
  now() {
    return new Map([...this].map(([name, { value }]) => [name, value()]));
  }

  all() {
    const all = {};
    for (const [name, value] of this.now()) set(all, name, value);
    return all;
  }

  /** The values that differ from those at the last `settle`. */
  changes() {
    const changed = {};
    for (const [name, value] of this.now()) {
      if (JSON.stringify(value) !== this.get(name).start) set(changed, name, value);
    }
    return changed;
  }

  settle() {
    for (const [name, value] of this.now()) this.get(name).start = JSON.stringify(value);
  }

  /** The control that an error belongs to: the longest name that the error's field begins with, or that begins with it. */
  owner(error) {
    const named = String(error.details?.field ?? '');
    const name = [...this.keys()]
      .filter((key) => named === key || named.startsWith(`${key}.`) || named.startsWith(`${key}[`) || key.startsWith(`${named}.`) && named !== '')
      .sort((a, b) => b.length - a.length)[0];
    return this.get(name);
  }

  clearProblems() {
    for (const { input, problem } of this.values()) {
      problem.replaceChildren();
      input.removeAttribute('aria-invalid');
    }
  }
}

/** Runs `submit` while the form takes no input: what is typed meanwhile would count as saved. Gives the error, or null. */
async function submitInert(element, save, submit) {
  const focused = document.activeElement;
  element.inert = true;
  save.setAttribute('aria-disabled', 'true');
  let refused = null;
  try {
    await submit();
  } catch (error) {
    refused = error;
  }
  element.inert = false;
  save.removeAttribute('aria-disabled');
  if (document.activeElement === document.body && focused?.isConnected) focused.focus();
  return refused;
}

/**
 * A form. Each field: `name` (dotted as on the wire), `label`, `kind` (`text`, `textarea`, `lines`, `select`, `checkbox`, `url`, `number`,
 * `datetime-local`, `custom`), `hint`, `required`, `disabled`, `nullable` (empty is null), `options` of a select, `make` of a custom one.
 * `submit(values, changed)` gets all values, and those alone that differ from the start; what it throws is shown.
 * Gives the element, `dirty()`, and `settle()` for when what stands there is what the server has.
 */
export function form({ fields, values = {}, submit, label = 'Save', cancel, extra, disabled }) {
  const problems = h('div.form-problem');
  const controls = new Controls();
  const element = h('form.form', { novalidate: true });
  const save = button(label, null, { kind: 'primary', type: 'submit' });

  for (const field of fields) {
    if (field.title) {
      put(element, h('h2.form-title', field.title));
      continue;
    }
    const drawn = fieldOf({ ...field, disabled: field.disabled || disabled }, values);
    put(element, drawn.element);
    controls.set(field.name, drawn.control);
  }

  /** Shows an error at the field that it names, or else below the fields. */
  const show = (error) => {
    const owner = controls.owner(error);
    if (owner === undefined) {
      refill(problems, notice('bad', 'This was not saved.', h('p', sentence(error))));
      problems.scrollIntoView({ block: 'nearest' });
      return;
    }
    refill(owner.problem, sentence(error));
    owner.input.setAttribute('aria-invalid', 'true');
    owner.input.focus();
  };

  const missing = () => fields.find((field) => field.required && [undefined, null, ''].includes(controls.get(field.name).value()));

  element.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (element.inert) return;
    problems.replaceChildren();
    controls.clearProblems();
    const lacks = missing();
    if (lacks) {
      show({ message: `${lacks.label} is needed.`, details: { field: lacks.name } });
      return;
    }
    const refused = await submitInert(element, save, async () => {
      await submit(controls.all(), controls.changes());
      controls.settle();
    });
    if (refused) show(refused);
  });

  put(element, problems, !disabled && h('div.form-actions', save, cancel && linkButton('Cancel', cancel), extra));
  controls.settle();
  return { element, settle: () => controls.settle(), show, dirty: () => Object.keys(controls.changes()).length > 0 };
}

// The record form saves by itself, and says so; and the keys of the form.
//
// components/dataset/record.py gives this file to a gr.HTML as js_on_load: `element` is the line that says how far
// saving is, `props.value` what the studio told it last: {sitting, answers, words, tone}, with is_opened when a record was
// opened in the form. A sitting is one record open in the form; an answer about another one, or to an earlier stroke than
// the last, came too late and is not shown.
//
// The studio gets the number of the stroke along with every text (props.value.stroke), so that an older saving that
// arrives late does not follow a newer one.

const REST_MS = 2_000; // of rest after a key, until what was written is stored
const SILENT_MS = 15_000; // without an answer, until somebody is told

window.__recordOff?.(); // a form that was here before a re-mount must not hear the keys any more
const life = new AbortController();
window.__recordOff = () => life.abort();
const listen = (target, type, heard, options = {}) => target.addEventListener(type, heard, { signal: life.signal, ...options });

const form = element.closest('.record');
const button = (name) => form?.querySelector(`button#record-${name}`);
const line = Object.assign(document.createElement('p'), { className: 'record-saving' });
line.setAttribute('role', 'status');
element.replaceChildren(line);

let sitting = '';
let stroke = 0;
let isDirty = false; // something was written since the last saving began
let isRefused = false; // the last saving could not be done
let rest = 0;
let silence = 0;

function say(words, tone = '') {
  line.textContent = words;
  line.dataset.tone = tone;
}

function touched() {
  isDirty = true;
  say('Saving…');
  clearTimeout(rest);
  rest = setTimeout(keep, REST_MS);
}

/** From here on what is in the fields has a higher number than all that was sent before. */
function begin() {
  clearTimeout(rest);
  clearTimeout(silence);
  isDirty = false;
  stroke += 1;
  props.value = { ...props.value, stroke };
  silence = setTimeout(() => {
    isDirty = isRefused = true;
    say('Not saved yet: the studio does not answer.', 'caution');
    rest = setTimeout(keep, REST_MS);
  }, SILENT_MS);
}

/** Which keys press the buttons: told again with every record, since they may not have been there at first. */
function hinted() {
  const keys = { back: 'Alt+↑', forth: 'Alt+↓, or Ctrl+Enter', save: 'Ctrl+S' };
  for (const [name, words] of Object.entries(keys)) button(name)?.setAttribute('title', words);
}

function keep() {
  if (!isDirty) return;
  begin();
  trigger('keep');
}

function told() {
  const now = props.value || {};
  const isOpened = now.is_opened && now.sitting !== sitting;
  const isLate = (now.sitting ?? '') !== sitting || (now.answers ?? stroke) < stroke;
  if (now.stroke !== stroke) props.value = { ...now, stroke };
  if (isLate && !isOpened) return;
  clearTimeout(silence);
  if (isOpened) {
    sitting = now.sitting;
    isDirty = false;
    clearTimeout(rest);
  }
  isRefused = now.tone === 'caution';
  if (!isDirty) say(now.words ?? '', now.tone);
  hinted();
}
watch('value', told);
told();

if (form) {
  // A choice is not written: the studio hears of it through the list or the buttons themselves.
  const isWritten = (field) => field.matches?.('textarea, input:not([type="radio"]), select') ?? false;
  listen(form, 'input', (event) => { if (isWritten(event.target)) touched(); });
  listen(form, 'edited', touched); // turns that were added, moved or taken out
  listen(form, 'focusout', keep);
}
listen(document, 'visibilitychange', () => { if (document.hidden) keep(); });
listen(window, 'beforeunload', (event) => { if (isDirty || isRefused) event.preventDefault(); });

// -- keys ----------------------------------------------------------------------------------------------------------


/** A list takes what was typed into it when it loses the focus. */
function settled() {
  const field = document.activeElement;
  if (field?.getAttribute('role') !== 'combobox' || !form.contains(field)) return;
  field.blur();
  field.focus();
}

function press(name) {
  settled();
  if (name === 'save') begin();
  else keep();
  requestAnimationFrame(() => button(name)?.click());
}

listen(document, 'keydown', (event) => {
  if (!form?.checkVisibility() || event.isComposing) return;
  const isCommand = event.ctrlKey || event.metaKey;
  const isHere = form.contains(event.target);
  const hasOwn = event.target.matches?.('select, [role="combobox"]');
  let name = null;
  if (isCommand && !event.altKey && !event.shiftKey && event.key.toLowerCase() === 's') name = 'save';
  else if (isHere && isCommand && !event.altKey && event.key === 'Enter') name = 'forth';
  else if (isHere && !hasOwn && event.altKey && !isCommand) name = { ArrowDown: 'forth', ArrowUp: 'back' }[event.key];
  if (!name) return;
  event.preventDefault();
  if (!event.repeat) press(name);
}, { capture: true });

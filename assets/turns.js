// The turns of a conversation: who says what, in an order that can be changed.
//
// components/dataset/record.py gives this file to a gr.HTML as js_on_load. `props.value` is {turns: [{role, content}],
// is_cut}, or nothing while the form shows a question and its answer. Every change writes the whole list back, so that
// whoever reads the form reads the turns as they are on screen.
//
// What people wrote reaches the page through value and textContent and nothing else.

const ROLES = ['system', 'user', 'assistant'];
const MOST_ROWS = 14;
const growsByItself = CSS.supports('field-sizing', 'content');

element.innerHTML = `
<ol class="talk-turns" aria-label="Conversation"></ol>
<p class="talk-note" hidden>Two turns are one question and its answer, and are kept as such. A third makes it a conversation.</p>
<button type="button" class="talk-add">Add turn</button>
<p class="said" aria-live="polite"></p>`;
const list = element.querySelector('.talk-turns');
const add = element.querySelector('.talk-add');

const blank = document.createElement('template');
blank.innerHTML = `
<li class="talk-turn">
  <div class="talk-head">
    <span class="talk-number"></span>
    <select></select>
    <button type="button" data-do="up" title="Move up">↑</button>
    <button type="button" data-do="down" title="Move down">↓</button>
    <button type="button" data-do="out" title="Take out">✕</button>
  </div>
  <textarea dir="auto"></textarea>
</li>`.trim();

const part = (turn, name) => turn.querySelector(name);
const all = () => [...list.children];
const read = () => all().map((turn) => ({ role: part(turn, 'select').value, content: part(turn, 'textarea').value }));
const say = (words) => { element.querySelector('.said').textContent = words; };

// -- painting ------------------------------------------------------------------------------------------------------

function made({ role, content }, isCut) {
  const turn = blank.content.firstElementChild.cloneNode(true);
  const [who, text] = [part(turn, 'select'), part(turn, 'textarea')];
  for (const name of ROLES.includes(role) ? ROLES : [...ROLES, role]) who.append(new Option(name, name));
  who.value = role;
  who.disabled = isCut;
  text.value = content;
  text.readOnly = isCut;
  for (const button of turn.querySelectorAll('button')) button.hidden = isCut;
  return turn;
}

/** Numbers and names follow the order. */
function named() {
  const turns = all();
  element.querySelector('.talk-note').hidden = turns.length !== 2;
  turns.forEach((turn, place) => {
    const number = place + 1;
    part(turn, '.talk-number').textContent = `Turn ${number}`;
    part(turn, 'select').setAttribute('aria-label', `Role of turn ${number}`);
    part(turn, 'textarea').setAttribute('aria-label', `Turn ${number}, ${part(turn, 'select').value}`);
    part(turn, '[data-do="up"]').setAttribute('aria-label', `Move turn ${number} up`);
    part(turn, '[data-do="down"]').setAttribute('aria-label', `Move turn ${number} down`);
    part(turn, '[data-do="out"]').setAttribute('aria-label', `Take turn ${number} out`);
    part(turn, '[data-do="up"]').disabled = place === 0;
    part(turn, '[data-do="down"]').disabled = place === turns.length - 1;
    turn.dataset.role = part(turn, 'select').value;
    sized(part(turn, 'textarea'));
  });
}

function sized(text) {
  if (growsByItself) return;
  text.rows = Math.min(MOST_ROWS, Math.max(2, text.value.split('\n').length));
}

function paint() {
  const { turns = [], is_cut: isCut = false } = props.value || {};
  add.hidden = isCut;
  if (JSON.stringify(turns) === JSON.stringify(read())) return; // whoever is in a turn stays in it
  list.replaceChildren(...turns.map((turn) => made(turn, isCut)));
  say('');
  named();
}
watch('value', paint);
paint();

// -- what a person does --------------------------------------------------------------------------------------------

/** The list as it is now, for whoever reads the form; the form hears the event and saves. */
function changed() {
  named();
  props.value = { ...props.value, turns: read() };
  element.dispatchEvent(new CustomEvent('edited', { bubbles: true }));
}

element.addEventListener('input', (event) => {
  const turn = event.target.closest('.talk-turn');
  if (!turn) return;
  sized(part(turn, 'textarea'));
  if (event.target.matches('select')) named();
  props.value = { ...props.value, turns: read() };
});

add.addEventListener('click', () => {
  const turns = read();
  const turn = made({ role: turns.at(-1)?.role === 'user' ? 'assistant' : 'user', content: '' }, false);
  list.append(turn);
  changed();
  part(turn, 'textarea').focus();
});

list.addEventListener('click', (event) => {
  const what = event.target.closest('[data-do]')?.dataset.do;
  const turn = event.target.closest('.talk-turn');
  if (!what || !turn) return;
  const place = all().indexOf(turn);
  if (what === 'out') {
    const next = turn.nextElementSibling ?? turn.previousElementSibling;
    turn.remove();
    (next ? part(next, 'textarea') : add).focus();
    say(`Turn ${place + 1} is taken out.`);
  } else {
    const other = what === 'up' ? turn.previousElementSibling : turn.nextElementSibling;
    if (!other) return;
    other[what === 'up' ? 'before' : 'after'](turn);
    part(turn, `[data-do="${what}"]`).focus();
    say(`Moved to place ${all().indexOf(turn) + 1}.`);
  }
  changed();
});

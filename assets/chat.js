// A conversation: what was said along one path of a chat, and what can be done to each turn.
//
// components/playground/chat.py gives this file to a gr.HTML as js_on_load. `props.value` is the JSON of {chat, turns, done,
// follow, empty, at}. What a person does is told as an 'act' (quick), an 'ask' (an answer will grow) or a 'follow' (one grows
// already); the studio answers with a new value. While an answer grows only its own words come, as a 'grown' event.
//
// Questions and answers are not ours: they reach the page through textContent and nothing else.

window.__chatOff?.(); // a conversation that was here before a re-mount must not hear the keys any more
const life = new AbortController();
window.__chatOff = () => life.abort();

element.innerHTML = `
<section class="talk" aria-label="Conversation" tabindex="0">
  <ol class="talk-turns"></ol>
  <div class="talk-empty" hidden><p></p><div class="talk-examples"></div></div>
</section>
<p class="said" aria-live="polite"></p>`;

const AT_END = 48; // pixels from the bottom that still count as "reads along"
const REST_MS = 1500; // how long a button that asked waits for the studio before it can be pressed again
const part = (selector) => element.querySelector(selector);
const talk = part('.talk');
const list = part('.talk-turns');
const say = (words) => { part('.said').textContent = words; };

let value = {}; // as painted
let growing = null; // {chat, who, note, left, text}: the answer that comes in now
let live = null; // its element
const editors = new Map(); // turn -> {kind, text}: what somebody is writing here outlives a new painting

// -- small parts ---------------------------------------------------------------------------------------------------

function made(tag, className = '', text = '') {
  const one = document.createElement(tag);
  if (className) one.className = className;
  if (text) one.textContent = text;
  return one;
}

// `name` says which turn a button belongs to, for those who hear the page; it begins with the words that are seen.
function button(act, words, name, { rest = false, className = '' } = {}) {
  const one = made('button', className, words);
  one.type = 'button';
  one.dataset.do = act;
  one.setAttribute('aria-label', name);
  if (rest) one.dataset.rest = ''; // not while an answer grows
  return one;
}

// Text and fenced code, in turns. A fence is a line of its own; one that is not closed yet runs to the end.
function pieces(text) {
  const found = [{ lines: [] }];
  for (const line of text.split('\n')) {
    const last = found.at(-1);
    if (!/^\s*```[\w+#.-]*\s*$/.test(line)) last.lines.push(line);
    else found.push(last.isCode ? { lines: [] } : { isCode: true, lines: [] });
  }
  return found.map(({ isCode, lines }) => ({ isCode, text: isCode ? lines.join('\n') : lines.join('\n').replace(/^\n+|\n+$/g, '') }))
    .filter((piece) => piece.isCode || piece.text);
}

function write(box, text) {
  box.replaceChildren(...pieces(text).map(({ isCode, text: words }) => {
    if (!isCode) return made('p', '', words);
    const block = made('pre');
    block.append(made('code', '', words));
    return block;
  }));
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a studio in an office network is not https, where there is no clipboard
    const box = made('textarea');
    box.value = text;
    document.body.append(box);
    box.select();
    document.execCommand('copy');
    box.remove();
  }
  say('Copied.');
}

// A line of JSON about the answer, and its words as in a JSON string (see _tail in chat.py).
function parts(told) {
  const cut = told.indexOf('\n');
  return { ...JSON.parse(told.slice(0, cut)), text: JSON.parse(`"${told.slice(cut + 1)}"`) };
}

// -- painting ------------------------------------------------------------------------------------------------------

function head(turn) {
  const line = made('header');
  line.append(made('b', 'who', turn.who));
  if (turn.left) {
    const mark = made('span', 'left', 'left this machine');
    mark.title = turn.left;
    line.append(mark);
  }
  line.append(made('span', 'took', turn.facts));
  return line;
}

function siblings(turn, name) {
  const box = made('span', 'siblings');
  const back = button('before', '‹', `Previous of ${turn.of}, ${name}`, { rest: true });
  const forth = button('after', '›', `Next of ${turn.of}, ${name}`, { rest: true });
  back.dataset.end = turn.place === 1;
  forth.dataset.end = turn.place === turn.of;
  box.append(back, made('span', '', `${turn.place} of ${turn.of}`), forth);
  return box;
}

function bar(turn, name) {
  const box = made('div', 'turn-bar');
  box.setAttribute('role', 'group');
  box.setAttribute('aria-label', `What can be done with ${name}`);
  if (turn.of > 1) box.append(siblings(turn, name));
  if (turn.waits) box.append(button('again', 'Have it answered', `Have it answered: ${name}`, { rest: true, className: 'onward' }));
  if (turn.isQuestion) box.append(button('edit', 'Edit', `Edit ${name}`, { rest: true }));
  else {
    const keep = button('keep', turn.kept ? '✓ Kept' : 'Keep', `${turn.kept ? 'Kept' : 'Keep'}: ${name}`);
    keep.disabled = turn.kept;
    box.append(
      button('again', 'Ask again', `Ask again for ${name}`, { rest: true }), keep,
      button('correct', 'Correct', `Correct ${name}`), button('rank', 'Send to labeling', `Send to labeling: ${name}`),
    );
  }
  box.append(button('copy', 'Copy', `Copy ${name}`));
  return box;
}

function editor(turn, name) {
  const { kind, text } = editors.get(turn.id);
  const box = made('div', 'turn-editor');
  const field = made('textarea');
  field.value = text;
  field.rows = Math.min(12, Math.max(2, text.split('\n').length));
  field.dir = 'auto';
  field.setAttribute('aria-label', kind === 'edit' ? `New wording of ${name}` : `Correction of ${name}`);
  field.addEventListener('input', () => { editors.get(turn.id).text = field.value; });
  const foot = made('div', 'turn-bar');
  const words = kind === 'edit' ? 'Save' : 'Add to dataset';
  foot.append(
    button('save', words, `${words}: ${name}`, { rest: kind === 'edit', className: 'onward' }),
    button('drop', 'Cancel', `Cancel: ${name}`),
    made('span', 'hint', kind === 'edit' ? 'Asks again, beside the first wording. Ctrl+Enter saves, Esc drops it.' : 'Ctrl+Enter adds it, Esc drops it.'),
  );
  box.append(field, foot);
  return box;
}

function row(turn, place) {
  const one = made('li', 'turn');
  const name = `${turn.isQuestion ? 'question' : 'answer'} ${Math.floor(place / 2) + 1}`;
  one.dataset.id = turn.id;
  one.dataset.kind = turn.isQuestion ? 'question' : 'answer';
  one.append(head(turn));
  if (editors.has(turn.id)) one.append(editor(turn, name));
  else {
    const text = made('div', 'text');
    text.dir = 'auto';
    write(text, turn.text);
    if (!turn.text.trim()) text.append(made('p', 'nothing', 'The model said nothing.'));
    one.append(text, bar(turn, name));
  }
  return one;
}

const isAtEnd = () => talk.scrollTop + talk.clientHeight >= talk.scrollHeight - AT_END;
const toEnd = () => { talk.scrollTop = talk.scrollHeight; };

function draw() {
  const { turns = [], empty } = value;
  const back = focused();
  list.replaceChildren(...turns.map(row));
  live = null;
  part('.talk-empty').hidden = turns.length > 0 || !empty;
  if (empty && !turns.length) offer(empty);
  grow();
  back();
}

// Where the focus was, so that a new painting does not take it away. By place: a sibling has another id.
function focused() {
  const at = document.activeElement;
  const li = list.contains(at) ? at.closest('.turn') : null;
  if (!li) return () => {};
  const place = [...list.children].indexOf(li), act = at.dataset.do;
  const marks = at.tagName === 'TEXTAREA' ? [at.selectionStart, at.selectionEnd] : null;
  return () => {
    const now = list.children[place];
    const found = marks ? now?.querySelector('textarea') : now?.querySelector(`[data-do="${act}"]:not(:disabled)`);
    const next = found ?? now?.querySelector('.siblings button:not(:disabled)') ?? now?.querySelector('button:not(:disabled)');
    next?.focus({ preventScroll: true });
    if (marks && found) found.setSelectionRange(...marks);
  };
}

function offer({ sentence, questions }) {
  part('.talk-empty p').textContent = sentence;
  part('.talk-examples').replaceChildren(...questions.map((question) => button('try', question, question)));
}

function paint() {
  const next = props.value ? JSON.parse(props.value) : {};
  if (next.at === value.at) return;
  const isOther = next.chat !== value.chat, more = (next.turns ?? []).length > (value.turns ?? []).length;
  const goOn = isOther || (more && isAtEnd());
  value = next;
  if (isOther) editors.clear();
  if (value.done) editors.delete(value.done);
  draw();
  if (goOn) toEnd();
  if (value.follow && !live) trigger('follow', {});
}

function grow() {
  if (!growing || growing.chat !== value.chat) {
    if (live) live.remove();
    live = null;
    return rest();
  }
  const readsAlong = isAtEnd();
  if (!live) {
    live = made('li', 'turn growing');
    live.dataset.kind = 'answer';
    live.append(made('header'), made('div', 'text'));
    live.querySelector('.text').dir = 'auto';
    list.append(live);
    say(`${growing.who} answers.`);
    toEnd();
  }
  live.querySelector('header').replaceWith(head({ ...growing, facts: growing.note }));
  write(live.querySelector('.text'), growing.text);
  if (readsAlong) toEnd();
  rest();
}

function rest() {
  for (const one of element.querySelectorAll('[data-rest]')) one.disabled = Boolean(live) || one.dataset.end === 'true';
}

// -- what a person does --------------------------------------------------------------------------------------------

const turnOf = (one) => (value.turns ?? []).find((turn) => String(turn.id) === one.closest('.turn')?.dataset.id);
const fieldOf = (turn) => list.querySelector(`[data-id="${turn.id}"] textarea`);

function ask(what) {
  for (const one of element.querySelectorAll('[data-rest]')) one.disabled = true;
  setTimeout(rest, REST_MS);
  trigger('ask', what);
}

function open(turn, kind) {
  editors.set(turn.id, { kind, text: turn.text });
  draw();
  const field = fieldOf(turn);
  field.focus();
  field.setSelectionRange(field.value.length, field.value.length);
}

function drop(turn) {
  const act = editors.get(turn.id)?.kind;
  editors.delete(turn.id);
  draw();
  list.querySelector(`[data-id="${turn.id}"] [data-do="${act}"]`)?.focus();
}

function save(turn) {
  const { kind, text } = editors.get(turn.id);
  if (kind === 'correct') trigger('act', { do: 'correct', turn: turn.id, text });
  else if (!live) ask({ do: 'edit', turn: turn.id, text });
}

// As if somebody had typed it: Gradio hears `input`.
function type(text) {
  const box = document.querySelector('#chat-message textarea');
  if (!box) return;
  box.value = text;
  box.dispatchEvent(new Event('input', { bubbles: true }));
  box.focus();
}

function act(name, turn, words) {
  if (name === 'try') return type(words);
  if (!turn) return;
  if (name === 'edit' || name === 'correct') open(turn, name);
  else if (name === 'drop') drop(turn);
  else if (name === 'save') save(turn);
  else if (name === 'copy') copy(turn.text);
  else if (name === 'again') ask({ do: 'again', turn: turn.id });
  else if (name === 'before' || name === 'after') trigger('act', { do: 'show', turn: turn[name] });
  else trigger('act', { do: name, turn: turn.id });
}

element.addEventListener('click', (event) => {
  const pressed = event.target.closest('[data-do]');
  if (pressed) act(pressed.dataset.do, turnOf(pressed), pressed.textContent);
});

element.addEventListener('keydown', (event) => {
  const turn = event.target.tagName === 'TEXTAREA' && !event.isComposing && turnOf(event.target);
  if (!turn) return;
  if (event.key === 'Escape') drop(turn);
  else if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) save(turn);
  else return;
  event.preventDefault();
  event.stopPropagation();
});

element.addEventListener('grown', (event) => {
  const wasLive = Boolean(live);
  growing = event.detail ? parts(event.detail) : null;
  grow();
  if (wasLive && !live) say('The answer is there.');
});

// Gradio sends on Enter, also on the one that ends a word in Japanese, Chinese or Korean.
document.addEventListener('keydown', (event) => {
  if (event.isComposing && event.key === 'Enter' && event.target.closest?.('#chat-message')) event.stopPropagation();
}, { capture: true, signal: life.signal });

watch('value', paint);
paint();

"""Telling when a run ends: in the page whichever tab is open, and by the browser when it was asked to.

The script hears of an end from this page's own refreshes while Tuning is open, and from the header while another tab is:
then it asks the studio once how the run ended. Nothing polls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from components.frame import handler
from studio.errors import StudioError
from studio.recipes.tuning_state import tuning_runs
from studio.store import Job, Store

__all__ = ["Telling"]

_TOLD = 12  # runs back

# props.value is {runs: [{run, state, isOver, words}, ...]}, newest first. All words reach the page through textContent.
_ON_LOAD = """
const WISH = 'ladder-tell-ends';
const wants = () => { try { return localStorage.getItem(WISH) === 'yes'; } catch { return false; } };
const wish = (value) => { try { localStorage.setItem(WISH, value ? 'yes' : 'no'); } catch {} };
const canAsk = 'Notification' in window && window.isSecureContext;
const isOn = () => canAsk && Notification.permission === 'granted' && wants();
const button = Object.assign(document.createElement('button'), { type: 'button', className: 'tell-ends' });
const said = Object.assign(document.createElement('span'), { className: 'quiet' });
said.setAttribute('role', 'status');
element.replaceChildren(button, said);

function paint(words = '') {
  button.textContent = isOn() ? 'Stop telling me' : 'Tell me when a run ends';
  button.disabled = !canAsk;
  said.textContent = words || (canAsk ? '' : 'This browser shows no notifications here; the page itself will tell.');
}
button.addEventListener('click', async () => {
  if (isOn()) { wish(false); paint(); return; }
  const answer = Notification.permission === 'granted' ? 'granted' : await Notification.requestPermission();
  wish(answer === 'granted');
  paint(answer === 'granted' ? '' : 'The browser does not allow it. Allow notifications for this address, and press again.');
});

function tell(one) {
  const headline = `Run ${one.run} is ${one.state}`;
  const toast = Object.assign(document.createElement('div'), { className: 'run-toast', textContent: `${headline}: ${one.words}` });
  toast.setAttribute('role', 'status');
  document.body.append(toast);
  setTimeout(() => toast.remove(), 8000);
  if (isOn() && document.hidden) new Notification(headline, { body: one.words, tag: `run-${one.run}` });
}
let before = null; // run -> whether it was over
function look() {
  const runs = props.value?.runs;
  if (!runs) return;
  const now = new Map(runs.map((one) => [one.run, one]));
  if (before) for (const [run, one] of now) if (one.isOver && before.get(run) === false) tell(one);
  before = new Map([...now].map(([run, one]) => [run, one.isOver]));
}
watch('value', look);
look();
paint();

window.__tellOff?.(); // one that was here before a re-mount
let header = document.querySelector('#status [data-title]')?.dataset.title?.split('·')[1];
const observer = new MutationObserver(() => {
  const title = document.querySelector('#status [data-title]')?.dataset.title?.split('·')[1];
  if (title === header) return;
  header = title;
  if (!element.checkVisibility()) trigger('ended', {});
});
const status = document.querySelector('#status');
if (status) observer.observe(status, { childList: true, subtree: true, attributes: true });
window.__tellOff = () => observer.disconnect();
"""


class Telling:
    """The button and the script."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.box = gr.HTML(
            None,
            label="Tell when a run ends",
            html_template="",  # its parts are made by the script
            js_on_load=_ON_LOAD,
            apply_default_css=False,
            padding=False,
            elem_id="tell-ends",
            min_width=170,
        )
        self.box.ended(
            handler(self.ends),
            None,
            self.box,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    def ends(self) -> Any:
        """`told` of the runs as they are now. Runs outside the queue, so it does not raise."""
        try:
            return self.told(tuning_runs(self.store, _TOLD))
        except StudioError:
            return gr.skip()

    def told(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """Which of the newest runs are over, and how they ended: the value of `box`."""
        return {"runs": [_told(job) for job in jobs[:_TOLD]]}


def _told(job: Job) -> dict[str, Any]:
    reason = f" {job.error}" if job.error else ""
    return {
        "run": job.id,
        "state": job.state,
        "isOver": job.is_over,
        "words": f"{job.title}.{reason}",
    }

// What an operator can do, each behind a question that says what will happen.

import { $, h } from './dom.js';
import { countDown } from './format.js';
import { named } from './details.js';

const questions = {
  cancel: (row) => (row.begun ? {
    title: 'Stop watching', button: 'Stop watching',
    text: `ARM has begun to delete ${named(row)}, and that cannot be taken back. The request ends now; its event says cancelled, and that the connection may be deleted. How the operation ends, nobody will know from here.`,
  } : {
    title: 'Cancel', button: 'Cancel the request',
    text: `Its message leaves the queue, and its event says cancelled. ${named(row)} stays as it is. To have it deleted after all, send a new request.`,
  }),
  expedite: (row) => ({
    title: 'Expedite', button: 'Expedite',
    text: `The next step about ${named(row)} is taken now, not in ${countDown(row.dueAt)}.`,
  }),
  resubmit: (row) => ({
    title: 'Resubmit', button: 'Resubmit',
    text: `The dead letter becomes a new request with the same body, and leaves the dead-letter queue. ${named(row)} is deleted, if the request’s guards and the worker’s rules allow it.`,
  }),
  drop: () => ({
    title: 'Drop', button: 'Drop it for good',
    text: 'The dead letter is removed for good; its body is kept nowhere else. Its event was published when it failed.',
  }),
};

// possible tells whether an action can be done with a row of a list.
export function possible(action, list, row) {
  if (list.id === 'waiting') return (action === 'cancel' && !row.notCancelled) || (action === 'expedite' && !row.notExpedited);
  return list.id === 'dead' && (action === 'resubmit' || action === 'drop');
}

// ask opens the question. It resolves to the words of what was done; nothing where it was left.
export function ask(action, row) {
  const dialog = $('confirm');
  if (dialog.open) return Promise.resolve();
  const { title, text, button } = questions[action](row);
  const words = h('p', { id: 'confirm-text' }, text);
  const fault = h('p', { class: 'wrong', role: 'alert', hidden: true });
  const leave = h('button', { type: 'button', autofocus: true, onclick: () => dialog.close() }, 'Leave it');
  const go = h('button', { type: 'button', class: action === 'expedite' || action === 'resubmit' ? 'primary' : 'danger' }, button);
  dialog.replaceChildren(h('h2', { id: 'confirm-title' }, `${title}: ${row.requestId}`), words, fault, h('div', { class: 'buttons' }, leave, go));
  let done;
  go.addEventListener('click', async () => {
    go.disabled = leave.disabled = true;
    go.textContent = 'Working …';
    const result = await send(action, row);
    leave.disabled = false;
    if (result.error) {
      Object.assign(fault, { textContent: result.error, hidden: false });
      go.remove();
      leave.textContent = 'Close';
      leave.focus();
      return;
    }
    done = `${row.requestId}: ${result.done}`;
    dialog.close();
  });
  dialog.addEventListener('cancel', (e) => { if (leave.disabled) e.preventDefault(); });
  dialog.showModal();
  leave.focus();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(done), { once: true }));
}

async function send(action, row) {
  const wish = { requestId: row.requestId, sequenceNumber: row.sequenceNumber, stopWatching: Boolean(row.begun) };
  try {
    const answer = await fetch(`/api/actions/${action}`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(wish) });
    const result = await answer.json();
    if (result.event) result.error += `\nThe event, which somebody has to publish: ${JSON.stringify(result.event)}`;
    return result;
  } catch {
    return { error: 'The dashboard’s server did not answer. Whether it was done is not known: look at the lists.' };
  }
}

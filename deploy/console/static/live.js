// Live: pausing, a bounded number of rows, and a summary for screen readers at most every 10 seconds.
(() => {
  const rows = document.getElementById('rows');
  const button = document.getElementById('pause');
  const state = document.getElementById('live-state');
  const summary = document.getElementById('live-summary');
  let paused = false;
  const setPaused = (now) => {
    paused = now;
    button.setAttribute('aria-pressed', now);
    button.firstChild.data = now ? 'Resume ' : 'Pause ';
    if (now) state.textContent = 'Paused. New events are not drawn.';
  };
  button.addEventListener('click', () => setPaused(!paused));
  document.addEventListener('keydown', (event) => {
    if (event.key !== ' ' || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.('input, select, textarea, button, summary, dialog')) return;
    if (document.querySelector('dialog[open]') || document.getElementById('single-keys')?.checked === false) return;
    event.preventDefault();
    setPaused(!paused);
  });
  document.addEventListener('htmx:sse:before:message', (event) => { if (paused) event.preventDefault(); });
  document.addEventListener('htmx:after:swap', () => {
    // After a new connection, an event that is on the page may come again with a later outcome.
    const ids = new Set();
    for (const row of [...rows.children]) {
      if (ids.has(row.id)) row.remove();
      ids.add(row.id);
    }
    while (rows.children.length > Number(rows.dataset.max)) rows.lastElementChild.remove();
  });
  setInterval(() => { if (summary.textContent !== state.innerText) summary.textContent = state.innerText; }, 10_000);
})();

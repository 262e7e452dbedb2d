// What every page does: times, tabs, linked fields, keys, dialogs, toasts. There is no state but the reader's two preferences.
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const remembered = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const remember = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private window */ } };

  // Times: in the reader's zone, or all in UTC. The day is added unless it is today.
  let utc = remembered('utc') === 'yes';
  const zone = () => (utc ? 'UTC' : Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC');
  const day = (at) => at.toLocaleDateString('en-CA', { timeZone: zone() });
  const writeTime = (element) => {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) return;
    const style = element.dataset.style;
    if (style === 'ago') {
      const seconds = Math.max(0, Math.round((Date.now() - at) / 1000));
      element.textContent = seconds < 100 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
      return;
    }
    const clock = at.toLocaleTimeString('en-GB', { timeZone: zone(), ...(style === 'ms' ? { fractionalSecondDigits: 3, hour: '2-digit', minute: '2-digit', second: '2-digit' } : {}) });
    const date = at.toLocaleDateString('en-GB', { timeZone: zone(), day: 'numeric', month: 'short' });
    element.textContent = day(at) === day(new Date()) && style !== 'date' ? clock : `${date}, ${style === 'date' ? clock.slice(0, 5) : clock}`;
  };
  const writeTimes = (root) => all('time', root).forEach(writeTime);
  const showZone = () => all('[data-zone]').forEach((button) => {
    button.setAttribute('aria-pressed', utc);
    button.textContent = utc ? 'UTC' : zone().split('/').pop().replaceAll('_', ' ');
    button.title = utc ? 'Switch all times to your zone' : 'Switch all times to UTC';
  });
  for (const button of all('[data-zone]')) button.addEventListener('click', () => {
    utc = !utc;
    remember('utc', utc ? 'yes' : 'no');
    showZone();
    writeTimes(document);
  });
  showZone();
  writeTimes(document);

  // Tabs: role=tab buttons name their panel in aria-controls; arrow keys move between them.
  const pick = (tab) => all('[role=tab]', tab.closest('[role=tablist]')).forEach((each) => {
    each.setAttribute('aria-selected', each === tab);
    each.tabIndex = each === tab ? 0 : -1;
    document.getElementById(each.getAttribute('aria-controls')).hidden = each !== tab;
  });

  // Linked fields: everything with the same data-f lights up on hover and on focus.
  let lit = null;
  const light = (name) => {
    if (name === lit) return;
    lit = name;
    all('[data-f]').forEach((each) => each.classList.toggle('hit', name !== null && each.dataset.f === name));
  };
  for (const type of ['mouseover', 'focusin']) document.addEventListener(type, (event) => light(event.target.closest?.('[data-f]')?.dataset.f ?? null));

  // Toasts stay 8 seconds, and while they are hovered or focused.
  const toast = (message) => {
    const element = document.createElement('div');
    element.className = 'toast';
    element.textContent = message;
    document.getElementById('toasts').replaceChildren(element);
    const leave = () => setTimeout(() => (element.matches(':hover, :focus-within') ? leave() : element.remove()), 8000);
    leave();
  };
  document.addEventListener('toast', (event) => toast(event.detail.message));
  document.addEventListener('htmx:response:error', (event) => {
    const { status, raw } = event.detail.ctx.response;
    const message = raw?.headers?.get('x-error');
    toast(message ? decodeURIComponent(message) : status === 401 ? 'You are no longer logged in. Load the page again.' : status === 403 ? 'Not allowed.' : `That failed (${status}${raw?.statusText ? ` ${raw.statusText}` : ''}).`);
  });
  document.addEventListener('htmx:error', () => toast('The console does not answer.'));
  document.addEventListener('htmx:after:swap', () => writeTimes(document));

  // Loading: nothing for 200 ms, then a line above the old page, which stays until the new one is there.
  const setLoading = (loading) => {
    document.documentElement.toggleAttribute('data-loading', loading);
    document.getElementById('main').setAttribute('aria-busy', loading);
  };
  let waiting;
  addEventListener('beforeunload', () => { waiting = setTimeout(setLoading, 200, true); });
  addEventListener('pageshow', () => { clearTimeout(waiting); setLoading(false); });

  // Clicks: dialogs, copying, opening all cards.
  const openAll = () => {
    const cards = all('details.card');
    const open = cards.some((card) => !card.open);
    cards.forEach((card) => { card.open = open; });
  };
  document.addEventListener('click', async (event) => {
    const near = (query) => event.target.closest?.(query);
    if (near('[role=tab]')) pick(near('[role=tab]'));
    if (near('[data-dialog]')) document.getElementById(near('[data-dialog]').dataset.dialog).showModal();
    if (near('[data-open-all]')) openAll();
    const copy = near('[data-copy]');
    if (copy) {
      const text = document.getElementById(copy.dataset.copy).value;
      try { await navigator.clipboard.writeText(text); toast(copy.dataset.done); } catch { document.getElementById(copy.dataset.copy).select(); toast('Press Ctrl-C to copy.'); }
    }
    if (near('[data-close], [data-send]')) setTimeout(() => near('dialog').close());
  });

  document.addEventListener('change', (event) => event.target.closest?.('[data-submit]')?.requestSubmit());

  // Keys. Single keys do nothing in a field, and can be turned off.
  const single = document.getElementById('single-keys');
  if (single) {
    single.checked = remembered('keys') !== 'no';
    single.addEventListener('change', () => remember('keys', single.checked ? 'yes' : 'no'));
  }
  let went = 0;
  const rows = () => all('[data-rows] > *').map((row) => row.querySelector('summary, a, button')).filter((each) => each && each.offsetParent);
  const move = (step) => {
    const list = rows();
    const here = list.findIndex((each) => each === document.activeElement || each.parentElement.contains(document.activeElement));
    list[Math.max(0, Math.min(list.length - 1, here + step))]?.focus();
  };
  const keys = {
    '/': () => document.querySelector('main [type=search], [type=search]')?.focus(),
    '?': () => document.getElementById('keys')?.showModal(),
    j: () => move(1),
    k: () => move(-1),
    o: openAll,
    g: () => { went = Date.now(); },
    e: () => (document.activeElement.closest('.card')?.querySelector('[data-edit]') ?? document.querySelector('[data-edit]'))?.click(),
    r: () => (document.activeElement.closest('.card')?.querySelector('[data-replay]') ?? document.querySelector('[data-replay]:not(:disabled)'))?.click(),
  };
  document.addEventListener('keydown', (event) => {
    const tab = event.target.closest?.('[role=tab]');
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (tab && step) {
      const tabs = all('[role=tab]', tab.closest('[role=tablist]'));
      const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
      next.focus();
      pick(next);
      return;
    }
    if (event.target.matches?.('input, textarea, select') || event.ctrlKey || event.metaKey || event.altKey) return;
    if (single && !single.checked) return;
    if (document.querySelector('dialog[open]')) return;
    if (Date.now() - went < 1500) {
      went = 0;
      const link = document.querySelector(`.nav [data-key="${CSS.escape(event.key)}"]`);
      if (link) { event.preventDefault(); link.click(); return; }
    }
    const act = keys[event.key];
    if (act) { event.preventDefault(); act(); }
  });
})();

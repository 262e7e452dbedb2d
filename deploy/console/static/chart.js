// Charts: [data-chart] has times, a step and lines. Colours are those of the style sheet, in both themes.
(() => {
  const COLOURS = { received: '--spark', rejected: '--bad', delivered: '--ok', filtered: '--choice', privacy: '--privacy', held: '--warn', dead: '--bad', waiting: '--wait' };
  const HEIGHT = 140;
  const charts = new Map();
  const colour = (name) => {
    const probe = document.createElement('i');
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const zone = () => { try { return localStorage.getItem('utc') === 'yes' ? 'UTC' : undefined; } catch { return undefined; } };
  const draw = (element) => {
    charts.get(element)?.destroy();
    const { times, lines, step } = JSON.parse(element.dataset.chart);
    const names = Object.keys(lines);
    const label = (seconds, long) => new Date(seconds * 1000).toLocaleString('en-GB', step >= 86400 ? { timeZone: 'UTC', day: 'numeric', month: 'short' } : { timeZone: zone(), hour: '2-digit', minute: '2-digit', ...(long || step >= 3600 ? { day: 'numeric', month: 'short' } : {}) });
    const axis = { stroke: colour('--muted'), grid: { stroke: colour('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' };
    charts.set(element, new uPlot({
      width: element.clientWidth,
      height: HEIGHT + (names.length > 1 ? 0 : 0),
      padding: [8, 8, 0, 0],
      cursor: { y: false, points: { size: 5 } },
      legend: { live: true },
      scales: { y: { range: (_, low, high) => [0, Math.max(high, 1)] } },
      axes: [
        { ...axis, grid: { show: false }, space: 90, values: (_, splits) => splits.map((at) => label(at, false)) },
        { ...axis, size: 56, values: (_, splits) => splits.map((at) => (Number.isInteger(at) ? at.toLocaleString('en') : '')) },
      ],
      series: [
        { label: 'time', value: (_, at) => (at === null ? '' : label(at, true)) },
        ...names.map((name) => ({ label: name, stroke: colour(COLOURS[name]), width: 1.5, points: { show: false }, value: (_, number) => (number ?? '').toLocaleString('en'), ...(name === 'received' ? { fill: colour(COLOURS[name]), paths: uPlot.paths.bars({ size: [0.85, 40] }), width: 0 } : {}) })),
      ],
    }, [times, ...names.map((name) => lines[name])], element));
  };
  const all = () => document.querySelectorAll('[data-chart]').forEach(draw);
  all();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', all);
  document.getElementById('zone')?.addEventListener('click', all);
  const watch = new ResizeObserver((entries) => entries.forEach(({ target }) => charts.get(target)?.setSize({ width: target.clientWidth, height: HEIGHT })));
  document.querySelectorAll('[data-chart]').forEach((element) => watch.observe(element));
})();

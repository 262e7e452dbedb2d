// Charts: [data-chart] has times, a step and lines. Colours are those of the style sheet, in both themes.
(() => {
  const COLOURS = { received: '--spark', rejected: '--bad', delivered: '--ok', filtered: '--spark', privacy: '--privacy', held: '--warn', dead: '--bad', waiting: '--wait' };
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
    // Bars stand on each other: the last line is drawn first, as high as all together. What is received has the rejected within.
    const stacked = names[0] !== 'received';
    const sums = names.map((_, index) => times.map((_at, at) => (stacked ? names.slice(0, index + 1).reduce((sum, name) => sum + lines[name][at], 0) : lines[names[index]][at])));
    const order = stacked ? names.map((_, index) => names.length - 1 - index) : names.map((_, index) => index);
    const series = order.map((index) => {
      const name = names[index];
      return { label: name, stroke: colour(COLOURS[name]), fill: colour(COLOURS[name]), width: 0, paths: uPlot.paths.bars({ size: [0.85, 40] }), points: { show: false }, value: (_, _sum, _series, at) => (at === null ? '' : lines[name][at].toLocaleString('en')) };
    });
    charts.set(element, new uPlot({
      width: element.clientWidth,
      height: HEIGHT,
      padding: [8, 8, 0, 0],
      cursor: { y: false, points: { show: false } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high, 1)] } },
      axes: [
        { ...axis, size: 24, grid: { show: false }, space: 90, values: (_, splits) => splits.map((at) => label(at, false)) },
        { ...axis, size: 48, values: (_, splits) => splits.map((at) => (Number.isInteger(at) ? at.toLocaleString('en') : '')) },
      ],
      series: [{ label: 'at', value: (_, at) => (at === null ? '' : label(at, true)) }, ...series],
    }, [times, ...order.map((index) => sums[index])], element));
  };
  const all = () => document.querySelectorAll('[data-chart]').forEach(draw);
  all();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', all);
  document.querySelectorAll('[data-zone]').forEach((button) => button.addEventListener('click', all));
  const watch = new ResizeObserver((entries) => entries.forEach(({ target }) => charts.get(target)?.setSize({ width: target.clientWidth, height: HEIGHT })));
  document.querySelectorAll('[data-chart]').forEach((element) => watch.observe(element));
})();

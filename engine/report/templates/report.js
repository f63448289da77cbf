"use strict";
(() => {
  performance.mark("script");
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const root = document.documentElement;
  const asked = window.matchMedia("(prefers-color-scheme: dark)");
  const printed = window.matchMedia("print");
  const element = (name) => document.getElementById("chart-" + name);
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : asked.matches);

  // The colours of the page, put into what plotly draws.
  const themed = (layout) => {
    const ink = colour("ink"), line = colour("line");
    const dressed = { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true };
    dressed.font = { color: ink, size: 13, family: getComputedStyle(document.body).fontFamily };
    dressed.hoverlabel = { bgcolor: colour("page"), bordercolor: line, font: { color: ink, size: 13 }, align: "left", namelength: -1 };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) dressed[key] = { gridcolor: line, zerolinecolor: line, linecolor: line, fixedrange: layout.dragmode !== "pan", ...layout[key] };
    }
    return dressed;
  };
  const dressedData = (data) => data.map((trace) => trace.type === "heatmap"
    ? { ...trace, colorscale: [[0, "#0072B2"], [0.5, colour("middle")], [1, "#D55E00"]] }
    : trace);

  // The map and what is in view come first; the others follow one by one while nothing else is to be done.
  const top = (name) => element(name).getBoundingClientRect().top;
  const waiting = Object.keys(charts).sort((a, b) => top(a) - top(b));
  const first = waiting.filter((name) => name === "map" || top(name) < window.innerHeight);
  for (const name of waiting) if (charts[name].layout.height) element(name).style.minHeight = charts[name].layout.height + "px";
  const drawn = new Set();
  const draw = (name) => {
    drawn.add(name);
    return Plotly.react(element(name), dressedData(charts[name].data), themed(charts[name].layout),
      { displayModeBar: false, responsive: true, scrollZoom: name === "map" });
  };
  const drawAgain = () => [...drawn].forEach(draw);
  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 20));
  const drawNext = () => {
    const next = waiting.find((name) => !drawn.has(name));
    if (next === undefined) root.dataset.complete = "true";
    else draw(next).then(() => idle(drawNext));
  };

  const theme = document.getElementById("theme");
  const label = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
    theme.removeAttribute("aria-pressed");
  };
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); drawAgain(); });
  asked.addEventListener("change", () => { label(); drawAgain(); });
  printed.addEventListener("change", drawAgain);
  window.addEventListener("beforeprint", () => {
    waiting.filter((name) => !drawn.has(name)).forEach(draw);
    document.querySelectorAll("#rules details, #choice details").forEach((d) => { d.open = true; });
  });

  // A legend of buttons: a click shows a cluster alone, another one adds or removes clusters.
  const buttons = [...document.querySelectorAll("[data-cluster]")];
  const all = document.getElementById("all");
  const chosen = new Set();
  const show = () => {
    all.setAttribute("aria-pressed", String(chosen.size === 0));
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(chosen.has(button.dataset.cluster))));
    charts.map.data.forEach((trace) => { trace.visible = chosen.size === 0 || chosen.has(String(trace.meta)); });
    Plotly.restyle(element("map"), { visible: charts.map.data.map((trace) => trace.visible) });
  };
  buttons.forEach((button) => button.addEventListener("click", () => {
    const cluster = button.dataset.cluster;
    if (!chosen.delete(cluster)) chosen.add(cluster);
    show();
  }));
  if (all) all.addEventListener("click", () => { chosen.clear(); show(); });

  label();
  Promise.all(first.map(draw)).then(() => {
    root.dataset.drawn = String(Math.round(performance.now()));
    idle(drawNext);
  });
})();

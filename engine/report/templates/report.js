"use strict";
(async () => {
  performance.mark("script");
  const { charts, boxes, clusters, features, everybody } = JSON.parse(document.getElementById("contents").textContent);
  const root = document.documentElement;
  const asked = window.matchMedia("(prefers-color-scheme: dark)");
  const printed = window.matchMedia("print");
  const narrow = window.matchMedia("(max-width: 44rem)");
  const element = (name) => document.getElementById("chart-" + name);
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : asked.matches);

  // Choosing a cluster highlights it on the map, in the list, on its card, in the table, in the box plots and in the history.
  const chosen = new Set();
  const isShown = (number) => chosen.size === 0 || chosen.has(String(number));
  const drawn = new Set();
  const buttons = [...document.querySelectorAll("[data-cluster]")];
  const cards = [...document.querySelectorAll("[data-card]")];
  const all = document.getElementById("all");
  const opacities = (name) => charts[name].data.map((trace) => (isShown(trace.meta) ? (name === "map" ? 0.75 : 1) : 0.07));
  const show = () => {
    all.setAttribute("aria-pressed", String(chosen.size === 0));
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(chosen.has(button.dataset.cluster))));
    cards.forEach((card) => { card.classList.toggle("chosen", chosen.has(card.dataset.card)); });
    document.querySelectorAll("#feature-table [data-column]").forEach((cell) => {
      cell.classList.toggle("chosen", chosen.has(cell.dataset.column));
    });
    if (drawn.has("map")) Plotly.restyle(element("map"), { "marker.opacity": opacities("map") });
    for (const name of ["box", "history"]) if (drawn.has(name)) Plotly.restyle(element(name), { opacity: opacities(name) });
  };
  const choose = (cluster) => { if (!chosen.delete(cluster)) chosen.add(cluster); show(); };
  buttons.forEach((button) => button.addEventListener("click", () => choose(button.dataset.cluster)));
  cards.forEach((card) => card.querySelector("h3").addEventListener("click", () => choose(card.dataset.card)));
  all.addEventListener("click", () => { chosen.clear(); show(); });

  // The table of features: the first ones, or those that match the search, in the order of a column.
  const FIRST = 25;
  const table = document.getElementById("feature-table");
  const state = { sorted: "importance", descending: true, all: false };
  const made = (tag, text, attributes = {}) => {
    const node = document.createElement(tag);
    if (text !== null) node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const percent = (share) => (share === null ? "" : (100 * share).toFixed(0) + "\u00a0%");
  const sortKey = (feature) => {
    if (state.sorted === "importance" || state.sorted === "permutation") return feature[state.sorted] ?? -Infinity;
    if (state.sorted === "what") return feature.what;
    const cell = feature.cells[state.sorted];
    return cell === null ? -Infinity : cell[1];
  };
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (state.descending ? -1 : 1);
  const fill = () => {
    const sought = document.getElementById("search").value.trim().toLowerCase();
    const found = features.filter((feature) => feature.what.toLowerCase().includes(sought));
    const ordered = [...found].sort((a, b) => compare(sortKey(a), sortKey(b)));
    const visible = state.all ? ordered : ordered.slice(0, FIRST);
    const heads = [["what", "Feature", null], ["importance", "Importance", null], ["permutation", "In the tree", null], [null, everybody, null],
      ...clusters.map(([number, name], column) => [column, name, number])];
    const line = made("tr", null);
    for (const [key, text, number] of heads) {
      const head = made("th", null, { scope: "col" });
      if (number !== null) head.dataset.column = number;
      if (key === null) head.textContent = text;
      else {
        if (state.sorted === key) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
        const button = made("button", text + (state.sorted === key ? (state.descending ? "\u00a0▾" : "\u00a0▴") : ""), { type: "button" });
        button.addEventListener("click", () => {
          state.descending = state.sorted === key ? !state.descending : key !== "what";
          state.sorted = key;
          fill();
        });
        head.append(button);
      }
      line.append(head);
    }
    const body = made("tbody", null);
    for (const feature of visible) {
      const row = made("tr", null);
      row.append(made("th", feature.what, { scope: "row" }), made("td", percent(feature.importance)),
        made("td", percent(feature.permutation)), made("td", feature.everybody));
      feature.cells.forEach((cell, column) => {
        const level = cell === null ? 0 : Math.max(-4, Math.min(4, Math.round(2 * cell[1])));
        row.append(made("td", cell === null ? "" : cell[0], { class: "level" + level, "data-column": clusters[column][0] }));
      });
      body.append(row);
    }
    const top = made("thead", null);
    top.append(line);
    table.replaceChildren(top, body);
    document.getElementById("found").textContent = `${visible.length} of ${features.length} features`;
    document.getElementById("more").hidden = state.all || ordered.length <= FIRST;
    show();
  };
  // A leading sign would make a formula of a text in a spreadsheet.
  const quoted = (value) => '"' + String(value).replace(/^(?=[=+@\t\r-])/, "'").replaceAll('"', '""') + '"';
  if (table) {
    document.getElementById("search").addEventListener("input", fill);
    document.getElementById("more").addEventListener("click", () => { state.all = true; fill(); });
    document.getElementById("download").addEventListener("click", () => {
      const lines = [["feature", "importance", "permutation importance", everybody.toLowerCase(), ...clusters.map(([, name]) => name)],
        ...features.map((feature) => [feature.what, feature.importance, feature.permutation ?? "", feature.everybody,
          ...feature.cells.map((cell) => (cell === null ? "" : cell[0]))])];
      const link = made("a", null, { download: "features.csv" });
      link.href = URL.createObjectURL(new Blob(["\ufeff", lines.map((line) => line.map(quoted).join(",")).join("\r\n")], { type: "text/csv" }));
      link.click();
      URL.revokeObjectURL(link.href);
    });
    fill();
  }

  const theme = document.getElementById("theme");
  const label = () => {
    theme.textContent = isDark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", isDark() ? "Light colours" : "Dark colours");
    theme.removeAttribute("aria-pressed");
  };
  label();

  // plotly.js is compressed in the page; the page's policy names the hash of what comes out.
  const compressed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(made("script", await new Response(stream).text()));

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
  const layoutOf = (name) => (narrow.matches && charts[name].narrow) || charts[name].layout;

  // The map and what is in view come first; the others follow one by one while nothing else is to be done.
  const top = (name) => element(name).getBoundingClientRect().top;
  const waiting = Object.keys(charts).sort((a, b) => top(a) - top(b));
  const first = waiting.filter((name) => name === "map" || top(name) < window.innerHeight);
  for (const name of waiting) if (layoutOf(name).height) element(name).style.minHeight = layoutOf(name).height + "px";
  const draw = (name) => {
    const isNew = !drawn.has(name);
    drawn.add(name);
    return Plotly.react(element(name), charts[name].data, themed(layoutOf(name)),
      { displayModeBar: false, responsive: true, scrollZoom: name === "map" }).then(() => {
      if (isNew && name === "map") element("map").on("plotly_click", (event) => choose(String(event.points[0].data.meta)));
      if (chosen.size) show();
    });
  };
  const drawAgain = () => [...drawn].forEach(draw);
  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 20));
  const drawNext = () => {
    const next = waiting.find((name) => !drawn.has(name));
    if (next === undefined) root.dataset.complete = "true";
    else draw(next).then(() => idle(drawNext));
  };
  const selector = document.getElementById("box-feature");
  if (selector) selector.addEventListener("change", () => { charts.box = boxes[Number(selector.value)]; draw("box"); });
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; label(); drawAgain(); });
  asked.addEventListener("change", () => { label(); drawAgain(); });
  printed.addEventListener("change", drawAgain);
  narrow.addEventListener("change", drawAgain);
  window.addEventListener("beforeprint", () => {
    waiting.filter((name) => !drawn.has(name)).forEach(draw);
    document.querySelectorAll("#choice details").forEach((d) => { d.open = true; });
  });

  Promise.all(first.map(draw)).then(() => {
    root.dataset.drawn = String(Math.round(performance.now()));
    idle(drawNext);
  });
})();

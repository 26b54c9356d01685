// A map of points to explore: hover, keys, search, colours, families set apart. No library.
(function () {
  "use strict";
  if (window.pointExplorer) { window.pointExplorer(); return; }
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D31", "#6A51A3"];
  const SHAPES = ["circle", "square", "triangle", "diamond", "down", "cross"];
  // Dark to light, readable in grey: viridis at five places.
  const SCALE = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
  const W = 760, H = 520, EDGE = 26;

  function make(tag, options, parent) {
    const node = tag === "svg" || options && options.svg
      ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(options || {})) {
      if (key === "text") node.textContent = value;
      else if (key !== "svg") node.setAttribute(key, value);
    }
    if (parent) parent.appendChild(node);
    return node;
  }
  const draw = (tag, options, parent) => make(tag, { svg: true, ...options }, parent);

  function path(shape, r) {
    const a = 0.9 * r, t = r / 2.6;
    return {
      circle: `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
      square: `M${-a} ${-a}h${2 * a}v${2 * a}h${-2 * a}z`,
      triangle: `M0 ${-1.2 * r}L${1.1 * r} ${0.8 * r}H${-1.1 * r}z`,
      down: `M0 ${1.2 * r}L${1.1 * r} ${-0.8 * r}H${-1.1 * r}z`,
      diamond: `M0 ${-1.3 * r}L${1.3 * r} 0L0 ${1.3 * r}L${-1.3 * r} 0z`,
      cross: `M${-t} ${-r}h${2 * t}v${r - t}h${r - t}v${2 * t}h${t - r}v${r - t}h${-2 * t}v${t - r}h${t - r}v${-2 * t}h${r - t}z`,
    }[shape];
  }

  function ramp(share) {
    const at = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1);
    const i = Math.min(Math.floor(at), SCALE.length - 2), part = at - i;
    const mix = SCALE[i].map((low, k) => Math.round(low + part * (SCALE[i + 1][k] - low)));
    return `rgb(${mix.join(",")})`;
  }

  function show(value, unit) {
    if (typeof value !== "number") return String(value);
    const size = Math.abs(value);
    const text = size >= 1000 ? Math.round(value).toLocaleString("en")
      : value.toLocaleString("en", { maximumSignificantDigits: 3 });
    return unit ? `${text} ${unit}` : text;
  }

  function build(root) {
    const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
    const n = data.names.length;
    const state = { column: data.start, layout: 0, family: null, current: -1, pinned: -1, query: "",
                    zoom: 1, x: 0, y: 0 };
    root.querySelectorAll(".explorer-body").forEach((old) => old.remove());
    const body = make("div", { class: "explorer-body" }, root);

    const bar = make("div", { class: "explorer-bar" }, body);
    function labelled(text, control) {
      const label = make("label", { text: text + " " }, bar);
      label.appendChild(control);
      return control;
    }
    const search = labelled("Find", make("input", { type: "search", placeholder: "part of a name", spellcheck: "false" }));
    const colour = labelled("Colour", make("select", {}));
    data.columns.forEach((c, i) => make("option", { value: i, text: c.label }, colour));
    colour.value = state.column;
    const layout = labelled("Picture", make("select", {}));
    data.layouts.forEach((l, i) => make("option", { value: i, text: l.label }, layout));
    const zooms = make("span", { class: "explorer-zoom" }, bar);
    const button = (text, label, action) => {
      const b = make("button", { type: "button", text, "aria-label": label, title: label }, zooms);
      b.addEventListener("click", action);
    };
    button("+", "Zoom in", () => zoom(1.5));
    button("−", "Zoom out", () => zoom(1 / 1.5));
    button("⟲", "Show all", reset);

    const stage = make("div", { class: "explorer-stage" }, body);
    const svg = draw("svg", {
      viewBox: `0 0 ${W} ${H}`, tabindex: "0", role: "application", class: "explorer-map",
      "aria-label": `${data.title}. Arrow keys move between ${n} points, Enter keeps one, Escape lets go, plus and minus zoom.`,
    }, stage);
    const lines = draw("g", { class: "explorer-lines" }, svg);
    const dots = draw("g", {}, svg);
    const above = draw("g", { class: "explorer-names" }, svg);
    const tip = make("div", { class: "explorer-tip", hidden: "" }, stage);
    const legend = make("div", { class: "explorer-legend" }, body);
    const panel = make("div", { class: "explorer-panel", "aria-live": "polite" }, body);

    const shapeOf = data.columns[data.shape];
    const kinds = groups(shapeOf);
    const points = data.names.map((name, i) => {
      const k = kinds.indexOf(shapeOf.values[i]);
      const node = draw("path", {
        d: path(k < 0 ? "circle" : SHAPES[k % SHAPES.length], data.small ? 4 : 5.5), class: "explorer-dot", "data-i": i,
      }, dots);
      if (data.hollow !== null && data.columns[data.hollow].values[i] === "yes") node.classList.add("is-hollow");
      return node;
    });

    // The largest groups have colours of their own, the rest share grey.
    function groups(column) {
      const count = new Map();
      column.values.forEach((v) => v !== null && count.set(v, (count.get(v) || 0) + 1));
      return [...count].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
        .filter(([, c]) => c > 1 || count.size <= 8).slice(0, 8).map(([v]) => v);
    }

    function place(i) {
      const [x, y] = data.layouts[state.layout].at[i];
      const s = state.zoom;
      return [W / 2 + s * (EDGE + x * (W - 2 * EDGE) - W / 2 + state.x),
              H / 2 + s * (EDGE + (1 - y) * (H - 2 * EDGE) - H / 2 + state.y)];
    }

    function fill(column) {
      if (column.kind === "number") {
        const known = column.values.filter((v) => v !== null).map(scaled(column));
        const low = Math.min(...known), high = Math.max(...known);
        return column.values.map((v) => v === null ? null : ramp((scaled(column)(v) - low) / (high - low || 1)));
      }
      const named = groups(column);
      return column.values.map((v) => named.includes(v) ? COLOURS[named.indexOf(v) % COLOURS.length] : null);
    }
    const scaled = (column) => (v) => column.log ? Math.log(v) : v;

    function key() {
      const column = data.columns[state.column];
      legend.replaceChildren();
      scale(column);
      if (data.hollow !== null) make("span", { class: "explorer-note", text: `hollow: ${data.columns[data.hollow].label}` }, legend);
    }

    function scale(column) {
      if (column.kind === "number") {
        const known = column.values.filter((v) => v !== null);
        make("span", { text: show(Math.min(...known), column.unit) }, legend);
        const strip = make("span", { class: "explorer-strip" }, legend);
        strip.style.background = `linear-gradient(90deg, ${SCALE.map((c) => `rgb(${c})`).join(",")})`;
        make("span", { text: show(Math.max(...known), column.unit) }, legend);
        if (known.length < n) make("span", { class: "explorer-note", text: `grey: not known (${n - known.length})` }, legend);
        return;
      }
      const named = groups(column);
      named.forEach((value, k) => {
        const b = make("button", { type: "button", "aria-pressed": String(state.family === value) }, legend);
        const icon = draw("svg", { viewBox: "-8 -8 16 16", width: 14, height: 14, "aria-hidden": "true" }, b);
        const shape = column === shapeOf ? SHAPES[k % SHAPES.length] : "circle";
        draw("path", { d: path(shape, 5), fill: COLOURS[k % COLOURS.length] }, icon);
        make("span", { text: String(value) }, b);
        b.addEventListener("click", () => { state.family = state.family === value ? null : value; paint(); });
      });
      if (named.length < new Set(column.values).size) make("span", { class: "explorer-note", text: "grey: the others" }, legend);
    }

    function wanted(i) {
      const column = data.columns[state.column];
      if (state.query && !data.names[i].toLowerCase().includes(state.query)) return false;
      return state.family === null || column.values[i] === state.family;
    }

    function paint() {
      const fills = fill(data.columns[state.column]);
      const active = state.pinned >= 0 ? state.pinned : state.current;
      points.forEach((node, i) => {
        const [x, y] = place(i);
        node.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
        node.style.setProperty("--dot", fills[i] || "var(--explorer-grey)");
        node.classList.toggle("is-faint", !wanted(i));
        node.classList.toggle("is-here", i === active);
      });
      lines.replaceChildren();
      (data.trails || []).forEach((trail) => {
        draw("polyline", { points: trail.map((i) => place(i).map((v) => v.toFixed(1)).join(",")).join(" "), class: "explorer-trail" }, lines);
      });
      above.replaceChildren();
      if (active >= 0) {
        const [x0, y0] = place(active);
        data.neighbours[active].forEach(([j]) => {
          const [x1, y1] = place(j);
          draw("line", { x1: x0, y1: y0, x2: x1, y2: y1, class: "explorer-link" }, lines);
        });
        const right = x0 > W * 0.65;
        draw("text", { x: x0 + (right ? -10 : 10), y: y0 - 8, "text-anchor": right ? "end" : "start", "font-size": 13, class: "explorer-name" }, above)
          .textContent = data.names[active];
      }
      key();
      tell(active);
    }

    function facts(i, parent) {
      make("strong", { text: data.names[i] }, parent);
      const list = make("dl", {}, parent);
      data.columns.forEach((c) => {
        if (c.values[i] === null) return;
        const box = make("div", {}, list);
        make("dt", { text: c.label }, box);
        make("dd", { text: show(c.values[i], c.unit) }, box);
      });
      return list;
    }

    function tell(i) {
      const jump = panel.contains(document.activeElement);
      panel.replaceChildren();
      if (i < 0) {
        const found = data.names.filter((_, k) => wanted(k)).length;
        make("p", { class: "explorer-note", text: found === n
          ? `${n} points. Point at one, or press Tab and the arrow keys; click or Enter keeps it.`
          : `${found} of ${n} points.` }, panel);
        return;
      }
      facts(i, panel);
      make("p", { class: "explorer-note", text: `Nearest, by ${data.distance}:` }, panel);
      const near = make("ol", {}, panel);
      data.neighbours[i].forEach(([j, d]) => {
        const item = make("li", {}, near);
        const b = make("button", { type: "button", text: data.names[j] }, item);
        make("span", { text: ` ${show(d)}` }, item);
        b.addEventListener("click", () => pin(j));
      });
      if (jump) (near.querySelector("button") || svg).focus();
    }

    function hover(i, event) {
      if (i >= 0 && event) {
        tip.replaceChildren();
        facts(i, tip);
        const close = data.neighbours[i].slice(0, 3).map(([j, d]) => `${data.names[j]} (${show(d)})`);
        make("p", { text: `Nearest: ${close.join(", ")}` }, tip);
        tip.hidden = false;
        const box = stage.getBoundingClientRect();
        const x = event.clientX - box.left, y = event.clientY - box.top;
        tip.style.left = `${Math.max(0, Math.min(x + 14, box.width - tip.offsetWidth))}px`;
        tip.style.top = `${y + 18 + tip.offsetHeight > box.height && y > tip.offsetHeight ? y - tip.offsetHeight - 12 : y + 18}px`;
      } else tip.hidden = true;
      if (state.pinned < 0 && state.current !== i) { state.current = i; paint(); }
    }

    function pin(i) { state.pinned = i; state.current = i; tip.hidden = true; paint(); }

    function zoom(by) {
      const s = Math.min(Math.max(state.zoom * by, 1), 16);
      const active = state.pinned >= 0 ? state.pinned : state.current;
      state.zoom = s;
      if (active >= 0 && s > 1) {
        const [x, y] = data.layouts[state.layout].at[active];
        state.x = W / 2 - (EDGE + x * (W - 2 * EDGE));
        state.y = H / 2 - (EDGE + (1 - y) * (H - 2 * EDGE));
      }
      if (s === 1) state.x = state.y = 0;
      paint();
    }
    function reset() { Object.assign(state, { zoom: 1, x: 0, y: 0, family: null, query: "", pinned: -1, current: -1 }); search.value = ""; paint(); }

    // The nearest point of the picture that lies within 60 degrees of a direction.
    function step(dx, dy) {
      const from = state.pinned >= 0 ? state.pinned : state.current;
      if (from < 0) return data.names.findIndex((_, i) => wanted(i));
      const [x0, y0] = place(from);
      let best = -1, least = Infinity;
      for (let i = 0; i < n; i++) {
        if (i === from || !wanted(i)) continue;
        const [x, y] = place(i), ahead = (x - x0) * dx + (y - y0) * dy;
        const aside = Math.abs((x - x0) * dy) + Math.abs((y - y0) * dx);
        if (ahead > 0 && aside <= 1.8 * ahead && ahead + 2 * aside < least) { least = ahead + 2 * aside; best = i; }
      }
      return best < 0 ? from : best;
    }

    const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    svg.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const move = MOVES[event.key];
      if (move) { state.current = step(...move); state.pinned = -1; paint(); }
      else if (event.key === "Enter" || event.key === " ") { if (state.current >= 0) pin(state.current); }
      else if (event.key === "Escape") { state.pinned = state.current = -1; tip.hidden = true; paint(); }
      else if (event.key === "+" || event.key === "=") zoom(1.5);
      else if (event.key === "-") zoom(1 / 1.5);
      else return;
      event.preventDefault();
    });
    const under = (event) => {
      const i = event.target.getAttribute && event.target.getAttribute("data-i");
      return i === null || i === undefined ? -1 : Number(i);
    };
    let drag = null;
    svg.addEventListener("pointermove", (event) => {
      if (drag && event.buttons) {
        const scale = W / svg.getBoundingClientRect().width / state.zoom;
        const moved = Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4;
        if (state.zoom > 1 && (drag.moved || moved)) {
          drag.moved = true;
          state.x = drag.left + (event.clientX - drag.x) * scale;
          state.y = drag.top + (event.clientY - drag.y) * scale;
          paint();
        }
        return;
      }
      if (event.pointerType !== "touch") hover(under(event), event);
    });
    svg.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, left: state.x, top: state.y, moved: false }; });
    svg.addEventListener("pointerleave", () => { drag = null; hover(-1); });
    svg.addEventListener("click", (event) => {
      if (!(drag && drag.moved)) pin(under(event));
      drag = null;
    });
    search.addEventListener("input", () => {
      state.query = search.value.trim().toLowerCase();
      const found = data.names.map((_, i) => i).filter(wanted);
      state.pinned = -1;
      state.current = state.query && found.length === 1 ? found[0] : -1;
      paint();
    });
    search.addEventListener("keydown", (event) => {
      const first = data.names.findIndex((_, i) => wanted(i));
      if (event.key === "Enter" && state.query && first >= 0) { pin(first); svg.focus(); event.preventDefault(); }
      event.stopPropagation();
    });
    colour.addEventListener("change", () => { state.column = Number(colour.value); state.family = null; paint(); });
    layout.addEventListener("change", () => { state.layout = Number(layout.value); state.zoom = 1; state.x = state.y = 0; paint(); });
    paint();
    root.dataset.ready = "true";
  }

  window.pointExplorer = () => document.querySelectorAll(".point-explorer:not([data-ready])").forEach(build);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", window.pointExplorer);
  else window.pointExplorer();
})();

// Two clusters that a reader moves, and the average log posterior in its forms: what
// helpers/posterior/alp.py computes, on the points of helpers/posterior/by_hand.py.
const alp = (given) => {
  const standard = interactive.array(given.thousandths, Int16Array);
  const { most, dims } = given, every = (n) => Array.from({ length: n }, (_, i) => i);
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

  // As `by_hand.clusters`: the first half of the rows is cluster 0, the second cluster 1.
  const points = ({ sample, size, distance, spread, noise }) => every(2 * size).map((i) => {
    const second = i >= size, row = 2 * most * sample + (second ? most + i - size : i);
    return every(2 + noise).map((j) => standard[row * dims + j] / 1000
      * (second && j < 2 ? spread : 1) + (j ? 0 : (second ? distance : -distance) / 2));
  });
  const gaussian = (rows, oas) => {
    const n = rows.length, d = rows[0].length, axes = every(d);
    const centre = axes.map((j) => mean(rows.map((row) => row[j])));
    const sigma = axes.map((a) => axes.map((b) =>
      mean(rows.map((row) => (row[a] - centre[a]) * (row[b] - centre[b])))));
    const level = mean(axes.map((j) => sigma[j][j]));
    let keep = 1, add = given.ridge * level;
    if (oas) {
      const alpha = mean(sigma.flat().map((v) => v * v));
      const below = (n + 1) * (alpha - level ** 2 / d);
      const weight = below <= 0 ? 1 : Math.min((alpha + level ** 2) / below, 1);
      keep = 1 - weight;
      add = weight * level;
    }
    const factor = axes.map(() => new Float64Array(d));
    for (const a of axes) for (let b = 0; b <= a; b++) {
      let rest = keep * sigma[a][b] + (a === b ? add : 0);
      for (let k = 0; k < b; k++) rest -= factor[a][k] * factor[b][k];
      factor[a][b] = a === b ? Math.sqrt(rest) : rest / factor[b][b];
    }
    const logDet = 2 * axes.reduce((total, j) => total + Math.log(factor[j][j]), 0);
    const squared = (x) => {
      const z = new Float64Array(d);
      let total = 0;
      for (const a of axes) {
        let rest = x[a] - centre[a];
        for (let b = 0; b < a; b++) rest -= factor[a][b] * z[b];
        z[a] = rest / factor[a][a];
        total += z[a] ** 2;
      }
      return total;
    };
    return { n, d, centre, sigma, logDet, squared, density: (x) => -0.5 * (squared(x) + logDet) };
  };
  // The log share of the own one of two terms.
  const share = (own, other) => {
    const top = Math.max(own, other);
    return own - top - Math.log(Math.exp(own - top) + Math.exp(other - top));
  };
  const score = (densities, power) => mean(densities.map(([own, other]) => share(power * own, power * other)));

  // Own and other density of each row, from the fits of both halves; `leftOut` as `_left_out`.
  const pairs = (rows, fits, side, leftOut) => rows.map((x, i) => {
    const own = fits[side(i)], other = fits[1 - side(i)].density(x);
    if (!leftOut) return [own.density(x), other];
    const { n, d } = own, squared = own.squared(x), rest = 1 - squared / (n - 1);
    const logDet = own.logDet + d * Math.log(n / (n - 1)) + Math.log(rest);
    return [Math.log((n - 1) / n) - 0.5 * (n / (n - 1) * squared / rest + logDet), other];
  });
  const calibrated = (rows, size) => {
    const scale = rows[0].map((_, j) => {
      const column = rows.map((row) => row[j]), centre = mean(column);
      return Math.sqrt(mean(column.map((v) => (v - centre) ** 2)));
    });
    const scaled = rows.map((row) => row.map((v, j) => v / scale[j]));
    const folds = [...given.folds[size]], side = (i) => Number(i >= size);
    const densities = [...new Set(folds)].flatMap((fold) => {
      const rest = every(rows.length).filter((i) => folds[i] !== fold);
      const fits = [0, 1].map((k) => gaussian(rest.filter((i) => side(i) === k).map((i) => scaled[i]), true));
      const test = every(rows.length).filter((i) => folds[i] === fold);
      return pairs(test.map((i) => scaled[i]), fits, (i) => side(test[i]));
    });
    // The score is concave in the power: it rises until its slope is 0.
    const slope = (power) => mean(densities.map(([own, other]) =>
      (own - other) * Math.exp(share(power * other, power * own))));
    if (slope(0) <= 0) return [Math.log(0.5), 0];
    let low = 0, high = 1 - 1e-6;
    for (let step = 0; step < 60; step++) {
      const middle = (low + high) / 2;
      if (slope(middle / (1 - middle)) > 0) low = middle; else high = middle;
    }
    const best = score(densities, low / (1 - low)), plain = score(densities, 1);
    return plain >= best - 1e-9 ? [plain, 1] : [best, low / (1 - low)];
  };
  const measure = (setting) => {
    const rows = points(setting), { size, distance, spread, noise } = setting;
    const d = 2 + noise, chance = Math.log(0.5), side = (i) => Number(i >= size);
    const fits = [0, 1].map((k) => gaussian(rows.filter((_, i) => side(i) === k), false));
    const truth = (x, k) => -0.5 * ((x[0] - (k - 0.5) * distance) ** 2 + x[1] ** 2)
      / (k ? spread : 1) ** 2 - 2 * Math.log(k ? spread : 1);
    const [held, temperature] = calibrated(rows, size);
    // As `expected_optimism` for two clusters.
    const rule = 0.5 * d * (d + 3) / (4 * size);
    const forms = {
      "true Gaussians": [score(rows.map((x, i) => [truth(x, side(i)), truth(x, 1 - side(i))]), 1), chance],
      published: [score(pairs(rows, fits, side, false), 1), chance + rule],
      "leave-one-out": [score(pairs(rows, fits, side, true), 1), chance - rule],
      calibrated: [held, chance],
    };
    return { rows, fits, forms, chance, rule, temperature };
  };
  return measure;
};

document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("alp");
  if (!place) return;
  const given = interactive.data("alp-data"), measure = alp(given);
  const { svg, number, fill } = interactive;
  const part = (name) => place.querySelector(`[data-part="${name}"]`);
  let sample = 0;

  const drawPoints = ({ rows, fits }, size) => {
    const picture = part("points"), width = picture.clientWidth, height = Math.min(320, 0.75 * width);
    // The frame is as wide as the sliders go, so that a move is seen as one.
    const scale = Math.min(width / 14, height / 9);
    const at = (x, y) => [width / 2 + scale * x, height / 2 - scale * y];
    const dots = rows.map(([x, y], i) => {
      const [cx, cy] = at(x, y), second = i >= size, fill_ = given.colours[Number(second)];
      return svg("text", { x: cx, y: cy, fill: fill_, class: "point", "font-size": 13 }, second ? "▲" : "●");
    });
    const rings = fits.map(({ centre, sigma: [[a, b], [, c]] }, k) => {
      const middle = (a + c) / 2, half = Math.hypot((a - c) / 2, b), [cx, cy] = at(...centre);
      const angle = -Math.atan2(2 * b, a - c) / 2 * 180 / Math.PI;
      return svg("ellipse", { rx: 2 * scale * Math.sqrt(middle + half), ry: 2 * scale
        * Math.sqrt(Math.max(middle - half, 0)), transform: `translate(${cx} ${cy}) rotate(${angle})`,
        fill: "none", stroke: given.colours[k], "stroke-width": 2 });
    });
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.replaceChildren(...dots, ...rings);
  };
  const drawScores = ({ forms, chance }) => {
    const picture = part("scores"), width = picture.clientWidth, names = Object.keys(forms);
    const left = 100, height = 30 * names.length + 48, least = -1.5;
    const x = (v) => left + (width - left - 14) * (1 - Math.max(v, least) / least);
    const y = (i) => 20 + 30 * i;
    const line = (v, label, dash) => [svg("line", { x1: x(v), x2: x(v), y1: 4, y2: height - 40,
      class: "rule", "stroke-dasharray": dash }), svg("text", { x: x(v), y: height - 30,
      class: "tick" }, label)];
    const marks = names.flatMap((name, i) => {
      const [score, noise] = forms[name];
      return [svg("text", { x: 0, y: y(i), class: "name" }, name),
        svg("line", { x1: x(noise), x2: x(noise), y1: y(i) - 9, y2: y(i) + 9, class: "noise" }),
        svg("text", { x: x(score), y: y(i), class: "score" }, score < least ? "◀" : "●")];
    });
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.replaceChildren(...line(chance, "chance", "4 3"), ...line(0, "0", ""), ...marks,
      svg("text", { x: x(-0.75), y: height - 10, class: "tick" }, "ALP (nats)"));
  };
  const show = () => {
    const value = (name) => Number(part(name).value);
    const setting = { sample, size: value("size"), distance: value("distance"),
      spread: value("spread"), noise: value("noise") };
    const found = measure(setting), { forms, chance, rule, temperature } = found;
    for (const name of ["distance", "spread"]) part(`${name}-value`).textContent = number(setting[name], 1);
    drawPoints(found, setting.size);
    drawScores(found);
    fill(part("table"), Object.entries(forms).map(([name, [score, noise]]) =>
      [name, [number(score, 2), score], [number(score - chance, 2), score - chance], [number(noise, 2), noise]]));
    const known = forms.calibrated[0] > -1e-6;
    const power = known ? "not determined: any large one gives this score" : number(temperature, 2);
    part("status").textContent = `Chance is ${number(chance, 2)} nats. By the rule, pure noise in `
      + `${2 + setting.noise} dimensions with ${setting.size} entities per cluster gains `
      + `${number(rule, 2)} nats in-sample. The inverse temperature of the calibrated form is ${power}.`;
    part("status").dataset.value = [chance, rule, temperature].join(" ");
    part("points").setAttribute("aria-label", `Two clusters of ${setting.size} points, `
      + `${setting.distance} apart, the second ${setting.spread} times as wide as the first`);
  };
  part("size").replaceChildren(...given.sizes.map((n) => new Option(n)));
  part("noise").replaceChildren(...given.noise.map((n) => new Option(n)));
  part("size").value = "25";
  for (const name of ["distance", "spread", "size", "noise"]) part(name).addEventListener("input", show);
  part("again").addEventListener("click", () => { sample = (sample + 1) % given.samples; show(); });
  interactive.onWidth(place, show);
});

// A model on the saved map in numbers: what helpers/modelmap/placement.py computes, on the numbers
// of helpers/modelmap/carried.py, and what is wrong with a file that has none for it.
const placement = (map) => {
  const N = map.texts.length, MOST = 16e6;
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const mean = (values) => sum(values) / values.length;

  // The map: what was cut at its threshold is cut again; centred as `ModelMap.coordinates`.
  const cut = (values) => Float64Array.from(values, (v) => Math.max(v, map.threshold));
  const hundredths = interactive.array(map.hundredths, Int32Array);
  const rows = map.models.map((_, k) =>
    cut(Float64Array.from(hundredths.subarray(k * N, k * N + N), (v) => v / 100)));
  const textMeans = map.texts.map((_, j) => mean(rows.map((row) => row[j])));
  const level = mean(textMeans);
  const centred = (row) => {
    const own = mean(row);
    return row.map((v, j) => v - own - (textMeans[j] - level));
  };
  const onPlane = (row) => map.axes.map((axis) => sum(centred(row).map((v, j) => v * axis[j])));
  const points = rows.map(onPlane);
  const draws = Object.fromEntries(Object.entries(map.draws).map(([n, text]) =>
    [n, Uint8Array.from(text, (c) => parseInt(c, 36))]));
  const quantile = (values, share) => {
    const sorted = Float64Array.from(values).sort(), at = share * (sorted.length - 1);
    const low = Math.floor(at), next = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (sorted[next] - sorted[low]) * (at - low);
  };

  // Squared distances to all models, with intervals from texts drawn with replacement.
  const neighbours = (values, k) => {
    const counts = draws[N], R = counts.length / N, new_ = cut(values);
    const apart = rows.map((row) => {
      const difference = new_.map((v, j) => v - row[j]), own = mean(difference);
      return difference.map((v) => v - own);
    });
    const samples = apart.map((a) => {
      const found = new Float64Array(R);
      for (let r = 0; r < R; r++) {
        let square = 0, line = 0;
        for (let j = 0; j < N; j++) {
          const weighted = counts[r * N + j] * a[j];
          square += weighted * a[j];
          line += weighted;
        }
        found[r] = Math.max(square / N - (line / N) ** 2, 0);
      }
      return found;
    });
    const first = new Float64Array(rows.length);
    for (let r = 0; r < R; r++) {
      const here = samples.map((sample) => sample[r]);
      // As `ties.first_smallest`: what differs by rounding alone is equal.
      const least = Math.min(...here) + 1e-12 * Math.max(...here);
      first[here.findIndex((v) => v <= least)]++;
    }
    const tail = (1 - map.confidence) / 2;
    return apart.map((a, i) => ({ i, distance: sum(a.map((v) => v * v)) / N }))
      .sort((a, b) => a.distance - b.distance).slice(0, k)
      .map(({ i, distance }) => ({ i, distance, nearest: first[i] / R,
        low: quantile(samples[i], tail), high: quantile(samples[i], 1 - tail) }));
  };
  const kinship = (low, high) => {
    const words = (d) => map.kinship.find(([bound]) => bound === null || d <= bound)[1];
    const ends = [...new Set([words(low), words(high)])];
    return ends.length === 1 ? ends[0] : `undecided: ${ends.join("; or ")}`;
  };
  // As `likelihood.bits_per_byte`, over the texts at some places.
  const bits = (values, places) => {
    const n = places.length, counts = draws[n];
    const own = places.map((j) => -values[j] / Math.LN2), sizes = places.map((j) => map.n_bytes[j]);
    const sample = Array.from({ length: counts.length / n }, (_, r) =>
      sum(own.map((v, j) => v * counts[r * n + j]))
        / sum(sizes.map((v, j) => v * counts[r * n + j])));
    return [sum(own) / sum(sizes), quantile(sample, 0.025), quantile(sample, 0.975)];
  };

  // As `predict` and `score_table`: the ends are null where no interval can be given.
  const predicted = (values, kind) => Object.entries(map.scores).map(([score, told]) => {
    const clipped = cut(values), half = told.half[kind], top = score === "accuracy" ? 1 : Infinity;
    const guess = told.intercept + sum(told.weights.map((w, j) => w * clipped[j]));
    const ends = half === null ? null : [Math.max(guess - half, 0), Math.min(guess + half, top)];
    return { score, guess, ends, families: told.families[kind] };
  });

  // A file: CSV by RFC 4180, and what is wrong with it in one line.
  const parse = (text) => {
    const found = [[""]];
    let quoted = false;
    for (let i = 0; i < text.length; i++) {
      const c = text[i], row = found[found.length - 1];
      if (quoted && c === '"' && text[i + 1] === '"') row[row.length - 1] += text[i++];
      else if (c === '"') quoted = !quoted;
      else if (quoted || !",\r\n".includes(c)) row[row.length - 1] += c;
      else if (c === ",") row.push("");
      else if (c === "\n") found.push([""]);
    }
    return found.filter((row) => row.length > 1 || row[0]);
  };
  const some = (names) => names.slice(0, 3).join(", ")
    + (names.length > 3 ? ` and ${names.length - 3} more` : "");
  const read = async (files) => {
    const found = {};
    for (const file of files) {
      if (file.size > MOST)
        throw Error(`${file.name} has more than 16 MB; score the map's texts alone`);
      const table = parse((await file.text()).replace(/^\uFEFF/, ""));
      const head = table[0] || [];
      if (head[0] !== "model" || table.length < 2)
        throw Error(`${file.name} is not a matrix.csv of "before-ft score": `
          + 'a column "model", then one per text');
      found[head.includes("n_truncated") ? "report" : "matrix"] = table;
    }
    if (!found.matrix)
      throw Error("report.csv alone has no log-likelihoods; choose matrix.csv with it");
    const head = found.matrix[0], missing = map.texts.filter((key) => !head.includes(key));
    const twice = map.texts.filter((key) => head.indexOf(key) !== head.lastIndexOf(key));
    if (missing.length === N)
      throw Error(`the file has none of the ${N} texts of this map; `
        + 'score them with "before-ft score", without --texts');
    if (missing.length)
      throw Error(`the file lacks ${missing.length} of the ${N} texts of this map `
        + `(${some(missing)}); score all of them`);
    if (twice.length)
      throw Error(`the file names a text twice (${some(twice)}); keep each once`);
    return found;
  };
  const valuesOf = ({ matrix, report }, row) => {
    const [head, name] = [matrix[0], matrix[row][0]];
    const told = report && report.find((line) => line[0] === name);
    const short = told && Number(told[report[0].indexOf("n_truncated")]);
    if (short)
      throw Error(`${name} read only the beginning of ${short} texts, and half a text is `
        + "likelier than the whole; take a model that reads longer texts");
    return Float64Array.from(map.texts, (key) => {
      const cell = (matrix[row][head.indexOf(key)] || "").trim();
      const value = cell ? Number(cell) : NaN;
      if (!Number.isFinite(value))
        throw Error(`${name} has no finite value for text ${key}; score that text again`);
      if (value > 0)
        throw Error(`${name} has ${cell} for text ${key}, `
          + "but a log-likelihood in nats is at most 0");
      return value;
    });
  };
  return { rows, points, onPlane: (values) => onPlane(cut(values)), neighbours, kinship, bits,
    predicted, read, valuesOf };
};

// The page on which a reader places a model on the saved map, from the matrix.csv of
// `before-ft score`; placement.js computes, this file shows.
document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("place");
  if (!place) return;
  const map = interactive.data("place-data");
  const { svg, number, fill } = interactive;
  const part = (name) => place.querySelector(`[data-part="${name}"]`);
  const K = map.models.length, N = map.texts.length;
  const { rows, points, ...numbers } = placement(map);
  const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
  const range = (low, high, digits) => `${number(low, digits)} to ${number(high, digits)}`;

  let placed = null, loaded = null;
  const draw = () => {
    const picture = part("map"), width = picture.clientWidth, height = Math.min(460, 0.8 * width);
    const near = placed && placed.near, zoom = near && part("zoom").checked;
    const seen = zoom ? near.map(({ i }) => points[i]) : points;
    const all = placed ? [...seen, placed.star] : seen;
    // Room for the names of the axes above and below.
    const scale = [0, 1].map((axis) => {
      const ends = all.map((point) => point[axis]), low = Math.min(...ends);
      const span = Math.max(...ends) - low || 1, room = axis ? height - 72 : width - 48;
      return (v) => (axis ? height - 36 - room * (v - low) / span : 24 + room * (v - low) / span);
    });
    const shown = points.map((point, k) => {
      const [x, y] = point.map((v, axis) => scale[axis](v));
      if (!(x > 0 && x < width && y > 0 && y < height)) return null;
      const family = map.families[map.about[k][0]];
      const options = { x, y, fill: family.colour, "font-size": 6 + 2 * family.size, class: "point" };
      return svg("text", options, family.symbol, svg("title", {}, map.models[k]));
    });
    const marks = (zoom ? [[13, -5], [-13, -9], [-13, 11]] : []).map(([right, down], rank) => {
      const [x, y] = points[near[rank].i].map((v, axis) => scale[axis](v));
      return svg("text", { x: x + right, y: y + down, class: "rank" }, String(rank + 1));
    });
    const star = placed ? [svg("text", { class: "star", x: scale[0](placed.star[0]),
      y: scale[1](placed.star[1]) }, "\u2606", svg("title", {}, placed.name))] : [];
    const axes = [svg("text", { x: 4, y: height - 10 }, "component 1 (nats) →"),
      svg("text", { x: 4, y: 12 }, "↑ component 2 (nats)")];
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.replaceChildren(...shown.filter(Boolean), ...axes, ...marks, ...star);
    picture.setAttribute("aria-label", `${K} models on the first two principal components of the map`
      + (placed ? `; the star is ${placed.name}, nearest to ${map.models[near[0].i]}` : ""));
  };
  const say = (text, wrong) => {
    part("status").textContent = text;
    part("status").classList.toggle("wrong", wrong);
    part("results").hidden = part("zoom").parentElement.hidden = !placed;
    draw();
  };
  const show = () => {
    placed = null;
    try {
      const row = Number(part("model").value), values = numbers.valuesOf(loaded, row);
      const near = numbers.neighbours(values, 12), name = loaded.matrix[row][0];
      placed = { name, near, star: numbers.onPlane(values) };
      fill(part("near"), near.slice(0, 5).map(({ i, distance, low, high, nearest }) => {
        const [family, kind] = map.about[i], digits = distance < 100 ? 2 : 0;
        return [map.models[i], [number(distance, digits), distance], [range(low, high, digits), low, high],
          [percent(nearest), nearest], family, kind];
      }));
      const first = rows[near[0].i], genres = [...new Set(map.genres)].sort();
      const bitRow = (label, places) => {
        const [value, low, high] = numbers.bits(values, places), [other] = numbers.bits(first, places);
        // The map has no more than its threshold of a text that was cut there.
        const least = places.some((j) => first[j] <= map.threshold) ? "at least " : "";
        return [label, [number(value, 2), value], [range(low, high, 2), low, high],
          [least + number(other, 2), other]];
      };
      const places = map.texts.map((_, j) => j);
      fill(part("bits"), [...genres.map((genre) => bitRow(genre, places.filter((j) =>
        map.genres[j] === genre))), bitRow("all", places)]);
      const kind = part("kind").value;
      fill(part("scores"), numbers.predicted(values, kind).map(({ score, guess, ends, families }) => {
        const none = `none can be given: the map has ${families} ${kind} `
          + `${families === 1 ? "family" : "families"} with measured scores, and `
          + `${percent(map.confidence)} needs ${map.needed}`;
        return [score.replace(/_/g, " "), [number(guess, 2), guess],
          ends ? [range(...ends, 2), ...ends] : [none]];
      }));
      const more = loaded.matrix[0].length - 1 - N;
      say(`${name} is ${numbers.kinship(near[0].low, near[0].high)}. `
        + `Nearest: ${map.models[near[0].i]}, in ${percent(near[0].nearest)} of the resamples. `
        + (more ? `${more} texts of the file are not on this map and were left out. ` : "")
        + (loaded.report ? "" : "To check that it scored every text to its end, "
          + "choose report.csv together with matrix.csv."), false);
    } catch (error) { say(`Not placed: ${error.message}.`, true); }
  };
  const load = (found) => {
    loaded = found;
    part("model").replaceChildren(...loaded.matrix.slice(1).map((row, i) => new Option(row[0], i + 1)));
    part("model").parentElement.hidden = loaded.matrix.length < 3;
    show();
  };
  const open = async (files) => {
    if (!files.length) return;
    try { load(await numbers.read(files)); } catch (error) { placed = null; say(`Not placed: ${error.message}.`, true); }
  };
  part("kind").replaceChildren(...Object.keys(map.scores.accuracy.half).map((kind) => new Option(kind)));
  part("legend").replaceChildren(...Object.entries(map.families).map(([name, { symbol, colour }]) => {
    const item = document.createElement("li"), mark = document.createElement("span");
    mark.textContent = symbol;
    mark.style.color = colour === "#000000" ? "" : colour;
    item.append(mark, ` ${name}`);
    return item;
  }));
  part("file").addEventListener("change", async (event) => {
    await open(event.target.files);
    event.target.value = "";  // so that the same file can be chosen again
  });
  part("example").addEventListener("click", () => load({ report: [], matrix: [["model", ...map.texts],
    [map.example, ...Array.from(rows[map.models.indexOf(map.example)], String)]] }));
  for (const name of ["model", "kind"]) part(name).addEventListener("change", () => loaded && show());
  part("zoom").addEventListener("change", draw);
  place.addEventListener("dragover", (event) => event.preventDefault());
  place.addEventListener("drop", (event) => { event.preventDefault(); open(event.dataTransfer.files); });
  interactive.onWidth(place, draw);
});

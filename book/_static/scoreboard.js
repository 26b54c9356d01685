// Search, filters and order of the scoreboard. The view is kept after the # of the address, as in
// scoreboard.html#part=geometry&status=undecided; a claim's id there shows that claim.
document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("scoreboard-controls");
  if (!place) return;
  const table = document.querySelector(".scoreboard table");
  const rows = [...table.tBodies[0].rows];
  const first = new Map(rows.map((row, i) => [row, i]));
  const fields = ["status", "kind", "part", "page"];
  const add = (name, control) => {
    const label = document.createElement("label");
    label.append(name + " ", control);
    place.append(label);
    control.addEventListener("input", () => { show(); keep(); });
    return control;
  };
  const search = document.createElement("input");
  search.type = "search";
  add("search", search);
  const choices = Object.fromEntries(fields.map((field) => {
    const select = document.createElement("select");
    const values = [...new Set(rows.map((row) => row.dataset[field]))].sort();
    select.append(...["", ...values].map((value) => new Option(value || "all", value)));
    return [field, add(field, select)];
  }));
  const count = document.createElement("output");
  place.append(count);
  let order = { by: "", down: false };

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row) => {
      const text = row.id + " " + row.textContent.toLowerCase();
      row.hidden = !(fields.every((f) => !choices[f].value || row.dataset[f] === choices[f].value)
        && words.every((word) => text.includes(word)));
      shown += !row.hidden;
    });
    count.textContent = `${shown} of ${rows.length} claims`;
  };
  const sort = () => {
    const heads = [...table.tHead.rows[0].cells];
    const column = heads.findIndex((head) => head.textContent === order.by);
    heads.forEach((head, i) => head.setAttribute("aria-sort",
      i !== column ? "none" : order.down ? "descending" : "ascending"));
    const key = (row) => row.cells[column].textContent.trim();
    // What was measured is in the order of its values, and what is no number comes after them.
    const value = (row) => {
      const number = parseFloat(key(row).replace(/,(?=\d)/g, ""));
      return order.by !== "ours" ? 0 : Number.isNaN(number) ? Infinity : number;
    };
    const compare = (a, b) => value(a) === value(b)
      ? key(a).localeCompare(key(b), "en", { numeric: true }) : value(a) - value(b);
    const sorted = [...rows].sort((a, b) => column < 0 ? first.get(a) - first.get(b)
      : compare(a, b) * (order.down ? -1 : 1));
    table.tBodies[0].append(...sorted);
  };
  const keep = () => {
    const state = new URLSearchParams();
    if (search.value) state.set("search", search.value);
    fields.forEach((f) => { if (choices[f].value) state.set(f, choices[f].value); });
    if (order.by) state.set("sort", (order.down ? "-" : "") + order.by);
    history.replaceState(null, "", "#" + state);
  };
  const read = () => {
    const hash = decodeURIComponent(location.hash.slice(1));
    const claim = hash && !hash.includes("=") && document.getElementById(hash);
    const state = new URLSearchParams(claim ? "" : location.hash.slice(1));
    search.value = state.get("search") || "";
    fields.forEach((f) => { choices[f].value = state.get(f) || ""; });
    const by = state.get("sort") || "";
    order = { by: by.replace(/^-/, ""), down: by.startsWith("-") };
    sort();
    show();
    if (claim) {
      claim.querySelector("details").open = true;
      claim.scrollIntoView({ block: "center" });
    }
  };
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      order = { by: head.textContent, down: order.by === head.textContent && !order.down };
      sort();
      keep();
    });
  }
  window.addEventListener("hashchange", read);
  read();
});

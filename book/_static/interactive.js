// What the interactive pages share: the numbers that a page carries, pictures, tables, numbers.
// Whatever comes from a file reaches the page as text only.
const interactive = {
  data: (id) => JSON.parse(document.getElementById(id).textContent),
  array: (text, Kind) => new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer),
  svg(tag, attributes, ...content) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...content);
    return element;
  },
  // A minus sign, as in the prose, none before zero; commas in thousands.
  number: (value, digits) => value.toLocaleString("en", { signDisplay: "negative",
    minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "\u2212"),
  // Each row is a list of cells: a text, or [text, the number behind it].
  fill(table, rows) {
    table.tBodies[0].replaceChildren(...rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((cell, i) => {
        const place = document.createElement(i ? "td" : "th");
        if (!i) place.scope = "row";
        place.textContent = Array.isArray(cell) ? cell[0] : cell;
        if (Array.isArray(cell)) place.dataset.value = cell.slice(1).join(" ");
        row.append(place);
      });
      return row;
    }));
  },
  // A picture is drawn in pixels, so that its letters keep their size on a phone.
  onWidth(element, draw) {
    let width = element.clientWidth;
    draw();
    new ResizeObserver(() => {
      if (element.clientWidth === width) return;
      width = element.clientWidth;
      requestAnimationFrame(draw);
    }).observe(element);
  },
};

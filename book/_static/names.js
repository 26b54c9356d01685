// Names of controls for readers who do not see them, where the theme gives none or another one.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("nav li > details > summary").forEach((summary) => {
    const link = summary.closest("li").querySelector("a");
    summary.setAttribute("aria-label", `Pages of ${link.textContent.trim()}`);
  });
  // What these show is their name.
  document.querySelectorAll("details.hide > summary, .search-button-field")
    .forEach((button) => button.removeAttribute("aria-label"));
  document.querySelectorAll(".theme-switch-button").forEach((button) => {
    button.setAttribute("aria-label", "Color mode: Light, Dark, System Settings");
  });
  // A long signature in the reference is a list of definitions without terms, which is none.
  document.querySelectorAll("dt.sig :is(dl, dd)").forEach((part) => { part.role = "presentation"; });
  // A box that scrolls can be scrolled by keys, and says that it scrolls (book.css).
  const mark = (box) => {
    const wide = box.scrollWidth > box.clientWidth + 1;
    box.classList.toggle("wide", wide);
    if (wide) box.tabIndex = 0;
  };
  const seen = new ResizeObserver((boxes) =>
    requestAnimationFrame(() => boxes.forEach(({ target }) => mark(target))));
  const boxes = ".output, .scoreboard, .pst-scrollable-table-container, .scroll, figure";
  document.querySelectorAll(boxes).forEach((box) => seen.observe(box));
});

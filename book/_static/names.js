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
  // A box that scrolls can be scrolled by keys.
  document.querySelectorAll(".output, .scoreboard, .pst-scrollable-table-container, figure")
    .forEach((box) => { if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0; });
});

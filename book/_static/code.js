// One switch on each page opens and folds all code; the choice is remembered.
document.addEventListener("DOMContentLoaded", () => {
  const cells = document.querySelectorAll("div.cell details.hide");
  const title = document.querySelector("article h1");
  if (!cells.length || !title) return;
  const button = document.createElement("button");
  button.className = "code-switch btn btn-sm btn-outline-secondary";
  const set = (open) => {
    cells.forEach((cell) => (cell.open = open));
    button.textContent = open ? "Fold all code" : "Show all code";
    button.setAttribute("aria-pressed", open);
    // A browser may forbid storage to pages from files.
    try { localStorage.setItem("code", open ? "open" : "folded"); } catch {}
  };
  let kept = null;
  try { kept = localStorage.getItem("code"); } catch {}
  set(kept === "open");
  button.addEventListener("click", () => set(!cells[0].open));
  const bar = document.querySelector(".article-header-buttons");
  bar ? bar.prepend(button) : title.after(button);
});

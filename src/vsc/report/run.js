"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const button of table.querySelectorAll("thead button")) {
    button.disabled = false;
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      const words = heading.classList.contains("words");
      const now = heading.getAttribute("aria-sort");
      const next = now === "ascending" ? "descending" : now === "descending" ? "ascending" : words ? "ascending" : "descending";
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const value = (row) => row.cells[heading.cellIndex].dataset.value;
      const compare = words
        ? (a, b) => value(a).localeCompare(value(b), undefined, { numeric: true })
        : (a, b) => parseFloat(value(a)) - parseFloat(value(b));
      body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
    });
  }
}
const pick = document.getElementById("pick");
if (pick) {
  pick.closest("p").hidden = false;
  pick.addEventListener("change", () => {
    let shown = 0;
    for (const row of document.querySelectorAll("tr[data-card]")) {
      row.hidden = pick.value !== "" && row.dataset.group !== pick.value;
      document.getElementById(row.dataset.card).hidden = row.hidden;
      shown += row.hidden ? 0 : 1;
    }
    document.getElementById("picked").textContent = shown + " shown";
  });
}
window.addEventListener("hashchange", () => {
  const card = document.getElementById(location.hash.slice(1));
  if (card && card.hidden) {
    card.hidden = false;
    card.scrollIntoView();
  }
});

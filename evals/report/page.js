"use strict";

// Every header becomes a button that sorts by its column; what is undefined stays last.
const key = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.sort === undefined ? cell.textContent.trim() : cell.dataset.sort;
};

const compare = (a, b, numeric) =>
  numeric ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true, sensitivity: "base" });

const sortBy = (table, header, column) => {
  const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  const rows = Array.from(table.tBodies[0].rows, (row) => ({ row, key: key(row, column) }));
  const defined = rows.filter((each) => each.key !== "");
  const undefinedRows = rows.filter((each) => each.key === "");
  const numeric = header.classList.contains("n");
  const sign = direction === "ascending" ? 1 : -1;
  defined.sort((a, b) => sign * compare(a.key, b.key, numeric));
  table.tBodies[0].append(...[...defined, ...undefinedRows].map((each) => each.row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
};

for (const table of document.querySelectorAll("table.sortable")) {
  Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.title = "Sort by this column";
    header.replaceChildren(button);
    button.addEventListener("click", () => sortBy(table, header, column));
  });
}

// The filter hides rows of tables, and lanes of plots, whose model or source of items lacks the text.
const fields = { model: document.getElementById("filter-model"), source: document.getElementById("filter-source") };
const count = document.getElementById("filter-count");

const filter = () => {
  const wanted = Object.entries(fields)
    .map(([name, field]) => [name, field.value.trim().toLowerCase()])
    .filter(([, text]) => text !== "");
  let shown = 0;
  let all = 0;
  for (const row of document.querySelectorAll("[data-model]")) {
    const hidden = wanted.some(([name, text]) => !(row.dataset[name] ?? "").toLowerCase().includes(text));
    row.hidden = hidden;
    if (row.tagName !== "TR") continue;
    all += 1;
    if (!hidden) shown += 1;
  }
  count.textContent = wanted.length ? `${shown} of ${all} rows` : "";
};

for (const field of Object.values(fields)) field.addEventListener("input", filter);
document.querySelector(".filter").hidden = false;

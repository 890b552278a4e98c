"use strict";
(() => {
  const number = (text) => {
    const found = text.replace(/[,\s]/g, "").replace("−", "-").match(/^[<>±]?([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)/i);
    return found ? Number(found[1]) : NaN;
  };
  const keyOf = (cell) => {
    const given = cell.dataset.v ?? cell.textContent.trim();
    const value = number(given);
    return { value, text: cell.textContent.trim() };
  };
  // Numbers before texts, what is empty last in either direction; rows that tie stay as they are.
  const compare = (a, b, turned) => {
    if (!a.text || !b.text) return (a.text ? 0 : 1) - (b.text ? 0 : 1);
    const known = !Number.isNaN(a.value), other = !Number.isNaN(b.value);
    if (known !== other) return known ? -1 : 1;
    const order = known ? a.value - b.value : a.text.localeCompare(b.text, "en", { numeric: true });
    return turned ? -order : order;
  };
  for (const table of document.querySelectorAll("table.sort")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const turned = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", turned ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
        rows.sort(([a], [b]) => compare(a, b, turned));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // A link into something folded opens it.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    let opened = false;
    for (let at = target; at; at = at.parentElement) {
      if (at.localName === "details" && !at.open) opened = at.open = true;
    }
    if (opened) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();

  // On paper nothing can be unfolded: results are opened, fingerprints stay away.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details.result:not([open]), details.plan:not([open])")];
    for (const details of folded) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
  });
})();

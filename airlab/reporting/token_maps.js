"use strict";
// Shows a token's numbers where the pointer, the focus or a finger is. Marks come in the tokens' order, and each
// says in data-v: loss_base, loss_ref, and for each of its tokens the position that the head attends to, or -.
(() => {
  if (!document.querySelector(".tm-t")) return;
  const box = document.createElement("div");
  box.className = "tm-box";
  box.setAttribute("role", "status");
  box.hidden = true;
  document.body.append(box);
  const known = new WeakMap();
  const longest = 60, most = 4;
  let lit = [], shown = null, pinned = false;

  const read = (text) => {
    if (!known.has(text)) {
      const marks = [...text.querySelectorAll("[data-v]")], first = [], holder = [];
      for (const mark of marks) {
        first.push(holder.length);
        for (const _ of mark.dataset.v.split(" ")[2].split(",")) holder.push(mark);
      }
      known.set(text, { marks, first, holder });
    }
    return known.get(text);
  };
  const visible = (mark) => {
    const signs = [...mark.textContent.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "·")];
    return signs.length > longest ? signs.slice(0, longest).join("") + "…" : signs.join("") || "∅";
  };
  const line = (...parts) => {
    const row = document.createElement("div");
    for (const [kind, text] of parts) {
      const part = document.createElement(kind);
      part.textContent = text;
      row.append(part);
    }
    box.append(row);
  };
  const hide = () => {
    for (const mark of lit) mark.classList.remove("tm-on", "tm-at");
    lit = [];
    shown = null;
    pinned = false;
    box.hidden = true;
    box.replaceChildren();
  };
  const place = () => {
    if (!shown) return;
    const at = shown.getClientRects()[0] || shown.getBoundingClientRect();
    box.classList.toggle("tm-up", at.top > innerHeight / 2);
    const below = at.bottom + 6 + box.offsetHeight <= innerHeight;
    box.style.top = (below ? at.bottom + 6 : Math.max(4, at.top - 6 - box.offsetHeight)) + "px";
    box.style.left = Math.max(4, Math.min(at.left, innerWidth - box.offsetWidth - 8)) + "px";
  };
  const show = (mark) => {
    hide();
    const text = mark.closest(".tm-t"), { marks, first, holder } = read(text);
    const [base, reference, list] = mark.dataset.v.split(" "), at = list.split(","), from = first[marks.indexOf(mark)];
    shown = mark;
    lit.push(mark);
    mark.classList.add("tm-on");
    const many = at.length > 1;
    const which = many ? `tokens ${from} to ${from + at.length - 1}, ${at.length} for one character ` : `token ${from} `;
    line(["span", which], ["bdi", visible(mark)]);
    const part = mark.closest("[data-part]");
    if (part) line(["span", part.dataset.part]);
    if (at.every((position) => position === "-")) {
      line(["span", "the first token: nothing predicts it"]);
    } else {
      const gain = Number(reference) - Number(base);
      line(["span", `${many ? "sums: " : ""}loss_base ${Number(base).toFixed(3)}, loss_ref ${Number(reference).toFixed(3)} nats`]);
      line(["span", `influence ${gain < 0 ? "−" : "+"}${Math.abs(gain).toFixed(3)} nats`]);
    }
    const looks = `${text.dataset.head} attends to`;
    if (many) line(["span", `${looks}:`]);
    at.forEach((position, number) => {
      const target = holder[position];
      if (!target) return;
      lit.push(target);
      target.classList.add("tm-at");
      const before = many ? `from token ${from + number}:` : looks;
      if (number < most) line(["span", `${before} token ${position} `], ["bdi", visible(target)]);
    });
    if (at.length > most) line(["span", `and ${at.length - most} more of its tokens, to the dashed marks`]);
    box.hidden = false;
    place();
  };
  const markOf = (event) => event.target.closest && event.target.closest(".tm-t [data-v]");

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    const mark = markOf(event);
    if (mark) show(mark);
    else if (!pinned) hide();
  });
  document.addEventListener("click", (event) => {
    const mark = markOf(event);
    if (!mark) return hide();
    show(mark);
    pinned = true;
  });
  document.addEventListener("focusin", (event) => {
    if (event.target.matches(".tm-t:focus-visible") && !shown) {
      show(read(event.target).marks[0]);
      pinned = true;
    }
  });
  document.addEventListener("focusout", (event) => {
    if (event.target.matches(".tm-t")) hide();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    const text = event.target.matches && event.target.matches(".tm-t") ? event.target : null;
    if (!text || event.ctrlKey || event.metaKey || event.altKey) return;
    const { marks } = read(text), at = marks.indexOf(shown), last = marks.length - 1;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const mark = marks[Math.max(0, Math.min(last, to))];
    show(mark);
    pinned = true;
    mark.scrollIntoView({ block: "nearest" });
    place();
  });
  addEventListener("scroll", place, { passive: true });
  addEventListener("resize", place);
})();

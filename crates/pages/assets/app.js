// @ts-check
// All of Gangline's script. Every page works without it; it only makes drawn pages livelier. Text from
// the network goes into textContent and attributes, never into markup.

/** @param {string} s @param {ParentNode} [from] @returns {HTMLElement[]} */
const all = (s, from = document) => /** @type {HTMLElement[]} */ ([...from.querySelectorAll(s)]);
/** @param {Element | null | undefined} el @param {string} text */
const write = (el, text) => { if (el && el.textContent !== text) el.textContent = text; };
/** @param {number} n */
const figure = n => n.toLocaleString("en-US");

// ---- live numbers: one stream, only where a page shows any, closed while nobody looks ----
const STANDINGS = new Set(["unproven", "proven", "suspect", "quarantined", "retired"]);
const badge = document.querySelector(".live");
const connection = document.querySelector("[data-conn]");
/** @type {EventSource | undefined} */
let stream;

/** @param {boolean} on @param {string} text */
function tell(on, text) {
  badge?.classList.toggle("on", on);
  write(connection, text);
}
/** @param {MessageEvent} e */
function totals(e) {
  const now = JSON.parse(e.data);
  for (const el of all("[data-live]")) {
    const value = now[el.dataset.live ?? ""];
    if (Number.isSafeInteger(value)) write(el, figure(value));
  }
  const time = document.querySelector("[data-as-of] time");
  if (time && Number.isSafeInteger(now.as_of)) {
    const iso = new Date(now.as_of * 1000).toISOString();
    time.setAttribute("datetime", iso);
    write(time, `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`);
  }
}
/** @param {MessageEvent} e */
function gpu(e) {
  const now = JSON.parse(e.data);
  for (const row of all(`[data-gpu="${CSS.escape(String(now.id))}"]`)) {
    const pill = row.querySelector("[data-standing]");
    if (pill && STANDINGS.has(now.standing)) {
      pill.setAttribute("data-state", now.standing);
      write(pill, now.standing);
    }
    const link = row.querySelector("[data-link]");
    if (!now.connected) write(link, "away");
    else if (link?.textContent === "away") write(link, "connected");
  }
}
function follow() {
  if (document.hidden) {
    stream?.close();
    stream = undefined;
    tell(false, "paused");
  } else if (!stream) {
    stream = new EventSource("/events");
    stream.onopen = () => tell(true, "live");
    stream.onerror = () => tell(false, "reconnecting");
    stream.addEventListener("totals", totals);
    stream.addEventListener("gpu", gpu);
  }
}
if (document.querySelector("[data-live], [data-gpu]")) {
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", () => { stream?.close(); stream = undefined; });
  addEventListener("pageshow", follow);
}

// ---- charts: the server draws them; this reads values off them ----
for (const chart of all(".chart[data-points]")) {
  const svg = chart.querySelector("svg");
  const points = (chart.dataset.points ?? "").split(",").map(p => p.split(":").map(Number));
  if (!svg || !points.length) continue;
  const span = Number(chart.dataset.span), top = Number(chart.dataset.top);
  const cross = document.createElementNS("http://www.w3.org/2000/svg", "path");
  cross.setAttribute("class", "cross");
  svg.append(cross);
  const tip = document.createElement("output");
  tip.className = "tip";
  tip.hidden = true;
  chart.append(tip);
  chart.tabIndex = 0;
  chart.setAttribute("role", "group");
  chart.setAttribute("aria-label", "Chart: left and right arrow keys read its values");
  let at = points.length - 1;
  /** @param {number} i */
  const show = i => {
    at = Math.max(0, Math.min(points.length - 1, i));
    const [ago, value] = points[at], part = 1 - ago / span, y = 180 * (1 - value / top);
    cross.setAttribute("d", `M${720 * part} 0V180M0 ${y}H720`);
    tip.hidden = false;
    const hours = Math.floor(ago / 60), minutes = ago % 60;
    tip.textContent = `${figure(value)} · ${ago ? `${hours ? `${hours} h ` : ""}${minutes} min ago` : "now"}`;
    const box = svg.getBoundingClientRect(), left = box.left - chart.getBoundingClientRect().left;
    tip.style.left = `${Math.min(left + part * box.width + 8, chart.clientWidth - tip.offsetWidth)}px`;
  };
  const hide = () => { tip.hidden = true; cross.removeAttribute("d"); };
  chart.addEventListener("pointermove", e => {
    const box = svg.getBoundingClientRect(), ago = span * (1 - (e.clientX - box.left) / box.width);
    let best = 0;
    points.forEach((p, i) => { if (Math.abs(p[0] - ago) < Math.abs(points[best][0] - ago)) best = i; });
    show(best);
  });
  chart.addEventListener("pointerleave", hide);
  chart.addEventListener("blur", hide);
  chart.addEventListener("keydown", e => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (e.key === "Escape") hide();
    else if (step) { e.preventDefault(); show(tip.hidden ? at : at + step); }
  });
}

// ---- heat maps wider than their place show their newest days ----
for (const map of all(".scroll:has(> .heat)")) map.scrollLeft = map.scrollWidth;

// ---- tables that sort by a press on their heads ----
for (const table of /** @type {HTMLTableElement[]} */ (all("table[data-sortable]"))) {
  const heads = [...table.tHead?.rows[0].cells ?? []], body = table.tBodies[0];
  heads.forEach((head, column) => {
    if (head.hasAttribute("data-plain")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const h of heads) h.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      const key = (/** @type {HTMLTableRowElement} */ row) => {
        const cell = row.cells[column];
        return cell.dataset.v === undefined ? cell.textContent ?? "" : Number(cell.dataset.v);
      };
      const order = (/** @type {string | number} */ a, /** @type {string | number} */ b) =>
        typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en");
      body.append(...[...body.rows].sort((a, b) => way * order(key(a), key(b))));
    });
  });
}

// ---- copy, confirm, and "/" for the search box ----
const dialog = /** @type {HTMLDialogElement | null} */ (document.getElementById("confirm"));
document.addEventListener("click", e => {
  const target = /** @type {Element} */ (e.target);
  const copy = target.closest("[data-copy]");
  if (copy instanceof HTMLElement) {
    const words = copy.textContent ?? "";
    navigator.clipboard?.writeText(copy.dataset.copy ?? "").then(
      () => { copy.textContent = "Copied"; setTimeout(() => { copy.textContent = words; }, 1200); }, () => {});
  }
  const button = target.closest("button[data-confirm]");
  if (button instanceof HTMLButtonElement && dialog) {
    e.preventDefault();
    write(dialog.querySelector("[data-message]"), button.dataset.confirm ?? "");
    write(dialog.querySelector("[data-yes]"), button.textContent ?? "Yes");
    dialog.returnValue = "no";
    dialog.onclose = () => { if (dialog.returnValue === "yes") button.form?.requestSubmit(button); };
    dialog.showModal();
  }
});
addEventListener("keydown", e => {
  const typing = e.target instanceof Element && e.target.matches("input, textarea, select");
  if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey && !e.altKey) {
    e.preventDefault();
    document.getElementById("find")?.focus();
  }
});

// ---- passkeys: the one thing that needs a script. The answer travels in a form like any other ----
for (const form of /** @type {HTMLFormElement[]} */ (all("form[data-passkey]"))) {
  const words = form.parentElement?.querySelector("[data-passkey-words]");
  const at = form.dataset.at ?? "", pass = /** @type {any} */ (window.PublicKeyCredential);
  if (location.origin !== at) {
    write(words, `Passkeys are for a name: open ${at} to use them.`);
    continue;
  }
  if (!pass?.parseRequestOptionsFromJSON) {
    write(words, "This browser has no passkeys; a one-time link works.");
    continue;
  }
  form.hidden = false;
  write(words, "");
  form.addEventListener("submit", async e => {
    const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("credential"));
    if (field.value) return;
    e.preventDefault();
    try {
      const fields = new URLSearchParams();
      for (const [name, value] of new FormData(form)) fields.append(name, String(value));
      const asked = await fetch(form.dataset.ask ?? "", { method: "POST", body: fields });
      if (!asked.ok) throw new Error(`the server answered ${asked.status}`);
      const told = await asked.json();
      const made = form.dataset.passkey === "new"
        ? await navigator.credentials.create({ publicKey: pass.parseCreationOptionsFromJSON(told) })
        : await navigator.credentials.get({ publicKey: pass.parseRequestOptionsFromJSON(told) });
      field.value = JSON.stringify(made);
      form.submit();
    } catch (why) {
      field.value = "";
      write(words, `That did not work: ${why instanceof Error ? why.message : why}`);
    }
  });
}

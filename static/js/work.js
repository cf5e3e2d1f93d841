/* What the pages do between requests: focus after a swap, the marked phrase, time spent, the lease, a lost connection. */
(() => {
  "use strict";

  const { ROW, rows, current, makeCurrent, visible, enabled, spent } = window.qx;
  const words = document.getElementById("words").dataset;

  /* --- focus after a swap: a message or field that asks for it, else the next row to do ------------------------- */

  function goOn(row) {
    const all = rows();
    const at = all.indexOf(row);
    const next = [...all.slice(at + 1), ...all.slice(0, at)].find((other) => other.matches("[data-todo]:not([data-saving])"));
    if (next) return makeCurrent(next);
    const ends = [...document.querySelectorAll(".pane [data-after-last]"), ...document.querySelectorAll("[data-after-last]")];
    const after = ends.find((element) => visible(element) && enabled(element));
    makeCurrent(row, { focus: !after });
    after?.focus();
  }

  function settle(element) {
    const wanted = element.matches("[data-focus]") ? element : element.querySelector("[data-focus]");
    if (wanted) {
      wanted.removeAttribute("data-focus");
      const row = wanted.closest(ROW);
      if (row) makeCurrent(row, { focus: row === wanted });
      if (row !== wanted) wanted.focus();
    } else if (element.matches("[data-done]")) {
      element.removeAttribute("data-done");
      if (!current()) goOn(element);
    } else if (element.matches("#queries, #results-part, #reports")) {
      const next = rows().find((row) => row.hasAttribute("data-todo")) ?? rows()[0];
      if (next) makeCurrent(next);
    }
  }

  /* A decision or verdict is on its way: the next row is current at once, so that no key is lost while it is saved.
     The answers come in the order of the presses (hx-sync on the list); a refusal brings the cursor back to its row. */
  document.addEventListener("submit", (event) => {
    const row = event.target.closest(ROW);
    if (!row?.matches("[data-todo]:not([data-saving])") || !event.target.hasAttribute("hx-post")) return;
    row.dataset.saving = "";
    event.submitter?.setAttribute("aria-busy", "true");
    goOn(row);
  });

  /* Leaving the page waits until everything that was pressed is saved; closing the tab asks first. */
  const isSaving = () => document.querySelector("[data-saving]") !== null;
  function afterSaving(act) {
    if (isSaving()) window.setTimeout(afterSaving, 50, act);
    else act();
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]:not([hx-get], [target])");
    if (!link || !isSaving() || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    afterSaving(() => link.click());
  }, true);
  document.addEventListener("submit", (event) => {
    if (event.target.hasAttribute("hx-post") || event.target.hasAttribute("hx-get") || !isSaving()) return;
    event.preventDefault();
    const { target, submitter } = event;
    afterSaving(() => target.requestSubmit(submitter ?? undefined));
  }, true);
  window.addEventListener("beforeunload", (event) => isSaving() && event.preventDefault());

  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target.closest?.("body")) settle(event.target);
    if (event.target.id === "report-text") showPhrase();
  });
  document.querySelectorAll("[data-focus]").forEach((element) => {
    element.removeAttribute("data-focus");
    element.focus();
  });

  /* --- sheets ---------------------------------------------------------------------------------------------------- */

  const sheet = document.getElementById("sheet");
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === sheet && !sheet.open) {
      document.querySelectorAll("details.menu[open]").forEach((menu) => menu.removeAttribute("open"));
      sheet.showModal();
      settle(sheet);
    }
  });
  sheet?.addEventListener("click", (event) => {
    if (event.target === sheet || event.target.closest("[data-close-sheet]")) {
      event.preventDefault();
      sheet.close();
    }
  });
  document.addEventListener("click", (event) => {
    const menu = document.querySelector("details.menu[open]");
    if (menu && !menu.contains(event.target)) menu.removeAttribute("open");
  });

  /* --- the details of the current result ------------------------------------------------------------------------- */

  let resting = 0;
  function showDetail(row) {
    window.clearTimeout(resting);
    const detail = document.getElementById("detail");
    if (!row.dataset.detail || !detail || detail.dataset.of === row.id) return;
    resting = window.setTimeout(() => {
      detail.dataset.of = row.id;
      window.htmx.ajax("GET", row.dataset.detail, { target: "#detail", swap: "innerHTML" });
    }, 150);
  }
  /* The phrase of the current query is marked in the reported text. */
  function showPhrase() {
    const id = current()?.id;
    document.querySelectorAll("#report-text .phrase").forEach((phrase) => {
      phrase.toggleAttribute("data-current", Boolean(id) && phrase.dataset.for === id);
    });
  }
  document.addEventListener("qx:current", (event) => {
    showDetail(event.detail);
    showPhrase();
  });

  /* --- the marked phrase: its place in code points of the text as it is stored ------------------------------------ */

  const points = (text) => [...text].length;
  let marking = 0;
  let shown = "";

  function placeOf(text, range) {
    const before = document.createRange();
    before.selectNodeContents(text);
    before.setEnd(range.startContainer, range.startOffset);
    const start = points(before.toString());
    return [start, start + points(range.toString())];
  }

  function mark() {
    const text = document.querySelector("#report-text .item-text");
    const selection = document.getSelection();
    const place = document.getElementById("selection");
    if (!text || !place?.dataset.url || !selection.rangeCount || selection.isCollapsed) return;
    const range = selection.getRangeAt(0);
    if (!text.contains(range.startContainer) || !text.contains(range.endContainer)) return;
    const [start, end] = placeOf(text, range);
    if (shown === `${start}-${end}` && place.childElementCount) return;
    shown = `${start}-${end}`;
    window.htmx.ajax("GET", `${place.dataset.url}?start=${start}&end=${end}`, { target: "#selection", swap: "outerHTML" });
  }

  document.addEventListener("selectionchange", () => {
    window.clearTimeout(marking);
    marking = window.setTimeout(mark, 300);
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-clear-selection]")) return;
    event.preventDefault();
    document.getSelection().removeAllRanges();
    document.getElementById("selection").replaceChildren();
    shown = "";
    current()?.focus({ preventScroll: true });
  });

  /* --- time spent, busy buttons, work that renews the lease -------------------------------------------------------- */

  document.addEventListener("htmx:configRequest", (event) => {
    const row = event.detail.elt.closest(ROW);
    if (row && event.detail.verb === "post") event.detail.parameters.duration_ms = Math.round(spent(row));
  });
  const submitterOf = (detail) => detail.requestConfig?.triggeringEvent?.submitter;
  document.addEventListener("htmx:beforeRequest", (event) => submitterOf(event.detail)?.setAttribute("aria-busy", "true"));

  let worked = Date.now();
  for (const kind of ["keydown", "pointerdown", "wheel"]) {
    document.addEventListener(kind, () => {
      if (Date.now() - worked < 60_000) return;
      worked = Date.now();
      window.htmx.trigger(document.body, "qx:active");
    }, { passive: true });
  }

  /* --- a lost connection: what was pressed is kept and sent again with the same key, so it counts once ------------- */

  const kept = new Map();
  const notice = document.getElementById("offline");

  function tell(sentence, style) {
    const box = document.createElement("div");
    box.className = `notice ${style}`;
    box.setAttribute("role", "alert");
    box.append(Object.assign(document.createElement("p"), { textContent: sentence }));
    notice?.replaceChildren(box);
  }

  function keep(event) {
    const { elt, requestConfig } = event.detail;
    if (requestConfig?.verb !== "post" || !elt.matches("form")) return;
    const submitter = submitterOf(event.detail);
    kept.set(elt, submitter);
    tell(words.offline, "");
  }

  function sendAgain() {
    for (const [form, submitter] of kept) {
      kept.delete(form);
      if (form.isConnected) form.requestSubmit(submitter ?? undefined);
    }
  }

  document.addEventListener("htmx:sendError", keep);
  document.addEventListener("htmx:responseError", (event) => {
    const { status } = event.detail.xhr;
    submitterOf(event.detail)?.removeAttribute("aria-busy");
    event.detail.elt.closest(ROW)?.removeAttribute("data-saving");
    if (status >= 502 && status <= 504) return keep(event);
    if (event.detail.requestConfig?.verb === "post") tell(status < 500 ? words.refused : words.failed, "notice--error");
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful && !kept.size) notice?.replaceChildren();
  });
  window.setInterval(() => kept.size && sendAgain(), 5_000);
  window.addEventListener("online", sendAgain);

  /* An undo whose row is on another page: send its form as a browser does. */
  document.addEventListener("htmx:targetError", (event) => event.detail.elt?.matches("form") && event.detail.elt.submit());

  const start = current();
  if (start) showDetail(start);
  showPhrase();
})();

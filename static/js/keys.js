/* Keys. This file owns J K ? Esc Enter and the arrows; every other key presses a control that is on the page, which
   declares it in aria-keyshortcuts. Rows are .query, .result and tr.row; the current one has aria-current="true". */
(() => {
  "use strict";

  const ROW = ".query, .result, tr.row";
  const FIELD = "input:not([type=hidden]), textarea, select, [contenteditable=true]";
  const since = new WeakMap();

  const visible = (element) => (element.checkVisibility ? element.checkVisibility() : element.offsetParent !== null);
  const enabled = (element) => !element.disabled && element.getAttribute("aria-disabled") !== "true";
  const rows = () => [...document.querySelectorAll(ROW)].filter(visible);
  const current = () => document.querySelector(`:is(${ROW})[aria-current="true"]`);

  function makeCurrent(row, { focus = true } = {}) {
    const before = current();
    if (before !== row) {
      before?.removeAttribute("aria-current");
      row.setAttribute("aria-current", "true");
    }
    if (!since.has(row)) since.set(row, performance.now());
    if (focus) {
      row.focus({ preventScroll: true });
      row.scrollIntoView({ block: "nearest" });
    }
    document.dispatchEvent(new CustomEvent("qx:current", { detail: row }));
  }

  function step(by) {
    const all = rows();
    if (!all.length) return false;
    const at = all.indexOf(current());
    makeCurrent(all[at < 0 ? 0 : Math.min(all.length - 1, Math.max(0, at + by))]);
    return true;
  }

  function declares(element, key) {
    return element.getAttribute("aria-keyshortcuts").toLowerCase().split(/\s+/).includes(key);
  }

  function controlFor(key) {
    const row = current();
    const all = [...document.querySelectorAll("[aria-keyshortcuts]")].filter(
      (element) => declares(element, key) && visible(element) && enabled(element),
    );
    return all.find((element) => row?.contains(element)) ?? all.find((element) => !element.closest(ROW));
  }

  function press(control) {
    if (control.matches("input[type=text], input[type=search], textarea, select")) {
      control.focus();
      control.select?.();
    } else {
      control.click();
    }
  }

  function openRow() {
    const link = current()?.querySelector("a.row__open");
    link?.click();
    return Boolean(link);
  }

  /* Esc leaves the innermost thing: an edit or a marked phrase by its own control, a field, an open menu. */
  function escape(target) {
    const own = target.closest("form")?.querySelector('[aria-keyshortcuts="Escape"]') ?? controlFor("escape");
    if (own) {
      own.click();
    } else if (target.matches(FIELD)) {
      target.blur();
      current()?.focus({ preventScroll: true });
    } else {
      document.querySelectorAll("details.menu[open]").forEach((menu) => menu.removeAttribute("open"));
    }
  }

  function pressed(event, key) {
    if (key === "escape") return escape(event.target), false;
    if (event.target.closest(FIELD)) return false;
    if (key === "arrowdown" || key === "arrowup") return step(key === "arrowdown" ? 1 : -1);
    if (key === "enter") return (event.target === document.body || event.target.matches(ROW)) && openRow();
    if (document.documentElement.dataset.keys === "off") return false;
    if (key === "j" || key === "k") return step(key === "j" ? 1 : -1);
    const control = key === "?" ? document.getElementById("keys-link") : controlFor(key);
    if (!control) return false;
    press(control);
    return true;
  }

  document.addEventListener("keydown", (event) => {
    const isOff = event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.defaultPrevented;
    if (isOff || document.querySelector("dialog[open]")) return;
    const key = event.key.normalize("NFKC").toLowerCase();
    if (event.repeat && !key.startsWith("arrow") && key !== "j" && key !== "k") return;
    if (pressed(event, key)) event.preventDefault();
  });

  document.addEventListener("focusin", (event) => {
    const row = event.target.closest(ROW);
    if (row && row !== current()) makeCurrent(row, { focus: false });
  });
  document.addEventListener("pointerdown", (event) => {
    const row = event.target.closest?.(ROW);
    if (row && row !== current()) makeCurrent(row, { focus: false });
  });

  const first = current();
  if (first) since.set(first, performance.now());

  window.qx = { ROW, rows, current, makeCurrent, visible, enabled, spent: (row) => performance.now() - (since.get(row) ?? performance.now()) };
})();

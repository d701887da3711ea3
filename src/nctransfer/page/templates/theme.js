/* Light or dark: as the system has it, until the button says otherwise. In print it is light, and all is unfolded. */

const themeListeners = [];

function themeChanged() {
  known = {};
  for (const listener of themeListeners) listener();
}

function startTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => toggle.replaceChildren(isDark() ? "Light" : "Dark");
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
    themeChanged();
  });
  system.addEventListener("change", () => {
    label();
    themeChanged();
  });
  label();
}

function startPrinting() {
  const root = document.documentElement;
  let before;
  let closed = [];
  window.addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    closed = [...document.querySelectorAll("details:not([open], [data-screen])")];
    for (const details of closed) details.open = true;
    isPrinting = true;
    themeChanged();
  });
  window.addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before;
    else delete root.dataset.theme;
    for (const details of closed) details.open = false;
    isPrinting = false;
    themeChanged();
  });
}

// @ts-check
/** The switch between light and dark. theme.js sets what was chosen before the page is drawn. */

const KEY = "vladkit.theme";
const ORDER = /** @type {const} */ (["system", "light", "dark"]);
const LABELS = { system: "as the system", light: "light", dark: "dark" };

/** @returns {"system" | "light" | "dark"} */
function chosen() {
  const theme = document.documentElement.dataset.theme;
  return theme === "light" || theme === "dark" ? theme : "system";
}

/** @param {"system" | "light" | "dark"} theme */
function choose(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // storage is forbidden: it holds until the page is left
  }
}

/**
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} label
 */
export function themeSwitch(button, label) {
  const show = () => {
    label.textContent = `Colours: ${LABELS[chosen()]}`;
    button.title = label.textContent;
  };
  button.addEventListener("click", () => {
    choose(ORDER[(ORDER.indexOf(chosen()) + 1) % ORDER.length]);
    show();
  });
  show();
}

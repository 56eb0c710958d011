// @ts-check
// The colours that were chosen before. Not a module: it runs before anything is drawn.
(() => {
  let kept = null;
  try {
    kept = localStorage.getItem("vladkit.theme");
  } catch {
    // storage is forbidden: the system's colours
  }
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();

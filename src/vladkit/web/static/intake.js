// @ts-check
/** Images come in: dropped anywhere, pasted, or chosen by a button. */

/**
 * @param {object} parts
 * @param {HTMLElement} parts.cover shown while something is dragged over the page
 * @param {HTMLInputElement} parts.input of type file
 * @param {Iterable<HTMLElement>} parts.buttons
 * @param {(files: File[]) => void} parts.onFiles one or more
 * @param {(text: string) => void} parts.onTrouble
 */
export function takeIn({ cover, input, buttons, onFiles, onTrouble }) {
  /** @param {FileList | null | undefined} files */
  const take = (files) => {
    if (!files?.length) return false;
    onFiles([...files]);
    return true;
  };

  for (const button of buttons) button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take(input.files);
    input.value = ""; // the same file can be chosen again
  });

  let depth = 0; // dragenter and dragleave come for every element on the way
  const leave = () => {
    depth = 0;
    cover.hidden = true;
  };
  /** @param {DragEvent} event */
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;
  document.addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth += 1;
    cover.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!hasFiles(event)) return;
    depth -= 1;
    if (depth <= 0) leave();
  });
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    if (event.dataTransfer) event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("drop", (event) => {
    const files = hasFiles(event);
    leave();
    if (!files && !event.dataTransfer?.types.includes("text/uri-list")) return;
    event.preventDefault(); // the browser would open it and leave the page
    const own = event.dataTransfer?.getData("text/uri-list").startsWith(location.origin);
    if (!take(event.dataTransfer?.files) && !own) {
      onTrouble("This is not a file. Save the image first, or copy and paste it.");
    }
  });
  document.addEventListener("paste", (event) => {
    const { target, clipboardData: held } = event;
    const writing = target instanceof Element && target.matches("[type=text], [type=search]");
    if (writing && held?.types.includes("text/plain")) return; // cells of a table are an image, too
    if (take(held?.files)) event.preventDefault();
    else if (!writing) onTrouble("There is no image on the clipboard. Copy one first.");
  });
}

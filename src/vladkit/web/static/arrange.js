// @ts-check
/** Where two pictures lie beside or above each other in a given room. Numbers only, no elements. */

/** @typedef {{width: number, height: number}} Size */
/** @typedef {{x: number, y: number, width: number, height: number, scale: number}} Place px of the stage; `scale` is px of the stage for one of the picture */
/** @typedef {{width: number, height: number, query: Place, match: Place, stacked: boolean}} Arrangement */

const GAP = 16;
const NARROW = 720; // px; below, two pictures beside each other are too small
const TALL = 1.5; // narrow stages may be so many times as high as wide: one scrolls there anyway

/**
 * The arrangement that shows more, pictures at one height beside each other or at one width stacked.
 *
 * @param {Size} query px of the picture
 * @param {Size} match
 * @param {Size} room px of the screen
 * @returns {Arrangement}
 */
export function arrange(query, match, room) {
  const q = query.width / query.height;
  const m = match.width / match.height;
  const narrow = room.width < NARROW;
  const most = narrow ? Math.max(room.height, TALL * room.width) : room.height;

  const height = Math.max(1, Math.min(most, (room.width - GAP) / (q + m)));
  const width = Math.max(1, Math.min(room.width, (most - GAP) / (1 / q + 1 / m)));
  const area = height * height * (q + m);
  const stackedArea = width * width * (1 / q + 1 / m);
  if (stackedArea <= area * (narrow ? 1 : 1.2)) {
    return {
      width: height * (q + m) + GAP,
      height,
      query: { x: 0, y: 0, width: height * q, height, scale: height / query.height },
      match: { x: height * q + GAP, y: 0, width: height * m, height, scale: height / match.height },
      stacked: false,
    };
  }
  const below = width / q + GAP;
  return {
    width,
    height: below + width / m,
    query: { x: 0, y: 0, width, height: width / q, scale: width / query.width },
    match: { x: 0, y: below, width, height: width / m, scale: width / match.width },
    stacked: true,
  };
}

/**
 * Where a point of a picture lies on the stage.
 *
 * @param {Place} place
 * @param {number} x px of the picture, 0 at the centre of its first px
 * @param {number} y
 * @returns {[number, number]}
 */
export function onStage(place, x, y) {
  return [place.x + (x + 0.5) * place.scale, place.y + (y + 0.5) * place.scale];
}

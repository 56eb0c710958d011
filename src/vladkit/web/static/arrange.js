// @ts-check
/** Where two images lie beside or above each other in a given room. Numbers only, no elements. */

/** @typedef {{width: number, height: number}} Size */
/** @typedef {{x: number, y: number, width: number, height: number, scale: number}} Place px of the stage; `scale` is px of the stage for one of the image */
/** @typedef {{width: number, height: number, query: Place, match: Place, stacked: boolean}} Arrangement */

const GAP = 16;
const NARROW = 720; // px; below, two images beside each other are too small
const TALL = 1.5; // narrow stages may be 1.5 times as high as wide: one scrolls there anyway
const SHARES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const EVEN = 2; // one height beside, one width above each other: unless half of the area is lost
const BESIDE = 1.4; // lines are followed more easily from left to right

/**
 * The arrangement that shows most of both: the product of their areas is largest, so that a panorama
 * does not shrink a tower to nothing.
 *
 * @param {Size} query px of the image
 * @param {Size} match
 * @param {Size} room px of the screen
 * @returns {Arrangement}
 */
export function arrange(query, match, room) {
  const narrow = room.width < NARROW;
  const stage = {
    width: Math.max(room.width, 2 * GAP),
    height: Math.max(room.height, narrow ? TALL * room.width : 2 * GAP),
  };
  const [q, m] = [query.width / query.height, match.width / match.height];
  const trials = [false, true].flatMap((stacked) => {
    const even = stacked ? m / (q + m) : q / (q + m);
    return [even, ...SHARES].map((share) => {
      const tried = split(query, match, stage, share, stacked);
      const area = tried.query.width * tried.query.height * tried.match.width * tried.match.height;
      const liked = (share === even ? EVEN : 1) * (stacked || narrow ? 1 : BESIDE);
      return { tried, worth: area * liked };
    });
  });
  return trials.reduce((best, each) => (each.worth > best.worth ? each : best)).tried;
}

/**
 * The query gets a share of the room's width, or height, the match the rest.
 *
 * @param {Size} query
 * @param {Size} match
 * @param {Size} room
 * @param {number} share
 * @param {boolean} stacked
 * @returns {Arrangement}
 */
function split(query, match, room, share, stacked) {
  const long = (stacked ? room.height : room.width) - GAP;
  const [first, second] = [long * share, long * (1 - share)];
  const { width, height } = room;
  const q = fit(query, stacked ? { width, height: first } : { width: first, height });
  const m = fit(match, stacked ? { width, height: second } : { width: second, height });
  const size = stacked
    ? { width: Math.max(q.width, m.width), height: q.height + GAP + m.height }
    : { width: q.width + GAP + m.width, height: Math.max(q.height, m.height) };
  // along the stage one after the other, across it in the middle
  /** @param {Size} image @param {number} along */
  const corner = (image, along) =>
    stacked
      ? { x: (size.width - image.width) / 2, y: along }
      : { x: along, y: (size.height - image.height) / 2 };
  return {
    ...size,
    query: { ...q, ...corner(q, 0) },
    match: { ...m, ...corner(m, (stacked ? q.height : q.width) + GAP) },
    stacked,
  };
}

/**
 * As large as it can be.
 *
 * @param {Size} image
 * @param {Size} room
 */
function fit({ width, height }, room) {
  const scale = Math.min(room.width / width, room.height / height);
  return { width: width * scale, height: height * scale, scale };
}

/**
 * Where a point of an image lies on the stage.
 *
 * @param {Place} place
 * @param {number} x px of the image, 0 at the centre of its first px
 * @param {number} y
 * @returns {[number, number]}
 */
export function onStage(place, x, y) {
  return [place.x + (x + 0.5) * place.scale, place.y + (y + 0.5) * place.scale];
}

/** Levels of probability: a class counts from level k on where its probability is at least k / LEVELS. */
export const LEVELS = 256;

/**
 * Returns the areas of all classes (Uint8Array each, 0 or 1) when they have one threshold, as the server decides.
 *
 * Of exclusive classes, those of the background too, the one with the largest p·(1 − t)/t counts; the background's t is
 * a half. Probabilities have 8 bits here, so that a pixel may differ where two classes are almost equal; with one class,
 * and where classes overlap, none does.
 *
 * @param {Uint8Array[]} probabilities of each class, in levels.
 * @param {number} level of the threshold, 1 to 255.
 * @param {boolean} exclusive whether a pixel belongs to one class at most.
 */
export function decide(probabilities, level, exclusive) {
  if (!exclusive || probabilities.length === 1) {
    return probabilities.map((levels) => levels.map((value) => (value >= level ? 1 : 0)));
  }
  const weight = (LEVELS - level) / level;
  const areas = probabilities.map((levels) => new Uint8Array(levels.length));
  for (let pixel = 0; pixel < areas[0].length; pixel += 1) {
    let rest = LEVELS - 1, most = 0, best = 0;
    for (let index = 0; index < probabilities.length; index += 1) {
      const value = probabilities[index][pixel];
      rest -= value;
      if (value > most) {
        most = value;
        best = index;
      }
    }
    if (most * weight > rest) areas[best][pixel] = 1;
  }
  return areas;
}

/** Returns how many pixels an area has. */
export function count(area) {
  let sum = 0;
  for (const value of area) sum += value;
  return sum;
}

/** Returns the bytes of base64. */
export function bytes(base64) {
  return Uint8Array.fromBase64?.(base64) ?? Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** Returns the bytes (Uint8Array) of a gzip as base64. */
export async function unzipped(base64) {
  const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Returns the voxels (Uint8Array, in the file's order) of a NIfTI-1 file of 8 bits in gzip, as base64. */
export async function voxels(base64) {
  const file = await unzipped(base64);
  return file.subarray(new DataView(file.buffer).getFloat32(108, true));
}

/** Returns [red, green, blue] of "#rrggbb". */
export function rgb(colour) {
  return [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
}

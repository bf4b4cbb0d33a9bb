// A picture of codes: a column for each frame, a row for each codebook.

/** Draw the last frames that fit. Codebooks from `heard` on are pale, and `position` marks a frame. */
export function drawGrid(canvas, codes, codebookSize, heard, position) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio].map(Math.round);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  if (!codes?.numFrames) return;
  const most = Math.floor(width / (2 * ratio)); // columns of 2 pixels
  const first = Math.max(0, codes.numFrames - most);
  const shown = codes.numFrames - first;
  const column = Math.min(width / shown, 12 * ratio);
  const row = height / codes.numCodebooks;
  const gap = Math.round(ratio);
  for (let q = 0; q < codes.numCodebooks; q++) {
    const line = codes.codebook(q);
    context.globalAlpha = q < heard ? 1 : 0.18;
    for (let t = 0; t < shown; t++) {
      context.fillStyle = colourOf(line[first + t], codebookSize);
      const left = Math.floor(t * column);
      context.fillRect(left, Math.round(q * row), Math.floor((t + 1) * column) - left, Math.round(row) - gap);
    }
  }
  context.globalAlpha = 1;
  if (position >= first) {
    context.fillStyle = getComputedStyle(canvas).color;
    context.fillRect((position - first) * column, 0, 2 * ratio, height);
  }
}

/** Neighbouring numbers mean nothing, so that colours need not be alike: the hue turns by the golden angle. */
function colourOf(code, codebookSize) {
  return `hsl(${(code * 137.508) % 360} 65% ${38 + (30 * code) / codebookSize}%)`;
}

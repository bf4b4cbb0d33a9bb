// Give what browsers need of dist/ to the page of `speechtok serve`, which is part of the Python package: npm run page
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL("..", import.meta.url));
const dist = join(here, "dist");
export const PAGE = fileURLToPath(new URL("../../../speechtok/live/page/js", import.meta.url));

/** The files and their contents. The server has the weights, and each browser of today has vectors. */
export function pageFiles() {
  const names = readdirSync(dist).filter((name) => /\.js$|\.simd\.wasm$/.test(name) && name !== "cli.js");
  const files = names.sort().map((name) => [name, readFileSync(join(dist, name))]);
  return new Map([["NOTICE.txt", readFileSync(join(here, "NOTICE.txt"))], ...files]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  rmSync(PAGE, { recursive: true, force: true });
  mkdirSync(PAGE);
  for (const [name, content] of pageFiles()) writeFileSync(join(PAGE, name), content);
}

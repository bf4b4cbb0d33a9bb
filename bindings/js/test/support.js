import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { parseGolden, stressInput } from "./stress.js";

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
export const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
export const SUITE = new URL("../../conformance/", import.meta.url);
export const RANDOM = {
  config: new URL("random/config.json", SUITE),
  weights: new URL("random/model.safetensors", SUITE),
};

export const golden = async (name) => parseGolden(await readFile(new URL(`${name}.txt`, SUITE), "ascii"));
export const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
export const bytesOf = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** The square wave and the beginning of the voice. */
export const shortInput = () => stressInput().slice(431_200, 447_200);

#!/usr/bin/env node
/** `npx speechtok pack FOLDER FILE`: packed weights of a saved tokenizer. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { pack } from "./load.js";

const USAGE = `usage: speechtok pack FOLDER FILE

Pack a tokenizer that tok.save(FOLDER) wrote in Python into one file for load() in JavaScript.
`;

const [command, folder, file, ...rest] = process.argv.slice(2);
if (command !== "pack" || !folder || !file || rest.length) {
  process.stderr.write(USAGE);
  process.exit(command === "--help" ? 0 : 2);
}
try {
  const packed = await pack({ config: join(folder, "config.json"), weights: join(folder, "model.safetensors") });
  await writeFile(file, gzipSync(packed, { level: 9 }));
} catch (error) {
  process.stderr.write(`speechtok: ${(error as Error).message}\n`);
  process.exit(1);
}

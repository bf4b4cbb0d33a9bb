import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import { PAGE, pageFiles } from "../scripts/page.js";
import { PACKAGE, SUITE } from "./support.js";
import { fileURLToPath } from "node:url";

const run = promisify(execFile);

test("npm pack installs in an empty folder, and the README's snippet runs there", async () => {
  const folder = await mkdtemp(join(tmpdir(), "speechtok-"));
  try {
    const packed = await run("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], { cwd: PACKAGE });
    const [{ filename, files }] = JSON.parse(packed.stdout);
    const names = files.map((file) => file.path);
    for (const name of ["LICENSE", "README.md", "dist/index.d.ts", "dist/speechtok-v2.bin", "dist/speechtok.simd.wasm"])
      assert.ok(names.includes(name), `${name} is not in the package`);
    assert.ok(!names.some((name) => /test|src|scripts|example/.test(name)), names.join(" "));
    await writeFile(join(folder, "package.json"), '{"type": "module"}');
    await run("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${filename}`], { cwd: folder });
    const [, snippet] = /```js\n([^]*?)```/.exec(await readFile(join(PACKAGE, "README.md"), "utf8"));
    await writeFile(join(folder, "snippet.js"), `${snippet}\nconsole.log(audio.length, rough.length);\n`);
    const { stdout } = await run(process.execPath, ["snippet.js"], { cwd: folder });
    assert.match(stdout, /^8 50\n/);
    assert.match(stdout, /\n16000 16000\n$/);
    const tokenizer = fileURLToPath(new URL("random", SUITE));
    await run("npx", ["--offline", "speechtok", "pack", tokenizer, "random.bin"], { cwd: folder });
    await writeFile(join(folder, "own.js"), 'import { load } from "speechtok"; console.log((await load("random.bin")).fingerprint);');
    assert.equal((await run(process.execPath, ["own.js"], { cwd: folder })).stdout, "e152cdaf13d0b14a\n");
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("the page of speechtok serve has the files of this build; npm run page copies them", async () => {
  const files = pageFiles();
  assert.deepEqual((await readdir(PAGE)).sort(), [...files.keys()]);
  for (const [name, content] of files) assert.ok(content.equals(await readFile(join(PAGE, name))), `${name} differs`);
});

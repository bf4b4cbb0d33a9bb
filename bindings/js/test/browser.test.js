// The same in headless Chromium: tokens, worker, microphone and the example.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before } from "node:test";
import { chromium } from "playwright-core";
import { load } from "speechtok";
import { serve } from "../scripts/server.js";
import { ROOT, shortInput } from "./support.js";

const executablePath = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(
  (path) => path && existsSync(path),
);
const skip = executablePath ? false : "Chromium is not installed; CHROMIUM names its program";
const RATE = 48_000;
let browser, folder, page, server;
const problems = [];

/** A WAV file of 16-bit samples. */
function wav(samples, sampleRate) {
  const bytes = Buffer.alloc(44 + 2 * samples.length);
  bytes.write("RIFF");
  bytes.writeUInt32LE(36 + 2 * samples.length, 4);
  bytes.write("WAVEfmt ", 8);
  [16, 1 | (1 << 16), sampleRate, 2 * sampleRate, 2 | (16 << 16)].forEach((value, i) => bytes.writeUInt32LE(value, 16 + 4 * i));
  bytes.write("data", 36);
  bytes.writeUInt32LE(2 * samples.length, 40);
  samples.forEach((x, i) => bytes.writeInt16LE(Math.round(32_767 * x), 44 + 2 * i));
  return bytes;
}

before(async () => {
  if (skip) return;
  folder = await mkdtemp(join(tmpdir(), "speechtok-"));
  const voice = join(folder, "voice.wav");
  const tok = await load();
  await writeFile(voice, wav(tok.resample(shortInput(), tok.sampleRate, RATE), RATE));
  server = await serve(join(ROOT, "bindings"));
  browser = await chromium.launchPersistentContext(join(folder, "profile"), {
    executablePath,
    headless: true,
    permissions: ["microphone"],
    args: [
      ..."no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
        .split(" ")
        .map((flag) => `--${flag}`),
      "--disable-sync",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
      `--use-file-for-fake-audio-capture=${voice}`,
      "--autoplay-policy=no-user-gesture-required",
    ],
  });
  page = await browser.newPage();
  page.setDefaultTimeout(180_000);
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.goto(`${server.url}js/example/`);
});

after(async () => {
  await browser?.close();
  server?.close();
  if (folder) await rm(folder, { recursive: true, force: true });
});

for (const [name, kind, chunks] of [
  ["speechtok-v2", "simd", [0, 333, 4_000]],
  ["speechtok-v2", "scalar", [0]],
  ["random", "simd", [0, 1, 320, 1_280]],
  ["random", "scalar", [0, 1]],
])
  test(`${name}, ${kind}: codes and audio in Chromium are those of the golden file`, { skip }, async () => {
    const differences = await page.evaluate(
      async ({ name, kind, chunks }) => {
        const { load } = await import("/js/dist/index.js");
        const { compare, parseGolden, passThrough, stressInput } = await import("/js/test/stress.js");
        const golden = parseGolden(await (await fetch(`/conformance/${name}.txt`)).text());
        const files = { config: "/conformance/random/config.json", weights: "/conformance/random/model.safetensors" };
        const tok = await load(name === "random" ? files : undefined, { kind });
        const x = stressInput();
        const results = [];
        for (const chunk of chunks) results.push(compare(golden, ...(await passThrough(tok, x, chunk))));
        return results;
      },
      { name, kind, chunks },
    );
    assert.deepEqual(differences, chunks.map(() => ({ codes: 0, frames: 0 })));
  });

test("a worker of Chromium gives the codes of the page", { skip }, async () => {
  const equal = await page.evaluate(async () => {
    const { load, loadInWorker } = await import("/js/dist/index.js");
    const { stressInput } = await import("/js/test/stress.js");
    const x = stressInput().slice(431_200, 447_200);
    const [tok, remote] = await Promise.all([load(), loadInWorker("../dist/speechtok-v2.bin")]);
    const [here, there] = [tok.encode(x), await remote.encode(x)];
    remote.close();
    return here.codes.data.join() === there.codes.data.join();
  });
  assert.ok(equal);
});

test("the microphone gives the sound of the device in chunks of the length asked for", { skip }, async () => {
  const heard = await page.evaluate(async () => {
    const { concat, openMicrophone } = await import("/js/dist/index.js");
    const constraints = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const microphone = await openMicrophone({ chunkMilliseconds: 30, constraints });
    const [chunks, lengths] = [[], []];
    for await (const chunk of microphone) {
      chunks.push(chunk);
      lengths.push(chunk.length);
      if (chunks.length === 100) await microphone.close();
    }
    return { sampleRate: microphone.sampleRate, lengths, audio: [...concat(chunks)] };
  });
  assert.ok(heard.lengths.length >= 100);
  assert.ok(heard.lengths.slice(0, 100).every((length) => length === Math.round(0.03 * heard.sampleRate)));
  const peak = heard.audio.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  assert.ok(peak > 0.3 && peak <= 1, `the peak is ${peak}`); // the file is at 0.7
});

test("the example records, shows tokens, and plays them from 1 to 8 codebooks", { skip }, async () => {
  await page.reload();
  await page.click("#record:enabled");
  await page.waitForFunction(() => / (1\d\d|[6-9]\d) tokens/.test(document.querySelector("#size").textContent.replace("8 ×", "")));
  await page.click("#record");
  await page.waitForSelector("#play:enabled");
  const painted = await page.evaluate(() => {
    const { width, height } = document.querySelector("#grid");
    const { data } = document.querySelector("#grid").getContext("2d").getImageData(0, 0, width, height);
    return new Set(new Uint32Array(data.buffer)).size;
  });
  assert.ok(painted > 50, `the grid has ${painted} colours`);
  for (const [codebooks, rate] of [[1, "0.5 kbit/s"], [3, "1.5 kbit/s"], [8, "4.0 kbit/s"]]) {
    await page.fill("#codebooks", String(codebooks));
    assert.equal(await page.textContent("#bit-rate"), rate);
    await page.click("#play");
    await page.waitForFunction(() => document.querySelector("#play").textContent === "Stop");
    await page.click("#play");
    await page.waitForFunction(() => document.querySelector("#play").textContent === "Play the tokens");
  }
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
  assert.equal(download.suggestedFilename(), "speech.tokens");
});

test("the example fits narrow and wide windows, and nothing failed on the way", { skip }, async () => {
  for (const width of [400, 1_300]) {
    await page.setViewportSize({ width, height: 900 });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overflow, 0, `${width} pixels`);
    if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${width}.png`), fullPage: true });
  }
  assert.deepEqual(problems, []);
});

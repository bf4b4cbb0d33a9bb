import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { gunzipSync } from "node:zlib";
import { Codes, SpeechtokError, concat, load, pack } from "speechtok";
import { PACKAGE, RANDOM, bytesOf, sha256, shortInput } from "./support.js";

const expected = JSON.parse(await readFile(new URL("expected.json", import.meta.url), "utf8"));
const x = shortInput();
const tok = await load(RANDOM);
const fails = (code, message) => (error) =>
  error instanceof SpeechtokError && error.code === code && message.test(error.message);

test("tokens files are those of the Python package to the byte", () => {
  const one = tok.encode(x);
  const other = tok.encode(x.subarray(8_000, 13_000));
  assert.equal(sha256(tok.writeTokens(one)), expected.tokens);
  assert.equal(sha256(tok.writeTokens([one, other])), expected["tokens of a batch"]);
  assert.equal(sha256(tok.writeTokens(tok.encode(x, { sampleRate: 44_100 }))), expected["tokens at 44100 Hz"]);
  assert.deepEqual(tok.readTokens(tok.writeTokens([one, other])), [one, other]);
});

test("the resampler gives the samples of the Python package, whole and in pieces", () => {
  for (const [rates, digest] of Object.entries(expected).filter(([name]) => / to /.test(name))) {
    const [from, to] = rates.split(" to ").map(Number);
    assert.equal(sha256(bytesOf(tok.resample(x, from, to))), digest, rates);
    const resampler = tok.resampler(from, to);
    const parts = [0, 1, 2, 700, 9_000].map((start, i, starts) => resampler.push(x.slice(start, starts[i + 1])));
    assert.equal(sha256(bytesOf(concat([...parts, resampler.flush()]))), digest, rates);
    resampler.close();
  }
});

test("a stream at another rate gives the codes of the whole", () => {
  const stream = tok.stream({ sampleRate: 48_000, numCodebooks: 2 });
  const parts = [];
  for (let start = 0; start < x.length; start += 997) parts.push(stream.encode(x.subarray(start, start + 997)));
  parts.push(stream.flush());
  assert.deepEqual(Codes.concat(parts), tok.encode(x, { sampleRate: 48_000, numCodebooks: 2 }).codes);
  assert.throws(() => stream.encode(x), fails("bad-state", /reset it first/));
  stream.reset();
  assert.deepEqual(Codes.concat([stream.encode(x), stream.flush()]), Codes.concat(parts));
  stream.close();
  assert.throws(() => stream.encode(x), fails("bad-state", /closed/));
});

test("two streams of one tokenizer never meet", () => {
  const [a, b] = [tok.stream(), tok.stream()];
  const [left, right] = [[], []];
  for (let start = 0; start < 8_000; start += 160) {
    left.push(a.encode(x.subarray(start, start + 160)));
    right.push(b.encode(x.subarray(8_000 + start, 8_160 + start)));
  }
  assert.deepEqual(Codes.concat(left), tok.encode(x.subarray(0, 8_000)).codes);
  assert.deepEqual(Codes.concat(right), tok.encode(x.subarray(8_000)).codes);
});

test("the first codebooks decode alone, and make a lower bit rate", async () => {
  const whole = await load();
  assert.deepEqual([1, 2, 8].map((count) => whole.bitRate(count)), [500, 1_000, 4_000]);
  const tokens = whole.encode(x);
  const rough = whole.decode(tokens, { numCodebooks: 3 });
  assert.equal(rough.length, x.length);
  assert.deepEqual(rough, whole.decode({ ...tokens, codes: tokens.codes.first(3) }));
  assert.deepEqual(whole.encode(x, { numCodebooks: 3 }).codes, tokens.codes.first(3));
  assert.notDeepEqual(rough, whole.decode(tokens));
});

test("packed weights give the codes and audio of the files that they were made from", async () => {
  for (const kind of ["simd", "scalar"]) {
    const packed = await load(await pack(RANDOM), { kind });
    const tokens = tok.encode(x);
    assert.deepEqual(packed.encode(x), tokens);
    assert.deepEqual(packed.decode(tokens), tok.decode(tokens));
  }
});

test("what a caller gets wrong is said with the value and what was expected", async () => {
  const tokens = tok.encode(x);
  assert.throws(() => tok.encode([0, 1]), fails("bad-argument", /type Array; expected a Float32Array/));
  assert.throws(() => tok.encode(new Float32Array(0)), fails("bad-argument", /samples is 0/));
  assert.throws(() => tok.encode(Float32Array.of(NaN)), fails("bad-argument", /sample 0 is nan/));
  assert.throws(() => tok.encode(Float32Array.of(9)), fails("bad-argument", /sample 0 is 9/));
  assert.throws(() => tok.encode(x, { sampleRate: 1 }), fails("bad-argument", /rate is 1; expected 1000/));
  assert.throws(() => tok.encode(x, { numCodebooks: 4 }), fails("bad-argument", /numCodebooks is 4; expected 1 to 3/));
  assert.throws(() => tok.decode(Codes.from([[40]])), fails("bad-argument", /codebook 0, frame 0 is 40; expected 0 to 39/));
  assert.throws(() => tok.decode([[1]]), fails("bad-argument", /expected those of encode, or Codes/));
  assert.throws(() => Codes.from([[1], [1, 2]]), fails("bad-argument", /codebook 1 has 2 frames; expected 1/));
  assert.throws(() => tok.decode({ ...tokens, fingerprint: "x" }), fails("fingerprint", /made by tokenizer "x"/));
  assert.throws(() => tok.decode({ ...tokens, numSamples: 1e9 }), fails("bad-argument", /numSamples is/));
  await assert.rejects(load("nowhere.bin"), fails("bad-file", /cannot be read/));
  await assert.rejects(load(new Uint8Array(9)), fails("bad-file", /does not begin as packed weights do/));
  await assert.rejects(load(undefined, { kind: "relaxed" }), fails("bad-argument", /kind is "relaxed"/));
});

test("one changed bit of packed weights or of a tokens file is noticed", async () => {
  const packed = await pack(RANDOM);
  for (const place of [0, 8, 12, 500, 5_000, packed.length - 1]) {
    const damaged = packed.slice();
    damaged[place] ^= 4;
    await assert.rejects(load(damaged), fails("bad-file", /damaged|begin/));
  }
  await assert.rejects(load(packed.slice(0, -1)), fails("bad-file", /damaged/));
  const bytes = tok.writeTokens(tok.encode(x));
  bytes[bytes.length - 5] ^= 1;
  assert.throws(() => tok.readTokens(bytes), fails("bad-file", /digest/));
});

test("hostile packed weights are refused without a trap", async () => {
  const { subtle } = globalThis.crypto;
  const packed = await pack(RANDOM);
  let seed = 1;
  const random = (n) => (seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0) % n;
  let refused = 0;
  for (let i = 0; i < 300; i++) {
    const changed = packed.slice(0, i % 5 ? packed.length : 44 + random(packed.length - 44));
    for (let n = 1 + random(4); n; n--) changed[(i % 2 ? random(900) : random(changed.length)) % changed.length] = random(256);
    const digest = await subtle.digest("SHA-256", changed.subarray(0, -32)); // so that what is behind it is reached
    changed.set(new Uint8Array(digest), changed.length - 32);
    try {
      (await load(changed)).close();
    } catch (error) {
      assert.ok(error instanceof SpeechtokError, `${i}: ${error}`);
      refused++;
    }
  }
  assert.ok(refused > 100, `${refused} were refused`);
});

test("the module is small, needs nothing of its surroundings, and the weights take a byte each", async () => {
  for (const kind of ["simd", "scalar"]) {
    const bytes = await readFile(`${PACKAGE}dist/speechtok.${kind}.wasm`);
    assert.ok(bytes.length <= 150_000, `${bytes.length} bytes`);
    assert.deepEqual(WebAssembly.Module.imports(new WebAssembly.Module(bytes)), []);
  }
  const weights = await readFile(`${PACKAGE}dist/speechtok-v2.bin`);
  assert.ok(weights.length <= 9_561_985, `${weights.length} bytes`); // the number of the default's weights
  assert.equal(gunzipSync(weights).subarray(0, 8).toString(), "STPACK1\n");
});

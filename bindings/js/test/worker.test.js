import assert from "node:assert/strict";
import test from "node:test";
import { SpeechtokError, load, loadInWorker } from "speechtok";
import { passThrough } from "./stress.js";
import { RANDOM, shortInput } from "./support.js";

const x = shortInput();

test("a worker gives what the page itself would compute", async () => {
  const [tok, remote] = await Promise.all([load(RANDOM), loadInWorker(RANDOM)]);
  assert.equal(remote.fingerprint, tok.fingerprint);
  assert.equal(remote.bitRate(2), tok.bitRate(2));
  const tokens = tok.encode(x, { sampleRate: 24_000 });
  assert.deepEqual(await remote.encode(x, { sampleRate: 24_000 }), tokens);
  assert.deepEqual(await remote.decode(tokens), tok.decode(tokens));
  assert.deepEqual(await remote.readTokens(await remote.writeTokens([tokens])), [tokens]);
  assert.deepEqual(await passThrough(remote, x, 999), await passThrough(tok, x));
  assert.equal(x.length, 16_000); // a waveform is copied, not moved
  remote.close();
});

test("errors of a worker are those of the page", async () => {
  const remote = await loadInWorker(RANDOM, { kind: "scalar" });
  assert.equal(remote.kind, "scalar");
  await assert.rejects(remote.encode(new Float32Array(0)), (error) => error instanceof SpeechtokError && error.code === "bad-argument");
  const waiting = remote.encode(x);
  remote.close();
  await assert.rejects(waiting, /closed before it answered/);
  await assert.rejects(remote.encode(x), /was closed/);
  await assert.rejects(loadInWorker(new Uint8Array(4)), /packed weights/);
});

import { Codes, concat, loadInWorker, openMicrophone } from "../dist/index.js";
import { drawGrid } from "./grid.js";

const MAX_SECONDS = 120;
const [record, file, status, grid, size, slider, count, bitRate, play, original, download, facts] = [
  ..."record file status grid size codebooks count bit-rate play original download facts".split(" "),
].map((id) => document.getElementById(id));

let tok;
let microphone;
let recording; // { tokens, audio, sampleRate }
let codes; // of what is recorded, or was
let playing;

const say = (text) => (status.textContent = text);
const seconds = (frames) => `${(frames / tok.frameRate).toFixed(1)} s`;
const draw = (position = -1) => drawGrid(grid, codes, tok?.codebookSize, Number(slider.value), position);

function update() {
  const chosen = Number(slider.value);
  count.textContent = chosen;
  bitRate.textContent = `${(tok.bitRate(chosen) / 1000).toFixed(1)} kbit/s`;
  const frames = codes?.numFrames ?? 0;
  size.textContent = frames ? `${codes.numCodebooks} × ${frames} tokens · ${seconds(frames)}` : "";
  const ready = recording !== undefined && !microphone;
  for (const control of [slider, play, original, download]) control.disabled = !ready;
  file.disabled = microphone !== undefined;
  record.textContent = microphone ? "Stop" : "Record";
  record.classList.toggle("recording", microphone !== undefined);
  play.textContent = playing?.button === play ? "Stop" : "Play the tokens";
  original.textContent = playing?.button === original ? "Stop" : "Play the original";
  if (!playing) draw();
}

/** Keep audio with its tokens. */
async function keep(audio, sampleRate) {
  const start = performance.now();
  const tokens = await tok.encode(audio, { sampleRate });
  const taken = performance.now() - start;
  recording = { tokens, audio, sampleRate };
  codes = tokens.codes;
  const bytes = (await tok.writeTokens(tokens)).length;
  const percent = ((100 * bytes) / (2 * audio.length)).toFixed(1);
  facts.textContent =
    `Encoded in ${Math.round(taken)} ms. As a .tokens file: ${bytes.toLocaleString("en")} bytes, ` +
    `${percent} % of the same audio as a WAV file. Tokenizer ${tok.fingerprint}.`;
  say("");
  update();
}

async function listen() {
  stopPlaying();
  microphone = await openMicrophone();
  update();
  const { sampleRate } = microphone;
  const stream = await tok.stream({ sampleRate });
  const [chunks, parts] = [[], []];
  let samples = 0;
  codes = undefined;
  for await (const chunk of microphone) {
    chunks.push(chunk);
    samples += chunk.length;
    const part = await stream.encode(chunk);
    if (part.numFrames) {
      parts.push(part);
      codes = Codes.concat(parts);
      update();
    }
    say(`Recording: ${(samples / sampleRate).toFixed(1)} s at ${sampleRate / 1000} kHz`);
    if (samples >= MAX_SECONDS * sampleRate) break;
  }
  await stream.close();
  microphone = undefined;
  if (samples) await keep(concat(chunks), sampleRate);
  else say("The microphone gave no sound.");
}

function stopPlaying() {
  const { context } = playing ?? {};
  playing = undefined;
  context?.close();
}

async function hear(button, waveform, sampleRate) {
  const again = playing?.button === button;
  stopPlaying();
  update();
  if (again) return;
  const audio = await waveform();
  const context = new AudioContext();
  const source = context.createBufferSource();
  source.buffer = context.createBuffer(1, audio.length, sampleRate);
  source.buffer.copyToChannel(audio, 0);
  source.connect(context.destination);
  const mine = { button, context };
  playing = mine;
  source.onended = () => {
    if (playing === mine) stopPlaying();
    update();
  };
  const start = context.currentTime;
  source.start();
  const move = () => {
    if (playing !== mine) return;
    draw(Math.floor((context.currentTime - start) * tok.frameRate));
    requestAnimationFrame(move);
  };
  update();
  move();
}

/** Run a handler, and show why it failed. */
const guarded = (handler) => async () => {
  try {
    await handler();
  } catch (error) {
    microphone = undefined;
    const denied = error.name === "NotAllowedError" || error.name === "NotFoundError";
    say(denied ? "There is no microphone, or it was not allowed. Open a file instead." : error.message);
    update();
  }
};

record.onclick = guarded(() => (microphone ? microphone.close() : listen()));
play.onclick = guarded(() =>
  hear(play, () => tok.decode(recording.tokens, { numCodebooks: Number(slider.value) }), tok.sampleRate),
);
original.onclick = guarded(() => hear(original, () => recording.audio, recording.sampleRate));
slider.oninput = update;
download.onclick = guarded(async () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([await tok.writeTokens(recording.tokens)]));
  link.download = "speech.tokens";
  link.click();
  URL.revokeObjectURL(link.href);
});
file.onchange = guarded(async () => {
  const [chosen] = file.files;
  if (!chosen) return;
  stopPlaying();
  say("Reading the file …");
  const context = new AudioContext();
  const buffer = await context.decodeAudioData(await chosen.arrayBuffer());
  await context.close();
  const mono = new Float32Array(Math.min(buffer.length, MAX_SECONDS * buffer.sampleRate));
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    const samples = buffer.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / buffer.numberOfChannels;
  }
  await keep(mono.map((x) => Math.max(-1, Math.min(1, x))), buffer.sampleRate);
});
new ResizeObserver(() => draw()).observe(grid);

guarded(async () => {
  tok = await loadInWorker();
  record.disabled = false;
  file.disabled = false;
  say("");
  update();
})();

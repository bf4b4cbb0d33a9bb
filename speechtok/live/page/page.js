// The page of a speechtok server: microphone, tokens, events, and an agent.
// Options in the address, after #: token=…, mode=…, send=codes, start=1 (start at once), raw=1 (no processing by the
// browser).

import { Decoder, Encoder, loadTokenizer, packCodes, unpackCodes } from "./codes.js";

const TYPE = { handshake: 0, audio: 1, text: 2, control: 3, metadata: 4, error: 5, ping: 6, codes: 7 };
const END_TURN = 1;
const options = new URLSearchParams(location.hash.slice(1));
const $ = (id) => document.getElementById(id);

const info = await (await fetch("tokenizer.json")).json();
const MAX_WAITING = 250; // blocks of 20 ms, before a device is too slow to make codes

let call = null; // the running call

const shown = {
  frames: [], // codes of each frame of the user
  speech: [], // [speech, end of turn, overlap] of each frame
  agent: [], // whether the agent was heard in a frame
  latencies: [],
};

// --- messages

function message(type, payload = new Uint8Array()) {
  const bytes = payload instanceof Uint8Array ? payload : new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength);
  const result = new Uint8Array(1 + bytes.length);
  result[0] = type;
  result.set(bytes, 1);
  return result;
}

const metadata = (fields) => message(TYPE.metadata, new TextEncoder().encode(JSON.stringify(fields)));

// --- a call

class Call {
  constructor(mode, sendsCodes) {
    this.mode = mode;
    this.sendsCodes = sendsCodes;
    this.sent = []; // times at which the last sample of a frame went out
    this.samples = 0;
    this.agentFrames = 0; // of the agent, which came and are not shown yet
    this.bytesIn = this.bytesOut = 0;
    this.session = null;
    if (options.get("keep") === "1") this.keep = { sent: [], heard: [], agent: [] }; // for tests
  }

  async start() {
    const raw = options.get("raw") === "1";
    if (this.sendsCodes) {
      const loaded = await loadTokenizer(info, token());
      this.encoder = await Encoder.open(loaded, info.sample_rate, (frames) => this.sendCodes(frames));
      if (this.mode !== "none") this.decoder = await Decoder.open(loaded, (samples) => this.play(samples));
    }
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: !raw && this.mode !== "loopback", noiseSuppression: false, autoGainControl: false },
    });
    this.context = new AudioContext({ sampleRate: info.sample_rate });
    await this.context.audioWorklet.addModule("worklet.js");
    await this.context.resume();
    await this.connect();
    this.microphone = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
    this.microphone.port.onmessage = ({ data }) => this.send(data).catch((error) => stop(error.message));
    this.player = new AudioWorkletNode(this.context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
    this.player.port.onmessage = ({ data }) => {
      if ("played" in data) this.socket.send(metadata({ type: "output_audio_buffer.played", samples: data.played }));
      if ("cleared" in data) this.socket.send(metadata({ type: "output_audio_buffer.cleared", samples: data.cleared }));
      $("heard").textContent = `${((data.played ?? data.cleared) / info.sample_rate).toFixed(2)} s`;
    };
    this.player.connect(this.context.destination);
    this.context.createMediaStreamSource(this.stream).connect(this.microphone);
    let [time, sent, received] = [performance.now(), this.bytesOut, this.bytesIn];
    this.pinger = setInterval(() => {
      const now = performance.now();
      const rate = (bytes) => `${Math.round((1000 * bytes) / (now - time)).toLocaleString("en")} B/s`;
      $("sent").textContent = rate(this.bytesOut - sent);
      $("received").textContent = rate(this.bytesIn - received);
      [time, sent, received, this.pinged] = [now, this.bytesOut, this.bytesIn, now];
      this.socket.send(message(TYPE.ping));
    }, 1000);
  }

  connect() {
    const url = new URL("api/chat", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    url.search = new URLSearchParams({
      agent: this.mode, probabilities: 1,
      ...(this.sendsCodes ? { audio: "codes", codes: 0 } : { sample_rate: this.context.sampleRate }),
      out: this.mode === "none" ? "none" : this.sendsCodes ? "codes" : "pcm",
    });
    this.socket = new WebSocket(url, token() ? ["speechtok", `speechtok.token.${token()}`] : ["speechtok"]);
    this.socket.binaryType = "arraybuffer";
    return new Promise((resolve, reject) => {
      this.socket.onmessage = ({ data }) => {
        this.take(new Uint8Array(data));
        if (this.session) resolve();
      };
      this.socket.onclose = ({ code, reason }) => {
        reject(new Error("the server refused the connection"));
        if (call === this) stop(reason || `the connection ended (${code})`);
      };
    });
  }

  get isOpen() {
    return !this.stopped && this.socket.readyState === WebSocket.OPEN;
  }

  async send(block) {
    if (!this.isOpen || this.socket.bufferedAmount > 64000) return;
    if (!this.sendsCodes) return this.sendAudio(block);
    if (this.encoder.blocks.length > MAX_WAITING) return stop("this device is too slow to make codes: send audio");
    this.keep?.sent.push(block);
    this.count(block.length);
    await this.encoder.push(block);
  }

  /** Take note of when the last sample of each frame came. */
  count(samples) {
    const now = performance.now();
    const before = Math.floor(this.samples / info.hop_length);
    this.samples += samples;
    for (let f = before; f < Math.floor(this.samples / info.hop_length); f++) this.sent[f % 1000] = now;
  }

  sendCodes(frames) {
    if (!frames.length || this.socket.readyState !== WebSocket.OPEN) return;
    this.transmit(TYPE.codes, packCodes(frames, info));
    this.takeCodes(frames);
  }

  transmit(type, payload) {
    this.bytesOut += payload.byteLength + 1;
    this.socket.send(message(type, payload));
  }

  sendAudio(block) {
    const pcm = new Int16Array(block.length);
    for (let i = 0; i < block.length; i++) pcm[i] = Math.max(-32768, Math.min(32767, Math.round(block[i] * 32768)));
    this.keep?.sent.push(pcm);
    this.count(pcm.length);
    this.transmit(TYPE.audio, pcm);
  }

  take(bytes) {
    if (call && call !== this) return this.socket.close(); // another call has begun
    this.bytesIn += bytes.length;
    const payload = bytes.subarray(1);
    if (bytes[0] === TYPE.codes && this.sendsCodes) this.takeAgentCodes(unpackCodes(payload, info, info.num_codebooks));
    else if (bytes[0] === TYPE.codes) this.takeCodes(unpackCodes(payload, info, this.session.codebooks));
    else if (bytes[0] === TYPE.audio) this.takeAudio(payload);
    else if (bytes[0] === TYPE.metadata) this.takeMetadata(JSON.parse(new TextDecoder().decode(payload)));
    else if (bytes[0] === TYPE.error) addEvent(`error: ${new TextDecoder().decode(payload)}`);
    else if (bytes[0] === TYPE.ping) $("ping").textContent = `${(performance.now() - this.pinged).toFixed(1)} ms`;
  }

  takeCodes(frames) {
    for (const codes of frames) {
      shown.latencies.push(performance.now() - this.sent[shown.frames.length % 1000]);
      if (shown.latencies.length > 500) shown.latencies.shift();
      shown.agent[shown.frames.length] = this.agentFrames > 0;
      this.agentFrames = Math.max(0, this.agentFrames - 1);
      shown.frames.push(codes);
    }
  }

  takeAgentCodes(frames) {
    if (this.stopped) return;
    this.keep?.agent.push(...frames);
    this.agentFrames += frames.length;
    this.decoder.decode(frames);
  }

  play(samples) {
    this.keep?.heard.push(samples.slice());
    this.player?.port.postMessage(samples, [samples.buffer]);
  }

  takeAudio(payload) {
    const pcm = new Int16Array(payload.slice().buffer);
    const samples = new Float32Array(pcm.length);
    for (let i = 0; i < pcm.length; i++) samples[i] = pcm[i] / 32768;
    this.agentFrames += samples.length / info.hop_length;
    this.play(samples);
  }

  takeMetadata(fields) {
    if (fields.type === "session.created") {
      this.session = fields;
    } else if (fields.type === "vad.inference_done") {
      shown.speech.push(...fields.probabilities);
    } else if (fields.type === "output_audio_buffer.codebooks") {
      if (this.decoder) this.decoder.numCodebooks = fields.codebooks;
    } else if (fields.type === "response.output_audio.done") {
      if (!this.stopped) this.decoder?.end();
    } else {
      if (fields.type === "input_audio_buffer.ended") this.socket.close(); // after the last codes
      if (fields.type === "output_audio_buffer.cleared") {
        this.agentFrames = 0;
        if (!this.stopped) this.decoder?.clear();
        this.player?.port.postMessage("clear");
      }
      addEvent(describe(fields), fields);
    }
  }

  async stop() {
    this.stopped = true;
    clearInterval(this.pinger);
    this.stream?.getTracks().forEach((track) => track.stop());
    await this.encoder?.finish();
    this.decoder?.close();
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.socket.send(message(TYPE.control, Uint8Array.of(END_TURN)));
      setTimeout(() => this.socket.close(), 30000); // if the server does not answer
    }
    this.context?.close();
  }
}

// --- what is shown

const NAMES = {
  "input_audio_buffer.speech_started": "you started to speak",
  "input_audio_buffer.speech_stopped": "you stopped",
  "input_audio_buffer.committed": "your turn ended",
  "input_audio_buffer.ended": "your audio ended",
  "overlap.started": "two people speak",
  "overlap.stopped": "one person speaks",
  "output_audio_buffer.started": "the agent started to speak",
  "output_audio_buffer.stopped": "the agent stopped",
  "output_audio_buffer.cleared": "the agent fell silent",
  "response.interrupted": "you interrupted the agent",
};

function describe(fields) {
  if (fields.type === "conversation.item.truncated") {
    const said = fields.text ? `, up to “${fields.text.trim().split(" ").at(-1)}”` : "";
    return `heard of the agent: ${fields.frames} frames, ${(fields.audio_end_ms / 1000).toFixed(2)} s${said}`;
  }
  const name = NAMES[fields.type] ?? fields.type;
  const known = fields.detected === undefined ? 0 : fields.detected - fields.frame;
  return known > 0 ? `${name} (known after ${20 * known} ms)` : name;
}

function addEvent(text, fields = {}) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = fields.time_ms === undefined ? "" : `${(fields.time_ms / 1000).toFixed(2)} s`;
  item.append(time, text);
  item.dataset.type = fields.type ?? "";
  $("events").prepend(item);
  while ($("events").children.length > 200) $("events").lastChild.remove();
}

function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] : NaN;
}

const FRAMES = 500;
let drawn = -1;

function draw() {
  requestAnimationFrame(draw);
  if (!call?.session || drawn === shown.frames.length) return;
  drawn = shown.frames.length;
  const style = getComputedStyle(document.documentElement);
  const [ink, accent, warm, line] = ["--ink", "--accent", "--warm", "--line"].map((name) => style.getPropertyValue(name));
  const first = Math.max(0, drawn - FRAMES);
  const grid = $("grid").getContext("2d");
  const width = $("grid").width / FRAMES;
  const height = $("grid").height / info.num_codebooks;
  grid.clearRect(0, 0, $("grid").width, $("grid").height);
  for (let f = first; f < drawn; f++) {
    shown.frames[f].forEach((code, q) => {
      const hue = (code * 137.508) % 360; // neighbours in number are no neighbours in sound
      grid.fillStyle = `hsl(${hue} ${q ? 45 : 75}% ${45 + (code % 7) * 3}%)`;
      grid.fillRect((f - first) * width, q * height, width, height - 1);
    });
  }
  const plot = $("probability").getContext("2d");
  const [w, h] = [$("probability").width, $("probability").height - 12];
  plot.clearRect(0, 0, w, h + 12);
  plot.strokeStyle = line;
  plot.strokeRect(0, h / 2, w, 0);
  const at = (f, value) => [(f - first) * width, h - 2 - value * (h - 6)];
  plot.fillStyle = warm;
  for (let f = first; f < shown.speech.length; f++) {
    const [x, y] = at(f, shown.speech[f][1]);
    plot.globalAlpha = 0.4;
    plot.fillRect(x, y, width, h - y);
    plot.globalAlpha = 1;
    if (shown.agent[f]) plot.fillRect(x, h + 2, width, 10);
  }
  plot.strokeStyle = accent;
  plot.lineWidth = 2;
  plot.beginPath();
  for (let f = first; f < shown.speech.length; f++) plot.lineTo(...at(f, shown.speech[f][0]));
  plot.stroke();
  plot.fillStyle = ink;
  if (drawn % 10 === 0 || drawn < 10) {
    $("latency").textContent = `${percentile(shown.latencies, 0.5).toFixed(1)} ms`;
    $("latency95").textContent = `${percentile(shown.latencies, 0.95).toFixed(1)} ms`;
    $("frames").textContent = drawn.toLocaleString("en");
  }
}

// --- controls

async function start() {
  $("start").disabled = true;
  Object.values(shown).forEach((list) => (list.length = 0));
  $("events").replaceChildren();
  const sendsCodes = $("send").value === "codes";
  $("status").textContent = sendsCodes ? "loading the tokenizer" : "connecting";
  const mine = (call = new Call($("mode").value, sendsCodes));
  try {
    await mine.start();
    if (call !== mine) return void mine.stop(); // stopped meanwhile
    $("status").textContent = `connected to tokenizer ${call.session.fingerprint}`;
    $("stop").disabled = false;
    $("speak").disabled = call.mode !== "scripted";
    setCodebooks();
    if (call.mode === "scripted") speak();
  } catch (error) {
    if (call === mine) stop(error.name === "NotAllowedError" ? "the microphone is not allowed" : error.message);
  }
}

function stop(text) {
  const ended = call;
  call = null;
  ended?.stop();
  $("start").disabled = false;
  $("stop").disabled = $("speak").disabled = true;
  $("status").textContent = typeof text === "string" ? text : "not connected";
}

function setCodebooks() {
  const count = Number($("codebooks").value);
  $("codebooks-shown").textContent = count;
  if (call?.session && call.socket.readyState === WebSocket.OPEN) call.socket.send(metadata({ type: "session.update", codebooks: count }));
}

function hideAbsentModes() {
  for (const option of [...$("mode").options]) if (!info.agents.includes(option.value)) option.remove();
}

function describeSwitch() {
  for (const option of $("send").options) {
    const rate = info.bytes_per_second[option.value];
    option.text = `${option.value === "codes" ? "codes made here" : "audio sent"}: ${rate < 1000 ? `${rate} B/s` : `${rate / 1000} kB/s`}`;
  }
  if (!info.weights) {
    $("send").disabled = true;
    $("send").title = "the server does not give out its tokenizer, or it does not run in browsers";
  } else if (options.get("send") === "codes") $("send").value = "codes";
}

const token = () => $("token").value || options.get("token");
const speak = () => call?.socket.send(metadata({ type: "response.create" }));

$("controls").onsubmit = (event) => event.preventDefault();
$("start").onclick = start;
$("stop").onclick = stop;
$("speak").onclick = speak;
$("codebooks").oninput = setCodebooks;
$("mode").onchange = $("send").onchange = () => call && (stop(), start());
$("codebooks").max = $("codebooks").value = info.num_codebooks;
$("codebooks-shown").textContent = info.num_codebooks;
hideAbsentModes();
describeSwitch();
if (options.has("mode")) $("mode").value = options.get("mode");
draw();
if (options.get("start") === "1") start();

// for tests and for the curious
window.speechtok = { shown, get call() { return call; } };

// The page of a speechtok server: microphone, tokens, events, and an agent.
// Options in the address, after #: token=…, mode=…, start=1 (start at once), raw=1 (no processing by the browser).

const TYPE = { handshake: 0, audio: 1, text: 2, control: 3, metadata: 4, error: 5, ping: 6, codes: 7 };
const END_TURN = 1;
const options = new URLSearchParams(location.hash.slice(1));
const $ = (id) => document.getElementById(id);

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

function unpackCodes(bytes, session) {
  const bits = Math.max(1, Math.ceil(Math.log2(session.codebook_size)));
  const size = Math.ceil((session.codebooks * bits) / 8);
  const frames = [];
  for (let start = 0; start + size <= bytes.length; start += size) {
    const codes = [];
    for (let q = 0; q < session.codebooks; q++) {
      let code = 0;
      for (let b = 0; b < bits; b++) {
        const place = q * bits + b;
        code |= ((bytes[start + (place >> 3)] >> (place & 7)) & 1) << b;
      }
      codes.push(code);
    }
    frames.push(codes);
  }
  return frames;
}

// --- a call

class Call {
  constructor(mode) {
    this.mode = mode;
    this.sent = []; // times at which the last sample of a frame went out
    this.samples = 0;
    this.bytesIn = this.bytesOut = 0;
    this.session = null;
    this.keep = options.get("keep") === "1" ? [] : null; // samples that were sent, for tests
  }

  async start() {
    const raw = options.get("raw") === "1";
    this.stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: !raw && this.mode !== "loopback", noiseSuppression: false, autoGainControl: false },
    });
    this.context = new AudioContext({ sampleRate: 16000 });
    await this.context.audioWorklet.addModule("worklet.js");
    await this.context.resume();
    await this.connect();
    this.microphone = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
    this.microphone.port.onmessage = ({ data }) => this.send(data);
    this.player = new AudioWorkletNode(this.context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
    this.player.port.onmessage = ({ data }) => {
      if ("played" in data) this.socket.send(metadata({ type: "output_audio_buffer.played", samples: data.played }));
      if ("cleared" in data) this.socket.send(metadata({ type: "output_audio_buffer.cleared", samples: data.cleared }));
      $("heard").textContent = `${((data.played ?? data.cleared) / 16000).toFixed(2)} s`;
    };
    this.player.connect(this.context.destination);
    this.context.createMediaStreamSource(this.stream).connect(this.microphone);
    this.pinger = setInterval(() => {
      this.pinged = performance.now();
      this.socket.send(message(TYPE.ping));
    }, 1000);
    this.began = performance.now();
  }

  connect() {
    const url = new URL("api/chat", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    url.hash = "";
    url.search = new URLSearchParams({
      agent: this.mode, probabilities: 1, sample_rate: this.context.sampleRate, out: this.mode === "none" ? "none" : "pcm",
    });
    const token = $("token").value || options.get("token");
    this.socket = new WebSocket(url, token ? ["speechtok", `speechtok.token.${token}`] : ["speechtok"]);
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

  send(block) {
    const pcm = new Int16Array(block.length);
    for (let i = 0; i < block.length; i++) pcm[i] = Math.max(-32768, Math.min(32767, Math.round(block[i] * 32768)));
    if (this.stopped || this.socket.readyState !== WebSocket.OPEN || this.socket.bufferedAmount > 64000) return;
    this.keep?.push(pcm);
    const now = performance.now();
    const before = Math.floor(this.samples / this.session.hop_length);
    this.samples += pcm.length;
    for (let f = before; f < Math.floor(this.samples / this.session.hop_length); f++) this.sent[f % 1000] = now;
    this.bytesOut += pcm.byteLength + 1;
    this.socket.send(message(TYPE.audio, pcm));
  }

  take(bytes) {
    this.bytesIn += bytes.length;
    const payload = bytes.subarray(1);
    if (bytes[0] === TYPE.codes) this.takeCodes(unpackCodes(payload, this.session));
    else if (bytes[0] === TYPE.audio) this.takeAudio(payload);
    else if (bytes[0] === TYPE.metadata) this.takeMetadata(JSON.parse(new TextDecoder().decode(payload)));
    else if (bytes[0] === TYPE.error) addEvent(`error: ${new TextDecoder().decode(payload)}`);
    else if (bytes[0] === TYPE.ping) $("ping").textContent = `${(performance.now() - this.pinged).toFixed(1)} ms`;
  }

  takeCodes(frames) {
    for (const codes of frames) {
      shown.latencies.push(performance.now() - this.sent[shown.frames.length % 1000]);
      if (shown.latencies.length > 500) shown.latencies.shift();
      shown.agent[shown.frames.length] = this.agentHeard;
      shown.frames.push(codes);
      this.agentHeard = false;
    }
  }

  takeAudio(payload) {
    const pcm = new Int16Array(payload.slice().buffer);
    const samples = new Float32Array(pcm.length);
    for (let i = 0; i < pcm.length; i++) samples[i] = pcm[i] / 32768;
    this.agentHeard = true;
    this.player?.port.postMessage(samples, [samples.buffer]);
  }

  takeMetadata(fields) {
    if (fields.type === "session.created") {
      this.session = fields;
    } else if (fields.type === "vad.inference_done") {
      shown.speech.push(...fields.probabilities);
    } else {
      if (fields.type === "input_audio_buffer.ended") this.socket.close(); // after the last codes
      if (fields.type === "output_audio_buffer.cleared") this.player?.port.postMessage("clear");
      addEvent(describe(fields), fields);
    }
  }

  stop() {
    this.stopped = true;
    clearInterval(this.pinger);
    this.stream?.getTracks().forEach((track) => track.stop());
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
  const height = $("grid").height / call.session.num_codebooks;
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
    const seconds = (performance.now() - call.began) / 1000;
    $("rate").textContent = `${drawn}, ${Math.round(call.bytesOut / seconds)} out, ${Math.round(call.bytesIn / seconds)} in`;
  }
}

// --- controls

async function start() {
  $("start").disabled = true;
  Object.values(shown).forEach((list) => (list.length = 0));
  $("events").replaceChildren();
  $("status").textContent = "connecting";
  call = new Call($("mode").value);
  try {
    await call.start();
    $("status").textContent = `connected to tokenizer ${call.session.fingerprint}`;
    $("stop").disabled = false;
    $("speak").disabled = call.mode !== "scripted";
    setCodebooks();
    if (call.mode === "scripted") speak();
  } catch (error) {
    stop(`${error.name === "NotAllowedError" ? "the microphone is not allowed" : error.message}`);
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

const speak = () => call?.socket.send(metadata({ type: "response.create" }));

$("controls").onsubmit = (event) => event.preventDefault();
$("start").onclick = start;
$("stop").onclick = stop;
$("speak").onclick = speak;
$("codebooks").oninput = setCodebooks;
$("mode").onchange = () => call && (stop(), start());
if (options.has("mode")) $("mode").value = options.get("mode");
draw();
if (options.get("start") === "1") start();

// for tests and for the curious
window.speechtok = { shown, get call() { return call; } };

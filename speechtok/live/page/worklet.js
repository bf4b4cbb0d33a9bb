// Audio threads of the page: the microphone in blocks of 20 ms, and the agent's audio out.

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(sampleRate / 50);
    this.filled = 0;
  }

  process([[channel]]) {
    if (!channel) return true;
    for (let i = 0; i < channel.length; ) {
      const n = Math.min(channel.length - i, this.block.length - this.filled);
      this.block.set(channel.subarray(i, i + n), this.filled);
      this.filled += n;
      i += n;
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

// Plays what arrives, and counts what was played: after an interruption, the server learns it to the sample.
class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = [];
    this.waiting = this.played = this.gain = 0;
    this.reported = 0;
    this.started = false;
    this.port.onmessage = ({ data }) => {
      if (data === "clear") {
        this.tail = this.queue.length ? this.queue[0].slice(0, 80) : null; // 5 ms to fade
        this.queue = [];
        this.waiting = 0;
        this.started = false;
        this.port.postMessage({ cleared: this.played });
      } else {
        this.queue.push(data);
        this.waiting += data.length;
      }
    };
  }

  process(_, [[out]]) {
    // a short cushion against the jitter of the network
    if (!this.started && this.waiting >= sampleRate * 0.04) this.started = true;
    let i = 0;
    if (this.tail) {
      for (; i < Math.min(out.length, this.tail.length); i++) out[i] = this.tail[i] * (1 - i / this.tail.length);
      this.tail = null;
    }
    while (this.started && i < out.length && this.queue.length) {
      const part = this.queue[0];
      const n = Math.min(part.length, out.length - i);
      out.set(part.subarray(0, n), i);
      if (n === part.length) this.queue.shift();
      else this.queue[0] = part.subarray(n);
      i += n;
      this.waiting -= n;
      this.played += n;
    }
    if (!this.queue.length) this.started = false;
    if (this.played - this.reported >= sampleRate / 10) {
      this.reported = this.played;
      this.port.postMessage({ played: this.played });
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
registerProcessor("player", Player);

/** The program of the audio thread: collects samples to chunks. See microphone.ts. */
class MicrophoneProcessor extends AudioWorkletProcessor {
    chunk;
    count = 0;
    open = true;
    constructor({ processorOptions }) {
        super();
        this.chunk = new Float32Array(processorOptions.length);
        this.port.onmessage = () => {
            this.open = false;
            this.send();
            this.port.postMessage(null); // there is no more
        };
    }
    process([input]) {
        let samples = input?.[0]; // the node mixes the channels to one
        while (this.open && samples?.length) {
            const some = samples.subarray(0, this.chunk.length - this.count);
            this.chunk.set(some, this.count);
            this.count += some.length;
            samples = samples.subarray(some.length);
            if (this.count === this.chunk.length)
                this.send();
        }
        return this.open;
    }
    send() {
        const chunk = this.chunk.slice(0, this.count);
        this.count = 0;
        if (chunk.length)
            this.port.postMessage(chunk, [chunk.buffer]);
    }
}
registerProcessor("speechtok-microphone", MicrophoneProcessor);
export {};

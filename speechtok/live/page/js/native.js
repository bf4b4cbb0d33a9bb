import { SpeechtokError, codeOf } from "./errors.js";
import { readSource } from "./files.js";
const RESULTS = 8;
/** A module of one function that returns a vector. */
const VECTOR_PROBE = new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7b, 3, 2, 1, 0, 10, 10, 1, 8, 0, 0x41, 0, 0xfd, 15, 0xfd, 98, 11,
]);
/** The fastest kind that this engine runs. */
export function bestKind() {
    return WebAssembly.validate(VECTOR_PROBE) ? "simd" : "scalar";
}
/** An instance of the module, and the traffic with its memory. */
export class Native {
    functions;
    kind;
    result;
    constructor(functions, kind) {
        this.functions = functions;
        this.kind = kind;
        functions._initialize();
        this.result = this.allocate(4 * RESULTS);
    }
    static async open(kind) {
        const url = kind === "simd"
            ? new URL("./speechtok.simd.wasm", import.meta.url)
            : new URL("./speechtok.scalar.wasm", import.meta.url);
        const module = await WebAssembly.compile((await readSource(url)));
        const instance = await WebAssembly.instantiate(module, {});
        return new Native(instance.exports, kind);
    }
    /** Call a function that returns a status, after copies of arrays to its memory; they are released afterwards. */
    call(arrays, run) {
        const addresses = [];
        try {
            for (const array of arrays)
                addresses.push(this.copyIn(array));
            this.check(run(this.result, ...addresses));
            return new Uint32Array(this.functions.memory.buffer.slice(this.result, this.result + 4 * RESULTS));
        }
        finally {
            for (const address of addresses)
                this.functions.release(address);
        }
    }
    /** The numbers that a function writes which cannot fail. */
    read(run) {
        return this.call([], (result) => (run(result), 0));
    }
    takeCodes(address, count) {
        return new Uint16Array(this.take(address, 2 * count));
    }
    takeSamples(address, count) {
        return new Float32Array(this.take(address, 4 * count));
    }
    /** Copy an array of the module, and release it. */
    take(address, size) {
        const copied = this.functions.memory.buffer.slice(address, address + size);
        this.functions.release(address);
        return copied;
    }
    text(address) {
        const bytes = new Uint8Array(this.functions.memory.buffer);
        return new TextDecoder().decode(bytes.slice(address, bytes.indexOf(0, address)));
    }
    allocate(size) {
        const address = this.functions.allocate(size) >>> 0;
        if (!address)
            throw new SpeechtokError("no-memory", `there is not enough memory for ${size} bytes`);
        return address;
    }
    copyIn(array) {
        const address = this.allocate(array.byteLength);
        const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
        new Uint8Array(this.functions.memory.buffer).set(bytes, address);
        return address;
    }
    check(status) {
        if (status)
            throw new SpeechtokError(codeOf(status), this.text(this.functions.error_message()));
    }
}

import { SpeechtokError } from "./errors.js";
const registry = new FinalizationRegistry((release) => release());
/** An object of the module: freed by `close`, or some time after its last use. */
export class Handle {
    #address;
    #release;
    constructor(address, release) {
        this.#address = address;
        this.#release = () => release(address);
        registry.register(this, this.#release, this);
    }
    /** @internal */
    get address() {
        if (this.#address)
            return this.#address;
        throw new SpeechtokError("bad-state", `this ${this.constructor.name} was closed; open another one`);
    }
    /** Free its memory at once. */
    close() {
        if (!this.#address)
            return;
        this.#address = 0;
        registry.unregister(this);
        this.#release();
    }
}

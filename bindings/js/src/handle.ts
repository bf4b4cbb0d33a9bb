import { SpeechtokError } from "./errors.js";
import type { Address } from "./native.js";

const registry = new FinalizationRegistry<() => void>((release) => release());

/** An object of the module: freed by `close`, or some time after its last use. */
export class Handle {
  #address: Address;
  readonly #release: () => void;

  protected constructor(address: Address, release: (address: Address) => void) {
    this.#address = address;
    this.#release = () => release(address);
    registry.register(this, this.#release, this);
  }

  /** @internal */
  protected get address(): Address {
    if (this.#address) return this.#address;
    throw new SpeechtokError("bad-state", `this ${this.constructor.name} was closed; open another one`);
  }

  /** Free its memory at once. */
  close(): void {
    if (!this.#address) return;
    this.#address = 0;
    registry.unregister(this);
    this.#release();
  }
}

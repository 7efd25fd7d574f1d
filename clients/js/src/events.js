/**
 * Listeners by the name of an event; `Events` says what each event carries.
 *
 * @template {object} Events
 */
export class Emitter {
  /** @type {Map<keyof Events, Set<(event: any) => void>>} */
  #listeners = new Map();

  /**
   * Calls `listener` at each event of this name, until the function that is returned has been called.
   *
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(event: Events[Name]) => void} listener
   * @returns {() => void}
   */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  /**
   * The next event of this name.
   *
   * @template {keyof Events} Name
   * @param {Name} name
   * @returns {Promise<Events[Name]>}
   */
  next(name) {
    return new Promise((resolve) => {
      const off = this.on(name, (event) => {
        off();
        resolve(event);
      });
    });
  }

  /**
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {Events[Name]} event
   * @internal
   */
  _emit(name, event) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        // It shows as uncaught, as with the platform's own events, and harms nobody else.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

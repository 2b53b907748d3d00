// What all scenarios share: a client of the agent that CONSUL_HTTP_HOST names, and a watch whose changes can be awaited.

import Consul from "consul";

const PATIENCE_MS = 10000;

export const consul = new Consul({ host: process.env.CONSUL_HTTP_HOST, port: 8500 });

export async function until(condition, what) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Notes every change of a watch, for the test `t`, at whose end it is over. */
export class Watched {
  constructor(t, method, options) {
    this.changes = [];
    this.errors = [];
    this._waiting = [];
    this._watch = consul.watch({ method, options, backoffFactor: 10, maxAttempts: 3 });
    this._watch.on("change", (data) => this._add(data));
    this._watch.on("error", (error) => this.errors.push(error));
    t.after(() => this._watch.end());
  }

  /** The change number `count`, counting from 1, as soon as it is there. */
  change(count) {
    if (this.changes.length >= count) return Promise.resolve(this.changes[count - 1]);
    return new Promise((resolve, reject) => {
      const failure = () => reject(new Error(`waited in vain for change ${count}; errors: ${this.errors}`));
      const timer = setTimeout(failure, PATIENCE_MS);
      this._waiting.push({ count, resolve, timer });
    });
  }

  _add(data) {
    this.changes.push(data);
    const due = this._waiting.filter((one) => one.count <= this.changes.length);
    this._waiting = this._waiting.filter((one) => one.count > this.changes.length);
    for (const one of due) {
      clearTimeout(one.timer);
      one.resolve(this.changes[one.count - 1]);
    }
  }
}

const MOST_TRIES = 5;

/** An error that the server tells in words. */
export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

/** Asks the server, with the key that was given in this tab. */
export class Server {
  /** The key is kept apart from those of other servers behind one proxy. */
  #place = `key of ${location.pathname}`;

  /** @param {(again: boolean) => Promise<string>} askKey asks the person for a key; again: the last one was wrong. */
  constructor(askKey) {
    this.askKey = askKey;
  }

  /** Returns the response of a path below the page's own folder, asked for again while the server is busy. */
  async ask(path, options = {}) {
    for (let tries = 1; ; tries += 1) {
      const key = sessionStorage.getItem(this.#place);
      const response = await this.#fetch(path, { ...options, headers: key ? { "X-API-Key": key } : {} });
      if (response.ok) return response;
      if (response.status === 401) {
        // Another request may have asked for it meanwhile.
        if (sessionStorage.getItem(this.#place) === key) {
          sessionStorage.removeItem(this.#place);
          const given = await this.#oneKey(key !== null);
          if (!given) throw new Refused(401, "This server needs its API key: load the page again to give it.");
          sessionStorage.setItem(this.#place, given);
        }
        continue;
      }
      if (response.status === 503 && tries < MOST_TRIES) {
        const seconds = Number(response.headers.get("retry-after")) || 1;
        await new Promise((done) => setTimeout(done, Math.min(seconds, 5) * 1000));
        options.signal?.throwIfAborted();
        continue;
      }
      const told = await response.json().catch(() => ({}));
      throw new Refused(response.status, told.error ?? `The server answers ${response.status}.`);
    }
  }

  /** Returns what `POST /v1/predict` answers to a file; query: its parameters. */
  predict(file, query, signal) {
    const body = new FormData();
    body.append("file", file);
    const parameters = new URLSearchParams(query.flatMap(([name, value]) => (value === null ? [] : [[name, value]])));
    return this.ask(`v1/predict?${parameters}`, { method: "POST", body, signal });
  }

  /** Asks the person once, however many requests want to know. */
  #oneKey(again) {
    this.asking ??= this.askKey(again).finally(() => {
      this.asking = null;
    });
    return this.asking;
  }

  async #fetch(path, options) {
    try {
      return await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, "The server does not answer. Does it still run?");
    }
  }
}

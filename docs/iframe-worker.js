// Search runs in a worker, which browsers refuse to load from a disk: there, a hidden frame runs the worker's script.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    #ready;

    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      const inside = (this.inside = frame.contentWindow);
      const load = (source) =>
        new Promise((resolve, reject) => {
          const script = inside.document.createElement("script");
          Object.assign(script, { src: source, onload: resolve, onerror: reject });
          inside.document.head.append(script);
        });
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = async (...sources) => {
        for (const source of sources) await load(source);
      };
      this.#ready = load(url);
    }

    async postMessage(data) {
      await this.#ready;
      this.inside.dispatchEvent(new MessageEvent("message", { data }));
    }
  };

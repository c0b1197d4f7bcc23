// Browsers refuse to start a worker for a page that was opened from the disk. The search runs in a worker, so there the
// worker's script runs in a hidden frame instead. Pages from a server keep the browser's own workers.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.frame = frame;
      const inside = frame.contentWindow;
      // What the script posts is for the page.
      inside.postMessage = (data) => this.#tell(this, data);
      inside.importScripts = (...scripts) => scripts.forEach((script) => this.#load(script));
      this.ready = this.#load(address);
    }

    #load(address) {
      const script = this.frame.contentDocument.createElement("script");
      script.src = new URL(address, location.href);
      const loaded = new Promise((resolve) => script.addEventListener("load", resolve));
      this.frame.contentDocument.body.append(script);
      return loaded;
    }

    // A message is a copy and comes later, as between a page and a real worker.
    #tell(target, data) {
      const event = new MessageEvent("message", { data: structuredClone(data) });
      setTimeout(() => {
        target.dispatchEvent(event);
        if (target === this && this.onmessage) this.onmessage(event);
      });
    }

    postMessage(data) {
      this.ready.then(() => this.#tell(this.frame.contentWindow, data));
    }

    terminate() {
      this.frame.remove();
    }
  };
}

extension Playground {
    /// What a model or the server says goes into the page as text only (`textContent`, `append`), never as HTML.
    static let script = #"""

        "use strict";
        const byId = id => document.getElementById(id);
        const count = new Intl.NumberFormat("en");
        let key = "";            // lives in this page's memory only
        let seesDetails = true;  // false once the server has kept its list of adapters from this key

        // One short sentence at a time: a screen reader reads it, while the streamed text itself stays quiet.
        function say(text, isWrong = false) {
          byId("status").textContent = text;
          byId("status").classList.toggle("wrong", isWrong);
        }

        class Refused extends Error {
          constructor(status, message) { super(message); this.status = status; }
        }

        async function request(path, options = {}) {
          const headers = { ...options.headers };
          if (key) headers.Authorization = `Bearer ${key}`;
          let response;
          try {
            response = await fetch(path, { cache: "no-store", ...options, headers });
          } catch (error) {
            throw error.name === "AbortError" ? error : new Refused(0, "The server cannot be reached.");
          }
          if (response.ok) return response;
          const reply = await response.json().catch(() => ({}));
          throw new Refused(response.status, reply.error?.message ?? `The server answered ${response.status}.`);
        }

        // The data of server-sent events; this server writes each on one line.
        async function* events(stream) {
          const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
          let rest = "";
          for (;;) {
            const { value, done } = await reader.read();
            if (done) return;
            const lines = (rest + value).split("\n");
            rest = lines.pop();
            for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
          }
        }

        class Answer {
          constructor(title) {
            const element = byId("answer").content.cloneNode(true).firstElementChild;
            for (const part of element.querySelectorAll("[data-is]")) this[part.dataset.is] = part;
            this.title.textContent = title;
            this.stop.setAttribute("aria-label", `Stop the ${title.toLowerCase()}`);
            this.stop.addEventListener("click", () => this.abort());
            this.clear("No answer yet.");
            element.setAttribute("aria-label", title);
            byId("answers").append(element);
          }

          get isRunning() { return this.stop.getAttribute("aria-disabled") === "false"; }
          set isRunning(value) {
            this.stop.setAttribute("aria-disabled", String(!value));
            this.text.setAttribute("aria-busy", String(value));
          }

          abort() { this.controller?.abort(); }

          clear(text) {
            this.text.className = "text empty";
            this.text.textContent = text;
            for (const part of [this.first, this.speed, this.prompt, this.length]) part.textContent = "–";
          }

          fail(message) {
            this.text.className = "text";
            this.text.append(cell("p", message, "wrong"));
          }

          // Resolves to a sentence about how it went.
          async ask(question) {
            this.controller = new AbortController();
            this.isRunning = true;
            this.clear("");
            this.started = performance.now();
            this.firstTime = this.lastTime = this.pieces = 0;
            this.usage = this.reason = null;
            const model = this.model.value;
            try {
              await this.read(await request("v1/chat/completions", {
                method: "POST",
                headers: { "Content-Type": "application/json" },
                signal: this.controller.signal,
                body: JSON.stringify({ model, ...question, stream: true, stream_options: { include_usage: true } }),
              }));
            } catch (error) {
              if (error.name === "AbortError") this.reason = "stopped";
              else return this.refused(model, error);
            } finally {
              this.isRunning = false;
            }
            return this.report(model);
          }

          async read(response) {
            for await (const data of events(response.body)) {
              if (data === "[DONE]") return;
              const chunk = JSON.parse(data);
              if (chunk.error) throw new Refused(0, chunk.error.message);
              this.take(chunk);
            }
            throw new Refused(0, "The connection ended before the answer did.");
          }

          take(chunk) {
            this.usage = chunk.usage ?? this.usage;
            const choice = chunk.choices[0];
            if (!choice) return;
            this.lastTime = performance.now();
            if (choice.delta.content) {
              this.firstTime ||= this.lastTime;
              this.pieces += 1;
              this.text.classList.remove("empty");
              this.text.append(choice.delta.content);
              this.showTimes(this.pieces);
            }
            this.reason = choice.finish_reason ?? this.reason;
          }

          // Between the first token and the last there are tokens - 1 steps.
          showTimes(tokens) {
            if (!this.firstTime) return;
            this.first.textContent = `${count.format(Math.round(this.firstTime - this.started))} ms`;
            const seconds = (this.lastTime - this.firstTime) / 1000;
            if (tokens > 1 && seconds > 0) this.speed.textContent = `${((tokens - 1) / seconds).toFixed(1)} tokens/s`;
          }

          report(model) {
            const tokens = this.usage?.completion_tokens ?? this.pieces;
            this.showTimes(tokens);
            if (this.usage) {
              const cached = this.usage.prompt_tokens_details?.cached_tokens ?? 0;
              this.prompt.textContent = `${count.format(this.usage.prompt_tokens)} (${count.format(cached)} cached)`;
            }
            const end = { stop: "", length: ", cut at the limit", stopped: ", stopped" }[this.reason] ?? "";
            const tokensOrSo = `${this.usage ? "" : "about "}${count.format(tokens)} tokens${end}`;
            this.length.textContent = tokensOrSo;
            if (!this.pieces) this.text.textContent = this.reason === "stopped" ? "Stopped." : "The answer is empty.";
            return `${model}: ${tokensOrSo}.`;
          }

          refused(model, error) {
            if (error.status === 401) askForKey(error.message);
            this.fail(error.message);
            return `${model}: ${error.message}`;
          }
        }

        const answers = [new Answer("First answer"), new Answer("Second answer")];
        const isAnswering = () => answers.some(answer => answer.isRunning);

        function question() {
          const messages = [{ role: "user", content: byId("prompt").value }];
          if (byId("system").value.trim()) messages.unshift({ role: "system", content: byId("system").value });
          const fields = {
            messages, temperature: byId("temperature").valueAsNumber, max_tokens: byId("limit").valueAsNumber,
          };
          return byId("seed").value ? { ...fields, seed: byId("seed").valueAsNumber } : fields;
        }

        async function send() {
          if (isAnswering()) return say("Still answering; Esc stops.");
          if (!answers.every(answer => answer.model.value)) return say("There is no model to ask.", true);
          if (!byId("ask").reportValidity()) return;
          const asked = question();
          byId("send").setAttribute("aria-disabled", "true");
          say("Answering…");
          const reports = await Promise.all(answers.map(answer => answer.ask(asked)));
          byId("send").setAttribute("aria-disabled", "false");
          say(reports.join(" "));
          refresh();
        }

        function askForKey(message) {
          byId("access").hidden = false;
          byId("key").focus();
          say(message, true);
        }

        function choose(select, ids, preferred) {
          const kept = ids.includes(select.value) ? select.value : preferred;
          select.replaceChildren(...ids.map(id => new Option(id, id)));
          select.value = kept;
        }

        async function refreshModels() {
          const models = (await (await request("v1/models")).json()).data;
          const base = models.find(model => !model.parent)?.id;
          const adapters = models.filter(model => model.parent).map(model => model.id).sort();
          const ids = base === undefined ? adapters : [base, ...adapters];
          const known = `${count.format(adapters.length)} adapter${adapters.length === 1 ? "" : "s"}`;
          byId("summary").textContent = base === undefined ? known : `${base} and ${known}`;
          answers.forEach((answer, index) => {
            const shown = Array.from(answer.model.options, option => option.value);
            if (shown.join("\n") !== ids.join("\n")) choose(answer.model, ids, ids[Math.min(index, ids.length - 1)]);
          });
          return adapters;
        }

        async function details() {
          if (!seesDetails) return null;
          try {
            return await (await request("lora-adapters")).json();
          } catch (error) {
            if (![401, 403, 404].includes(error.status)) throw error;
            seesDetails = false;
            return null;
          }
        }

        function cell(kind, text, className = "") {
          const element = document.createElement(kind);
          element.textContent = text;
          element.className = className;
          return element;
        }

        const megabytes = bytes => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1)} MB`;

        function ago(seconds) {
          const passed = Math.max(0, Math.round(Date.now() / 1000 - seconds));
          const format = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
          for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
            if (passed >= size) return format.format(-Math.floor(passed / size), unit);
          }
          return format.format(-passed, "second");
        }

        // A file that was refused and has no version in service has no size, rank and requests.
        function row(adapter) {
          const isServed = adapter.version !== null;
          const name = cell("th", adapter.name);
          name.scope = "row";
          const version = cell("td", "");
          version.append(cell("code", (adapter.version ?? "").slice(0, 8)));
          version.title = adapter.version ?? "";
          const swap = cell("td", "");
          if (adapter.swapped) {
            const time = cell("time", ago(adapter.swapped));
            time.dateTime = time.title = new Date(adapter.swapped * 1000).toISOString();
            swap.append(time);
          }
          const state = adapter.failure
            ? cell("td", `${isServed ? "newer file" : "file"} refused: ${adapter.failure}`, "wrong")
            : cell("td", adapter.loaded ? "in memory" : "loads when asked");
          const element = document.createElement("tr");
          element.append(
            name, version, cell("td", isServed ? megabytes(adapter.bytes) : "", "number"),
            cell("td", isServed ? adapter.rank : "", "number"),
            cell("td", isServed ? count.format(adapter.requests) : "", "number"), swap, state);
          return element;
        }

        function nameRow(name) {
          const element = document.createElement("tr");
          const header = cell("th", name);
          header.scope = "row";
          element.append(header);
          return element;
        }

        async function refresh() {
          try {
            const names = await refreshModels();
            const adapters = await details();
            document.querySelectorAll("thead th:not(:first-child)").forEach(header => { header.hidden = !adapters; });
            byId("rows").replaceChildren(...(adapters ? adapters.map(row) : names.map(nameRow)));
            byId("note").textContent = (adapters ?? names).length ? "" : "There are no adapters.";
            byId("access").hidden = true;
          } catch (error) {
            if (error.status === 401) askForKey(error.message);
            else say(error.message, true);
          }
        }

        byId("ask").addEventListener("submit", event => { event.preventDefault(); send(); });
        byId("access").addEventListener("submit", event => {
          event.preventDefault();
          key = byId("key").value.trim();
          byId("key").value = "";
          seesDetails = true;
          say("");
          refresh();
        });
        document.addEventListener("keydown", event => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); send(); }
          if (event.key === "Escape") answers.forEach(answer => answer.abort());
        });
        setInterval(() => {
          if (document.visibilityState === "visible" && byId("access").hidden && !isAnswering()) refresh();
        }, 10000);
        refresh();

        """#
}

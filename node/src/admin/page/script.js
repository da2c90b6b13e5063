"use strict";
// Asks for the page again when something happens. The token is kept for this tab only, and sent where the node looks for it.
const place = document.body.dataset.tokenPlace, name = document.body.dataset.tokenName;
const field = document.getElementById("token-value"), live = document.getElementById("live"), answer = document.getElementById("answer");
const KEY = "fednode-token", token = () => sessionStorage.getItem(KEY) || "";

function ask(path, options = {}) {
  const url = new URL(path, location.origin), headers = new Headers(options.headers);
  if (token() && place === "query") url.searchParams.set(name, token());
  if (token() && place === "header") headers.set(name, name.toLowerCase() === "authorization" ? "Bearer " + token() : token());
  return fetch(url, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
}

function localTimes(root) {
  for (const time of root.querySelectorAll("time")) time.textContent = new Date(time.dateTime).toLocaleString();
}

function actions() {
  for (const section of document.querySelectorAll(".actions")) section.hidden = !token();
}

async function show() {
  const response = await ask("/", { headers: { Accept: "text/html" } });
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  const main = fresh.querySelector("main");
  if (!main) throw new Error(response.status + " " + response.statusText);
  for (const open of document.querySelectorAll("main details[open]")) {
    const same = main.querySelector(`details[data-id="${CSS.escape(open.dataset.id)}"]`);
    if (same) same.open = true;
  }
  localTimes(main);
  document.querySelector("main").replaceWith(document.adoptNode(main));
  document.title = fresh.title;
  actions();
  return response.ok;
}

// At most two a second, and always one after the last event.
let due = 0;
function soon() {
  if (due) return;
  due = setTimeout(() => { due = 0; show().catch(lost); }, 500);
}

function lost(error) { live.textContent = "lost: " + error.message; live.className = "bad"; }

// A stream by `fetch`, because an EventSource cannot carry a token in a header.
let stream = null;
async function follow() {
  if (stream) stream.abort();
  const mine = stream = new AbortController();
  for (let pause = 1000; !mine.signal.aborted; pause = Math.min(pause * 2, 15000)) {
    try {
      if (await show()) {
        const response = await ask("/v1/events", { signal: mine.signal });
        if (!response.ok) throw new Error(String(response.status));
        live.textContent = "live"; live.className = "good";
        // Between being shown and being subscribed something may have happened.
        soon();
        pause = 1000;
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        for (let part = await reader.read(); !part.done; part = await reader.read()) if (/^data:/m.test(part.value)) soon();
        throw new Error("the stream ended");
      }
      live.textContent = token() ? "this token does not count" : "wants a token"; live.className = "busy";
      if (stream === mine) return;
    } catch (error) {
      if (mine.signal.aborted) return;
      lost(error);
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

document.getElementById("token").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, field.value.trim());
  field.value = "";
  follow();
});
document.getElementById("forget").addEventListener("click", () => { sessionStorage.removeItem(KEY); location.reload(); });

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-post]");
  if (!button || !token() || (button.dataset.sure && !confirm(button.dataset.sure))) return;
  answer.hidden = false;
  answer.textContent = "…";
  try {
    const response = await ask(button.dataset.post, { method: "POST" });
    const outcome = await response.json();
    answer.textContent = JSON.stringify(outcome, null, 2);
  } catch (error) { answer.textContent = error.message; }
  soon();
});

document.getElementById("token").hidden = !place;
localTimes(document);
actions();
// On the socket no token is needed. A page that was opened by a link with a token in it stays as it is: the link is not the script's.
if (token() || (!place && document.querySelector("main").dataset.open === "true")) follow();
setInterval(() => { if (live.textContent === "live") soon(); }, 10000);

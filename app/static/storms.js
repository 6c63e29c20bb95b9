// Replaces the page's content every 5 s without losing the scroll position; says so when the answers stop.
"use strict";

const EVERY_MS = 5000;
const PATIENCE_MS = 4000;

async function refresh() {
  const stale = document.getElementById("stale");
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("main[data-now]");
    if (!fresh) throw new Error("not the storms page");
    document.querySelector("main").replaceWith(fresh);
    document.title = page.title;
    stale.querySelector("b").textContent = fresh.dataset.now;
    stale.hidden = true;
  } catch {
    stale.hidden = false;
    document.title = "! no answer · stormfold";
  }
}

setInterval(() => { if (!document.hidden) refresh(); }, EVERY_MS);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });

"use strict";

// Tabs that can be linked to (#operations) and walked with the arrow keys, as WAI-ARIA's pattern has it.

const tabs = ["try", "operations", "api"];

function showTab(name, focus) {
  for (const one of tabs) {
    const chosen = one === name, tab = $(`tab-${one}`);
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    $(`${one}-panel`).hidden = !chosen;
    if (chosen && focus) tab.focus();
  }
  if (name !== "try" && stream) closeCamera();
  if (name === "operations") refreshStats();
  if (name === "api") showRecipes();
}

const tabOfAddress = () => tabs.includes(location.hash.slice(1)) ? location.hash.slice(1) : "try";

for (const name of tabs) {
  $(`tab-${name}`).addEventListener("click", () => {
    // An address without a hash is the first tab's. No element has the hash as its id: the browser shall not scroll.
    window.history.replaceState(null, "", name === "try" ? location.pathname + location.search : `#${name}`);
    showTab(name);
  });
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    const at = tabs.indexOf(name);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const other = tabs[(to + tabs.length) % tabs.length];
    $(`tab-${other}`).click();
    $(`tab-${other}`).focus();
  });
}
window.addEventListener("hashchange", () => showTab(tabOfAddress()));
showTab(tabOfAddress());

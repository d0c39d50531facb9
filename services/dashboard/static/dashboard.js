// What the pages do by themselves: show what is sent, and keep the choice between light and dark.
const dashboard = {
  // Replace the pieces of the page that have changed; `changed` maps names of places to HTML.
  show(changed) {
    for (const [name, html] of Object.entries(changed)) {
      const place = document.querySelector(`[data-live="${name}"]`);
      if (!place) continue;
      const open = [...place.querySelectorAll("details[open]")].map((details) => details.id);
      place.innerHTML = html;
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    }
  },

  // null follows the system, as on the first visit.
  chosenTheme() {
    return { dark: true, light: false }[localStorage.getItem("botify-theme")] ?? null;
  },

  isDark() {
    return this.chosenTheme() ?? matchMedia("(prefers-color-scheme: dark)").matches;
  },

  turnTheme() {
    localStorage.setItem("botify-theme", this.isDark() ? "light" : "dark");
    this.applyTheme();
  },

  applyTheme() {
    document.documentElement.dataset.theme = this.isDark() ? "dark" : "light";
    if (window.Quasar) Quasar.Dark.set(this.isDark());
  },
};

dashboard.applyTheme();
// Quasar sets its own classes when the page is mounted, a moment later
addEventListener("load", () => setTimeout(() => dashboard.applyTheme()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dashboard.applyTheme());

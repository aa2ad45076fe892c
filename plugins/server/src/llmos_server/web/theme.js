// Set before the first paint, so that nothing flashes.  Not a module: those run later.
document.documentElement.dataset.theme = localStorage.getItem("llmos.theme") ?? "auto";

// Draws a chart when its place is first seen: those in folds wait until these are opened. One that
// says how much room its axes and names take follows the width of its place, and so do panels that
// stand side by side: in as many columns as there is room for. Panels that belong together stay in
// one row, or below each other, and keep their proportions.
function chart(id, spec, options) {
  const place = document.getElementById(id);
  const { room, panels, together } = spec.usermeta || {};
  const views = panels ? spec.vconcat.flatMap((row) => row.hconcat) : spec.vconcat || [spec];
  const ratios = views.map((view) => view.height / view.width);
  let width = 0;
  function draw() {
    const now = place.clientWidth;
    if (!now || now === width || (width && !room && !panels)) return;
    width = now;
    if (panels) {
      let columns = Math.min(views.length, Math.max(1, Math.floor(now / 280)));
      if (together) columns = Math.max(1, columns - (columns % together));
      spec.vconcat = [];
      for (let first = 0; first < views.length; first += columns) {
        spec.vconcat.push({ hconcat: views.slice(first, first + columns), spacing: 8 });
      }
      for (const [index, view] of views.entries()) {
        view.width = now / columns - (room || 76);
        if (together) view.height = view.width * ratios[index];
      }
    } else if (room) {
      for (const view of views) view.width = Math.max(120, now - room);
    } else if (!spec.vconcat) {
      spec.width = "container";
    }
    vegaEmbed(place, spec, options).catch(console.error);
  }
  new ResizeObserver(() => requestAnimationFrame(draw)).observe(place);
}

// An address or a click in the menu that leads into a fold opens it.
function unfold() {
  const target = document.getElementById(location.hash.slice(1));
  const fold = target && target.closest("details");
  if (!fold) return;
  fold.open = true;
  fold.scrollIntoView();
}
addEventListener("hashchange", unfold);
document.querySelector("nav").addEventListener("click", () => setTimeout(unfold));
unfold();

// Print has everything.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const fold of closed) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of closed) fold.open = false;
});

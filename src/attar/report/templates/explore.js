// The frontier: the slider, its arrow keys and the chart's points all choose a candidate, and the page tells of it.
{
  const explorer = document.getElementById("explorer");
  const stops = explorer ? JSON.parse(explorer.querySelector("script.stops").textContent) : [];
  const figure = document.getElementById("chart-frontier");
  const slider = document.getElementById("budget");
  const fields = explorer ? [...explorer.querySelectorAll("[data-field]")] : [];
  const lines = explorer ? [...explorer.querySelectorAll("#choices tbody tr")] : [];

  const show = (place) => {
    const stop = stops[place];
    slider.value = place;
    slider.setAttribute("aria-valuetext", stop.spoken);
    for (const field of fields) field.textContent = stop[field.dataset.field];
    for (const tag of explorer.querySelectorAll(".written")) tag.hidden = !stop.chosen;
    explorer.querySelector(".copyable").hidden = stop.command === "";
    explorer.querySelector(".copied").textContent = "";
    lines.forEach((line, row) => {
      const [method, bits, share, bitsLength, shareLength] = stop.layers[row] ?? ["–", "–", "–", 0, 0];
      const [, first, second, third] = line.cells;
      first.textContent = method;
      second.querySelector(".number").textContent = bits;
      third.querySelector(".number").textContent = share;
      second.querySelector(".fill").setAttribute("width", `${bitsLength}%`);
      third.querySelector(".fill").setAttribute("width", `${shareLength}%`);
    });
    mark(stop);
  };

  // A disc around the candidate, in the live chart or in the still one.
  const mark = (stop) => {
    if (figure.view) {
      const all = figure.view.data("points").filter((point) => point.index === stop.name);
      figure.view.data("picked", all.map((point) => ({ ...point }))).runAsync();
    }
    for (const dot of figure.querySelectorAll("circle[data-name]"))
      dot.classList.toggle("picked", dot.dataset.name === stop.name);
  };

  // The candidate whose point is nearest to the pointer; while it is dragged, the level distance counts most.
  const nearest = (event) => {
    const places = stops.flatMap((stop, place) =>
      figure.spots(stop).map(([x, y]) => [Math.hypot(x - event.clientX, (event.type === "pointermove" ? 0.1 : 1) * (y - event.clientY)), place]),
    );
    return places.sort((a, b) => a[0] - b[0])[0];
  };

  if (stops.length > 1 && figure) {
    explorer.querySelector(".budget").hidden = false;
    slider.addEventListener("input", () => show(Number(slider.value)));
    const canvas = figure.querySelector(".canvas");
    canvas.classList.add("draggable");
    canvas.addEventListener("pointerdown", (event) => {
      const found = nearest(event);
      if (found && found[0] < 40) show(found[1]);
    });
    canvas.addEventListener("pointermove", (event) => {
      const found = event.buttons === 1 ? nearest(event) : undefined;
      if (found) show(found[1]);
    });
    figure.addEventListener("drawn", () => mark(stops[Number(slider.value)]));
    mark(stops[Number(slider.value)]);
  }

  const copy = explorer?.querySelector("button.copy");
  if (copy) {
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      const code = explorer.querySelector("[data-field=command]");
      const said = explorer.querySelector(".copied");
      try {
        await navigator.clipboard.writeText(code.textContent);
        said.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(code);
        said.textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it with the keyboard";
      }
    });
  }
}

"use strict";
// Live charts in place of the still drawings, one after the other, so that the page answers in between; Vega comes last.
// Expressions are interpreted (ast), since the page's policy forbids eval.
addEventListener("DOMContentLoaded", async () => {
  if (typeof vegaEmbed === "undefined") return;
  for (const figure of document.querySelectorAll("figure.chart")) {
    await draw(figure);
    await new Promise((resolve) => setTimeout(resolve));
  }
});

async function draw(figure) {
  const canvas = figure.querySelector(".canvas");
  const still = canvas.querySelector("svg");
  const live = document.createElement("div");
  live.className = "live";
  canvas.append(live);
  still.style.display = "none";
  const spec = JSON.parse(figure.querySelector("script.spec").textContent);
  const options = {
    renderer: "svg",
    actions: false,
    ast: true,
    defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  };
  // A chart made for a wide window would be printed with tiny text: on paper it is drawn anew at the paper's width.
  const onPaper = figure.closest(".panels.named") ? 320 : 650;
  try {
    const { view } = await vegaEmbed(live, spec, options);
    addEventListener("beforeprint", () => view.signal("width", onPaper).run());
    addEventListener("afterprint", () => view.signal("width", live.clientWidth).run());
    const drawn = live.querySelector("svg");
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", still.getAttribute("aria-label"));
    drawn.removeAttribute("aria-roledescription");
    for (const part of drawn.children) part.setAttribute("aria-hidden", "true");
    still.remove();
    figure.view = view;
    figure.dataset.live = "yes";
    figure.dispatchEvent(new Event("drawn"));
  } catch (error) {
    live.remove();
    still.style.display = "";
    console.error(error);
  }
}

// On the screen, the places of a candidate's points.
for (const figure of document.querySelectorAll("#chart-frontier")) {
  figure.spots = ({ name, x, y }) => {
    const view = figure.view;
    if (!view) {
      const dots = [...figure.querySelectorAll("circle[data-name]")].filter((dot) => dot.dataset.name === name);
      return dots.map((dot) => dot.getBoundingClientRect()).map((box) => [box.x + box.width / 2, box.y + box.height / 2]);
    }
    const box = figure.querySelector(".live svg").getBoundingClientRect();
    const [left, top] = view.origin();
    return [[box.x + left + view.scale("x")(x), box.y + top + view.scale("y")(y)]];
  };
}

for (const hint of document.querySelectorAll(".hint")) hint.hidden = false;

// Tables sort by a click on a heading: numbers from the largest, text from a to z, unknown values last.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const body = button.closest("table").tBodies[0];
    const column = heading.cellIndex;
    const text = "text" in button.dataset;
    const before = heading.getAttribute("aria-sort");
    const ascending = before === "none" ? text : before === "descending";
    for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = text ? x.localeCompare(y, "en", { numeric: true }) : Number(x) - Number(y);
      return ascending ? order : -order;
    };
    body.append(...[...body.rows].sort(compare));
  });
}

extension ReportPage {
    /// Shows the numbers under the pointer. Everything is on the page without it.
    static let script: HTML = #"""

        "use strict";
        const place = (svg, event) => {
          const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
          return [(event.clientX - box.left) * view.width / box.width,
                  (event.clientY - box.top) * view.height / box.height];
        };
        const nearest = (numbers, x) =>
          numbers.reduce((best, number, at) => Math.abs(number - x) < Math.abs(numbers[best] - x) ? at : best, 0);
        const follow = (svg, show) => {
          const readout = svg.closest("figure").querySelector(".readout");
          svg.addEventListener("pointermove", event => { readout.textContent = show(...place(svg, event)); });
          svg.addEventListener("pointerleave", () => { readout.textContent = show(NaN, NaN); });
        };
        for (const svg of document.querySelectorAll("svg:has(.series)")) {
          const pointer = svg.querySelector(".pointer");
          const series = Array.from(svg.querySelectorAll(".series"), ({ dataset }) => ({
            name: dataset.name, steps: dataset.steps.split(" "), x: dataset.x.split(" ").map(Number),
            values: dataset.values.split("|"),
          }));
          follow(svg, x => {
            pointer.style.visibility = Number.isNaN(x) ? "hidden" : "visible";
            if (Number.isNaN(x)) return "";
            const places = series.map(({ x: all }) => nearest(all, x));
            const steps = series.map(({ steps }, i) => steps[places[i]]);
            const at = series[0].x[places[0]];
            pointer.setAttribute("x1", at);
            pointer.setAttribute("x2", at);
            return `step ${steps[0]}:  ` + series.map(({ name, values }, i) =>
              `${name}${steps[i] === steps[0] ? "" : ` (step ${steps[i]})`} ${values[places[i]]}`).join("  ·  ");
          });
        }
        for (const svg of document.querySelectorAll("svg.heat")) {
          const { left, top, width, height, rows, columns, values } = svg.dataset;
          const [down, across] = [rows.split("|"), columns.split("|")];
          const cells = values.split(";").map(row => row.split("|"));
          follow(svg, (x, y) => {
            const [column, row] = [Math.floor((x - left) / width), Math.floor((y - top) / height)];
            const value = cells[row]?.[column];
            return value ? `${down[row]}, ${across[column]}:  ${value}` : "";
          });
        }

        """#
}

extension ReportPage {
    /// Text on every background it is set on has a contrast of at least 4.5 : 1, in both colour schemes. The series'
    /// colours are told apart by people who do not see red and green, and their marks differ too.
    static let style: HTML = #"""

        :root {
          color-scheme: light dark;
          --page: #f6f6f3; --card: #ffffff; --text: #20262b; --quiet: #59636b; --line: #d9dcd8; --grid: #e8eae7;
          --accent: #0b6660; --c1: #2166ac; --c2: #c2500a; --ground: #f3f5f4;
        }
        @media screen and (prefers-color-scheme: dark) {
          :root {
            --page: #14181a; --card: #1c2124; --text: #e5e8e8; --quiet: #a1abb0; --line: #343b3f; --grid: #2a3034;
            --accent: #6fd0c4; --c1: #6db3f2; --c2: #f5a05c; --ground: #21272a;
          }
        }
        * { box-sizing: border-box; }
        body {
          margin: 0 auto; padding: 1.5rem clamp(0.875rem, 3vw, 2rem) 3rem; max-width: 78rem;
          background: var(--page); color: var(--text);
          font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif;
          overflow-wrap: anywhere;
        }
        h1, h2, h3, p, figure, dl, dd { margin: 0; }
        h1 { font-size: 1.5rem; font-weight: 650; letter-spacing: -0.01em; }
        h1 span { font-weight: 400; color: var(--quiet); }
        h2 { font-size: 1.0625rem; font-weight: 650; margin: 2rem 0 0.625rem; }
        h3 { font-size: 0.9375rem; font-weight: 600; }
        header p, section > p, .parts > p { color: var(--quiet); }
        .hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
        .parts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.875rem; }
        .wide { grid-column: 1 / -1; }
        figure, .card, .tiles > div {
          min-width: 0; padding: 0.875rem 1rem; background: var(--card); border: 1px solid var(--line);
          border-radius: 0.625rem;
        }
        .tiles {
          display: grid; grid-template-columns: repeat(auto-fit, minmax(9.25rem, 1fr)); gap: 0.875rem;
          margin-top: 1.25rem;
        }
        dt { font-size: 0.8125rem; color: var(--quiet); }
        .tiles dd { font-size: 1.375rem; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; }
        small { display: block; font-size: 0.75rem; line-height: 1.4; font-weight: 400; color: var(--quiet); }
        figcaption { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 1rem; }
        figcaption p { flex: 1 0 100%; font-size: 0.8125rem; color: var(--quiet); }
        .legend { display: flex; flex-wrap: wrap; gap: 0 0.875rem; margin: 0 0 0 auto; padding: 0; list-style: none; }
        .legend li { font-size: 0.8125rem; }
        .legend li::before {
          content: ""; display: inline-block; width: 1.125rem; height: 0; margin-right: 0.375rem;
          border-top: 2.5px solid var(--c1); vertical-align: 0.25em;
        }
        .legend .c2::before { border-color: var(--c2); }
        .legend .faint::before { opacity: 0.4; }
        .legend .dots::before {
          width: 0.5625rem; height: 0.5625rem; border: 0; border-radius: 50%; background: var(--c2); vertical-align: 0;
        }
        .plot { position: relative; overflow-x: auto; }
        .plot svg { display: block; width: 100%; min-width: 26rem; height: auto; margin-top: 0.375rem; }
        .wide > .plot svg { min-width: 44rem; }
        svg text { font-size: 12px; fill: var(--quiet); font-variant-numeric: tabular-nums; }
        text.y { text-anchor: end; }
        text.x { text-anchor: middle; }
        .grid { stroke: var(--grid); stroke-width: 1; }
        .pointer { stroke: var(--quiet); stroke-width: 1; stroke-dasharray: 3 3; visibility: hidden; }
        polyline { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
        .c1 polyline { stroke: var(--c1); }
        .c2 polyline { stroke: var(--c2); }
        .c1 circle { fill: var(--c1); }
        .c2 circle { fill: var(--c2); }
        circle { stroke: var(--card); stroke-width: 1; }
        .faint polyline { stroke-width: 1; opacity: 0.4; }
        .dots polyline { stroke-width: 1.25; stroke-dasharray: 4 3; opacity: 0.75; }
        .bar { fill: var(--c1); }
        .ground { fill: var(--ground); }
        .cells { fill: var(--accent); shape-rendering: crispEdges; }
        .scale { display: inline-flex; align-items: center; gap: 0.375rem; margin-left: 0.5rem; white-space: nowrap; }
        .scale svg { width: 7.5rem; height: 0.625rem; border: 1px solid var(--line); }
        .readout {
          height: 1.25rem; margin-bottom: -1.25rem; padding-left: 5.5rem; overflow: hidden; text-align: right;
          white-space: pre; text-overflow: ellipsis; font-size: 0.8125rem; color: var(--quiet);
          font-variant-numeric: tabular-nums; pointer-events: none;
        }
        summary { width: fit-content; font-size: 0.8125rem; color: var(--quiet); cursor: pointer; }
        .card > summary { font-size: 1rem; color: var(--text); }
        :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
        .scroll { overflow-x: auto; }
        details .scroll { max-height: 22rem; overflow: auto; margin-top: 0.5rem; }
        table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
        th, td { padding: 0.25rem 1.25rem 0.25rem 0; text-align: left; vertical-align: top; font-weight: 400; }
        thead th { font-size: 0.8125rem; color: var(--quiet); white-space: nowrap; }
        tbody tr > * { border-top: 1px solid var(--grid); }
        .number { text-align: right; white-space: nowrap; }
        .answer { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: 0.25rem 1rem; margin-top: 0.25rem; }
        .answer dd { white-space: pre-wrap; unicode-bidi: isolate; }
        .exact { color: var(--accent); font-size: 0.8125rem; white-space: nowrap; }
        pre { margin: 0; overflow-x: auto; }
        code { font: 0.875rem/1.5 ui-monospace, "Cascadia Code", "Noto Sans Mono", "DejaVu Sans Mono", monospace; }
        @media (max-width: 50rem) { .parts { grid-template-columns: minmax(0, 1fr); } }
        @media print {
          :root { color-scheme: light; --page: #ffffff; }
          body { padding: 0; max-width: none; font-size: 0.8125rem; }
          figure, .card, .tiles > div { break-inside: avoid; }
          h2 { break-after: avoid; }
          .plot svg, .wide > .plot svg { min-width: 0; }
          .readout, figure details { display: none; }
          .cells, .bar { print-color-adjust: exact; }
          pre { white-space: pre-wrap; }
        }

        """#
}

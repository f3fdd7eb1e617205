extension Playground {
    /// Text on every background it is set on has a contrast of at least 4.5 : 1, in both colour schemes.
    static let style = #"""

        :root {
          color-scheme: light dark;
          --page: #f6f6f3; --card: #ffffff; --text: #20262b; --quiet: #5b656d; --line: #d9dcd8; --field: #838c93;
          --accent: #0b6660; --on-accent: #ffffff; --tint: #eaf2f0; --wrong: #a52a1c;
        }
        @media (prefers-color-scheme: dark) {
          :root {
            --page: #14181a; --card: #1c2124; --text: #e5e8e8; --quiet: #a1abb0; --line: #343b3f; --field: #78838a;
            --accent: #6fd0c4; --on-accent: #0d2321; --tint: #22302f; --wrong: #ff9d8d;
          }
        }
        * { box-sizing: border-box; }
        [hidden] { display: none !important; }
        body {
          margin: 0 auto; padding: 1.5rem clamp(0.875rem, 3vw, 2rem) 3rem; max-width: 76rem;
          background: var(--page); color: var(--text);
          font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif;
          overflow-wrap: anywhere;
        }
        h1, h2, p { margin: 0; }
        h1 { font-size: 1.375rem; font-weight: 650; letter-spacing: -0.01em; }
        h1 span { font-weight: 400; color: var(--quiet); }
        h2 { font-size: 1.0625rem; font-weight: 650; }
        header { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 1.25rem; margin-bottom: 1.25rem; }
        #summary, #note { color: var(--quiet); }
        #access { display: flex; align-items: end; gap: 0.5rem; margin-left: auto; }
        main { display: grid; gap: 1rem; }
        #ask, article, .adapters {
          background: var(--card); border: 1px solid var(--line); border-radius: 0.75rem; padding: 1rem 1.125rem;
        }
        #ask { display: grid; gap: 0.875rem; }
        label { display: grid; gap: 0.25rem; font-size: 0.875rem; font-weight: 550; }
        label small { font-size: inherit; font-weight: 400; color: var(--quiet); }
        label:has(small) { grid-template-columns: auto 1fr; column-gap: 0.375rem; }
        label textarea { grid-column: 1 / -1; }
        input, select, textarea, button {
          min-width: 0; min-height: 2.5rem; padding: 0.375rem 0.625rem; border: 1px solid var(--field);
          border-radius: 0.5rem; background: var(--card); color: inherit; font: inherit; font-size: 1rem;
          font-weight: 400;
        }
        textarea { width: 100%; max-height: 60vh; resize: vertical; field-sizing: content; line-height: 1.5; }
        #prompt { min-height: 4rem; }
        input[type=number] { width: 7.5rem; }
        ::placeholder { color: var(--quiet); opacity: 1; }
        button { padding-inline: 1rem; font-weight: 550; cursor: pointer; }
        button:hover { background: var(--tint); }
        .primary { border-color: var(--accent); background: var(--accent); color: var(--on-accent); }
        .primary:hover { background: var(--accent); filter: brightness(1.08); }
        button[aria-disabled=true] {
          border-color: var(--line); background: none; color: var(--quiet); cursor: default; filter: none;
        }
        :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
        .settings { display: flex; flex-wrap: wrap; align-items: end; gap: 0.75rem 1rem; }
        .hint { margin-left: auto; padding-block: 0.5rem; font-size: 0.875rem; color: var(--quiet); }
        kbd {
          padding: 0.0625rem 0.375rem; border: 1px solid var(--line); border-radius: 0.3125rem;
          background: var(--page); font: inherit; font-size: 0.8125rem;
        }
        .primary { min-width: 6.5rem; }
        #status { min-height: 1.5rem; padding-inline: 0.125rem; color: var(--quiet); }
        #status.wrong, .text.wrong, .wrong { color: var(--wrong); }
        #answers { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; }
        article { display: grid; grid-template-rows: auto 1fr auto; gap: 0.75rem; }
        .choice { display: flex; align-items: end; gap: 0.5rem; }
        .choice label { flex: 1; min-width: 0; }
        .choice select { width: 100%; text-overflow: ellipsis; }
        .text { min-height: 7.5rem; padding-block: 0.25rem; white-space: pre-wrap; }
        .text.empty { color: var(--quiet); }
        dl {
          display: grid; grid-template-columns: repeat(4, auto); justify-content: space-between; gap: 0.5rem 1rem;
          margin: 0; padding-top: 0.75rem; border-top: 1px solid var(--line);
        }
        dt { font-size: 0.8125rem; color: var(--quiet); }
        dd { margin: 0; min-height: 1.5rem; font-variant-numeric: tabular-nums; }
        .adapters { display: grid; gap: 0.5rem; min-width: 0; }
        .scroll { max-height: 26rem; overflow: auto; border-radius: 0.25rem; }
        table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
        th, td {
          padding: 0.4375rem 1.25rem 0.4375rem 0; text-align: left; vertical-align: top; white-space: nowrap;
          font-weight: 400;
        }
        th:last-child, td:last-child { padding-right: 0.125rem; white-space: normal; min-width: 13rem; }
        thead th {
          position: sticky; top: 0; background: var(--card); box-shadow: inset 0 -1px var(--line);
          font-size: 0.8125rem; color: var(--quiet);
        }
        tbody tr + tr > * { border-top: 1px solid var(--line); }
        tbody th { font-weight: 550; }
        .number { text-align: right; }
        code { font: 0.9375rem ui-monospace, "Cascadia Code", "Noto Sans Mono", "DejaVu Sans Mono", monospace; }
        @media (max-width: 46rem) {
          #answers { grid-template-columns: minmax(0, 1fr); }
          .text { min-height: 4.5rem; }
          .hint { display: none; }
          #ask, article, .adapters { padding: 0.875rem; }
          .settings { gap: 0.75rem 0.5rem; }
          .settings label { flex: 1 1 5rem; overflow-wrap: normal; }
          .settings input { width: 100%; padding-inline: 0.5rem; }
          .primary { flex: 1 1 100%; }
          #access { margin-left: 0; flex: 1 1 100%; }
          #access label { flex: 1; }
          dl { grid-template-columns: repeat(2, 1fr); }
        }

        """#
}

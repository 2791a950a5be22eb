// SPDX-License-Identifier: GPL-3.0-or-later
// Shows the report that is embedded in this page. Everything in it may come from a node that
// somebody else controls: text goes into the page by textContent only, lookups use Map.
"use strict";
(() => {
  const report = JSON.parse(document.getElementById("report").textContent);
  const PAGE = 60;
  const SEVERITIES = ["critical", "high", "medium", "low", "info"];
  const ORDER = ["drifted", "unknown", "repaired", "waived", "not_selected"];
  const WORDS = new Map([
    ["drifted", "Drifted"], ["unknown", "Unknown"], ["repaired", "Repaired"], ["waived", "Waived"],
    ["in_sync", "In sync"], ["not_selected", "Not selected"],
  ]);
  const byId = (id) => document.getElementById(id);
  const inputs = { text: byId("text"), host: byId("host"), role: byId("role"), state: byId("state"), severity: byId("severity") };

  // --- building blocks ---------------------------------------------------------------------

  function make(tag, properties, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name === "text") node.textContent = value;
      else if (name === "class") node.className = value;
      else if (name === "on") for (const [event, call] of Object.entries(value)) node.addEventListener(event, call);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  const many = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

  function duration(seconds) {
    const units = [[31536000, "year"], [86400, "day"], [3600, "hour"], [60, "minute"]];
    for (const [size, noun] of units) if (seconds >= size) return many(Math.min(Math.floor(seconds / size), 9999), noun);
    return many(Math.floor(seconds), "second");
  }

  // The same quoting as the console board: people paste these commands.
  const quote = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
  const isCommand = (control) => control.remedy.includes("{host}");
  const command = ({ control, allow }, hosts) => !isCommand(control) ? control.remedy : [
    control.remedy.replaceAll("{host}", () => quote(hosts.map((h) => h.name.replace(/[^\p{L}\p{N}_.-]/gu, "?")).join(","))),
    (hosts.find((h) => h.with) || {}).with, allow,
  ].filter(Boolean).join(" ");

  // --- the rows: one per host and finding ----------------------------------------------------

  const variants = report.variants.map((variant) => ({
    ...variant,
    control: report.controls[variant.control],
    changes: variant.changes || [],
    hay: "",
  }));
  for (const v of variants) {
    v.hay = [v.control.id, v.control.title, v.reason, v.why, v.task, ...v.changes.flat()].join("\n").toLowerCase();
    v.rank = ORDER.indexOf(v.state) * 10 + SEVERITIES.indexOf(v.control.severity);
  }
  const hosts = report.hosts.map((host) => ({ ...host, low: host.name.toLowerCase() }));
  const rows = [];
  for (const host of hosts) {
    for (const entry of host.rows) {
      const [index, seen, age] = Array.isArray(entry) ? entry : [entry, "", null];
      rows.push({ host, variant: variants[index], seen, age });
    }
  }

  // --- filters -------------------------------------------------------------------------------

  function fill(select, all, values) {
    select.append(make("option", { value: "", text: all }));
    for (const [value, text] of values) select.append(make("option", { value, text }));
  }
  const names = (values) => [...new Set(values)].sort((a, b) => a.localeCompare(b, "en", { numeric: true })).map((n) => [n, n]);
  fill(inputs.host, "all", names(hosts.map((h) => h.name)));
  fill(inputs.role, "all", names(report.controls.map((c) => c.role)));
  fill(inputs.state, "all", ORDER.map((s) => [s, WORDS.get(s).toLowerCase()]));
  fill(inputs.severity, "all", SEVERITIES.map((s) => [s, s]));
  const group = byId("group");
  group.value = hosts.length > 30 ? "finding" : "host";

  function matches(row) {
    const { variant, host } = row;
    if (inputs.host.value && host.name !== inputs.host.value) return false;
    if (inputs.role.value && variant.control.role !== inputs.role.value) return false;
    if (inputs.severity.value && variant.control.severity !== inputs.severity.value) return false;
    if (inputs.state.value ? variant.state !== inputs.state.value : variant.state === "not_selected") return false;
    const words = inputs.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => variant.hay.includes(word) || host.low.includes(word));
  }

  // --- units: what is listed, as small functions so that only the visible ones are built -------

  function unitsByHost(found) {
    const units = [];
    const perHost = new Map();
    for (const row of found) {
      if (!perHost.has(row.host)) perHost.set(row.host, []);
      perHost.get(row.host).push(row);
    }
    for (const [host, own] of perHost) {
      units.push(() => hostHeading(host, own.length));
      const silent = new Map();
      for (const row of own) {
        const { state, reason } = row.variant;
        // Thirty controls that are unknown for one reason are one thing to solve.
        if (state !== "unknown" && state !== "not_selected") units.push(() => card([row], false));
        else {
          const key = `${state} ${reason || ""}`;
          if (!silent.has(key)) silent.set(key, []);
          silent.get(key).push(row);
        }
      }
      for (const same of silent.values()) {
        if (same.length > 2) units.push(() => bundle(same));
        else for (const row of same) units.push(() => card([row], false));
      }
    }
    return units;
  }

  function unitsByFinding(found) {
    const same = new Map();
    for (const row of found) {
      if (!same.has(row.variant)) same.set(row.variant, []);
      same.get(row.variant).push(row);
    }
    // Controls that are unknown for one reason are one thing to solve here, too.
    const silent = new Map();
    for (const members of same.values()) {
      const { state, reason } = members[0].variant;
      if (state !== "unknown" && state !== "not_selected") continue;
      const key = `${state} ${reason || ""}`;
      silent.set(key, [...(silent.get(key) || []), members]);
    }
    const bundled = new Set([...silent.values()].filter((groups) => groups.length > 2).flat());
    const groups = [...same.values()].filter((members) => !bundled.has(members)).map((members) => [members, () => card(members, true)]);
    for (const many of silent.values()) if (many.length > 2) groups.push([many.flat(), () => bundle(many.flat())]);
    groups.sort(([a], [b]) => a[0].variant.rank - b[0].variant.rank || b.length - a.length);
    return groups.map(([, build]) => build);
  }

  let units = [];
  let shown = 0;

  function more() {
    const part = document.createDocumentFragment();
    for (const unit of units.slice(shown, shown + PAGE)) part.append(unit());
    shown = Math.min(shown + PAGE, units.length);
    byId("list").append(part);
    byId("more").hidden = shown >= units.length;
    byId("more").textContent = `Show ${Math.min(PAGE, units.length - shown)} more of ${(units.length - shown).toLocaleString("en")}`;
  }

  function update() {
    const found = rows.filter(matches);
    units = group.value === "host" ? unitsByHost(found) : unitsByFinding(found);
    shown = 0;
    byId("list").replaceChildren();
    const filtered = Object.values(inputs).some((input) => input.value);
    byId("reset").hidden = !filtered;
    byId("count").textContent = !found.length && !filtered ? "" : `${many(found.length, "finding")} on ${many(new Set(found.map((r) => r.host)).size, "host")}` + (filtered ? " match the filters" : "");
    for (const tile of document.querySelectorAll("button.tile")) tile.setAttribute("aria-pressed", String(tile.dataset.state === inputs.state.value));
    for (const link of document.querySelectorAll("#hosts button")) link.setAttribute("aria-pressed", String(link.dataset.host === inputs.host.value));
    if (found.length) more();
    else {
      byId("more").hidden = true;
      byId("list").append(emptyNote(filtered));
    }
  }

  function emptyNote(filtered) {
    if (filtered) return make("p", { class: "empty", text: "Nothing matches these filters." });
    const all = hosts.length && hosts.every((h) => h.state === "reached");
    return make("p", { class: "empty good", text: all ? "Everything that was checked is as declared." : "There is nothing to list." });
  }

  // --- cards ---------------------------------------------------------------------------------

  function hostHeading(host, number) {
    const state = host.state === "reached" ? null : make("span", { class: "badge state-unknown", text: host.state === "partial" ? "stopped early" : host.state });
    return make("div", { class: "host-head" },
      make("h2", {}, make("bdi", { text: host.name }), ...(state ? [" ", state] : [])),
      make("span", { class: "hint", text: `${many(number, "finding")}, ${host.counts[3]} in sync` }),
      host.machine ? make("p", { class: "hint", text: host.machine }) : null,
      host.reason && host.state !== "reached" ? make("p", { class: "reason", text: host.reason }) : null);
  }

  function badges(variant) {
    return [
      make("span", { class: `badge state-${variant.state}`, text: WORDS.get(variant.state) || variant.state }),
      make("span", { class: `badge severity severity-${variant.control.severity}`, text: variant.control.severity }),
      ...(variant.blocked ? [make("span", { class: "badge blocked", text: "blocked" })] : []),
    ];
  }

  function where(members) {
    const names = new Set(members.map((row) => row.host.name));
    return names.size === 1 ? members[0].host.name : many(names.size, "host");
  }

  function card(members, byFinding) {
    const { variant, host } = members[0];
    const { control } = variant;
    const ages = members.map((row) => row.age).filter((age) => typeof age === "number");
    const age = ages.length ? Math.max(...ages.slice(0, 10000)) : null;
    const facts = [byFinding ? where(members) : "", age === null ? "" : age < 1 ? "new" : `for ${duration(age)}`].filter(Boolean).join(" · ");
    const summary = make("summary", {},
      make("span", { class: "badges" }, ...badges(variant)),
      make("span", { class: "title" }, make("bdi", { text: control.title }), make("code", { class: "id", text: control.id }),
        preview(variant)),
      make("span", { class: "facts", text: facts }));
    const details = make("details", { class: `card state-${variant.state}` }, summary);
    if (!byFinding) details.dataset.link = link(host.name, control.id);
    details.fill = () => {
      if (details.childElementCount === 1) details.append(body(members, byFinding));
    };
    details.addEventListener("toggle", () => details.open && details.fill());
    return details;
  }

  // Enough to judge most findings without opening them.
  function preview(variant) {
    const parts = variant.changes.slice(0, 3).map(([name, before, after]) => `${name}: ${short(before)} → ${short(after)}`);
    if (variant.changes.length > 3) parts.push(`${variant.changes.length - 3} more`);
    const text = variant.reason || parts.join(", ");
    return text ? make("bdi", { class: "preview", text }) : null;
  }
  const short = (text) => (text === "(nothing)" ? "nothing" : text.length > 60 ? `${text.slice(0, 20)}…${text.slice(-36)}` : text);

  function bundle(members) {
    const { variant } = members[0];
    const list = make("ul", { class: "chips" });
    const details = make("details", { class: `card state-${variant.state}` },
      make("summary", {},
        make("span", { class: "badges" }, make("span", { class: `badge state-${variant.state}`, text: WORDS.get(variant.state) })),
        make("span", { class: "title" }, make("bdi", { text: variant.reason || "no reason given" })),
        make("span", { class: "facts", text: [...(group.value === "finding" ? [where(members)] : []), many(new Set(members.map((row) => row.variant.control)).size, "control")].join(" · ") })),
      make("div", { class: "body" }, list));
    details.links = new Set(members.map((row) => link(row.host.name, row.variant.control.id)));
    details.fill = () => {
      if (list.childElementCount) return;
      for (const v of new Map(members.map((row) => [row.variant.control, row.variant])).values()) {
        list.append(make("li", { "data-severity": v.control.severity, title: v.control.title }, make("code", { text: v.control.id }),
          make("span", { class: "hint", text: `${v.control.severity}, ${v.control.title}` })));
      }
    };
    details.addEventListener("toggle", () => details.open && details.fill());
    return details;
  }

  function body(members, byFinding) {
    const { variant, host, seen } = members[0];
    const { control } = variant;
    const parts = [];
    if (variant.changes.length) parts.push(diff(variant.changes));
    if (variant.reason) parts.push(make("p", { class: "reason", text: variant.reason }));
    // First what to know and what to do, then what the control is about.
    let facts = make("dl", {});
    const fact = (term, ...values) => facts.append(make("dt", { text: term }), make("dd", {}, ...values));
    if (variant.why) fact("Why", variant.why);
    else if (variant.state === "drifted") fact("Why", "not known: no record of what was last applied could be read");
    if (seen && !byFinding) fact("First seen", make("time", { datetime: seen, text: seen.replace("T", " ").replace("Z", " UTC") }));
    if (variant.waiver) {
      const [reason, owner, expires] = variant.waiver;
      fact("Waived until", `${expires}, ${owner}: ${reason}`);
    }
    if (byFinding) fact(members.length === 1 ? "Host" : "Hosts", hostChips(members));
    if (facts.childElementCount) parts.push(facts);
    if (control.remedy && (variant.state === "drifted" || variant.state === "waived")) parts.push(remedy(variant, members.map((row) => row.host)));
    facts = make("dl", { class: "about" });
    if (variant.task) fact("Task", variant.task);
    if (control.rationale) fact("Why it matters", control.rationale);
    if (control.references && control.references.length) {
      fact("References", make("ul", {}, ...control.references.map((text) => make("li", {}, reference(text)))));
    }
    if (facts.childElementCount) parts.push(facts);
    if (!byFinding) parts.push(make("a", { class: "permalink", href: link(host.name, control.id), text: "Link to this finding" }));
    return make("div", { class: "body" }, ...parts);
  }

  // Only what is plainly a web address becomes a link.
  function reference(text) {
    return /^https?:\/\/[^\s"'<>]+$/.test(text) ? make("a", { href: text, rel: "noreferrer noopener", target: "_blank", text }) : text;
  }

  function hostChips(members) {
    const list = make("ul", { class: "chips" });
    const add = (from, to) => {
      for (const row of members.slice(from, to)) {
        list.append(make("li", {}, make("a", { href: link(row.host.name, row.variant.control.id) }, make("bdi", { text: row.host.name })),
          typeof row.age === "number" && row.age >= 1 ? make("span", { class: "hint", text: duration(row.age) }) : null));
      }
    };
    add(0, 30);
    if (members.length > 30) {
      const rest = make("button", { class: "ghost", type: "button", text: `${members.length - 30} more` });
      rest.addEventListener("click", () => { rest.parentElement.remove(); add(30); });
      list.append(make("li", {}, rest));
    }
    return list;
  }

  function diff(changes) {
    const table = make("table", { class: "diff" }, make("thead", {}, make("tr", {},
      ...["Property", "Found", "Declared"].map((text) => make("th", { scope: "col", text })))));
    const rowsOf = make("tbody", {});
    for (const [name, before, after] of changes) {
      rowsOf.append(make("tr", {}, make("th", { scope: "row", text: name }),
        make("td", { class: "before", "data-label": "Found" }, value(before, after)),
        make("td", { class: "after", "data-label": "Declared" }, value(after, before))));
    }
    table.append(rowsOf);
    return table;
  }

  // The value, with the part marked in which it differs from the other one.
  function value(text, other) {
    if (text === "(nothing)") return make("span", { class: "nothing", text: "nothing" });
    if (other === "(nothing)") return make("code", { text });
    let start = 0;
    const least = Math.min(text.length, other.length);
    while (start < least && text[start] === other[start]) start += 1;
    let end = 0;
    while (end < least - start && text[text.length - 1 - end] === other[other.length - 1 - end]) end += 1;
    // Whole words and numbers: 12.8 became 13.0, not 2.8 became 3.0.
    const inWord = (char) => char !== undefined && /[\p{L}\p{N}.]/u.test(char);
    while (start > 0 && inWord(text[start - 1])) start -= 1;
    while (end > 0 && inWord(text[text.length - end])) end -= 1;
    // A mark over nearly everything says nothing, and none may split a surrogate pair.
    if (start + end < 3 || /[\ud800-\udfff]/.test(text)) return make("code", { text });
    const marked = text.slice(start, text.length - end);
    return make("code", {}, text.slice(0, start), marked ? make("mark", { text: marked }) : null, text.slice(text.length - end));
  }

  function remedy(variant, where) {
    if (!isCommand(variant.control)) {
      return make("div", { class: "remedy" }, make("h3", { text: "Repair" }), make("p", { text: variant.control.remedy }));
    }
    const code = make("code", { text: command(variant, where), tabindex: "0", "aria-label": "Command that repairs this" });
    const button = make("button", { class: "copy", type: "button", text: "Copy" });
    button.addEventListener("click", () => copy(code, button));
    const warning = variant.control.disrupts ? make("p", { class: "risk" }, make("b", { text: "Careful: " }), variant.control.disrupts) : null;
    // Only a variable that names its victim unblocks it: it is in the command, for that one run.
    const named = variant.blocked ? make("p", { class: "risk" }, make("b", { text: "Careful: " }),
      variant.allow ? "this names what may be taken over or lost; look at it first." : `first set ${variant.blocked}.`) : null;
    const notes = [report.directory && `Run it in ${report.directory}`, report.variables.length && `add the -e of this run: ${report.variables.join(", ")}`];
    const hint = notes.filter(Boolean).join("; ");
    return make("div", { class: "remedy" }, make("h3", { text: "Repair" }), make("div", { class: "command" }, code, button),
      hint ? make("p", { class: "hint", text: `${hint}.` }) : null, named, warning);
  }

  async function copy(code, button) {
    let done = false;
    try {
      await navigator.clipboard.writeText(code.textContent);
      done = true;
    } catch {
      // No clipboard here (a page opened from a disk): select it, and try the old way.
      getSelection().selectAllChildren(code);
      try {
        done = document.execCommand("copy");
      } catch {
        done = false;
      }
    }
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    byId("said").textContent = done ? "Command copied" : "Command selected, press Control and C to copy it";
    setTimeout(() => { button.textContent = "Copy"; }, 2500);
  }

  // --- the list of hosts -----------------------------------------------------------------------

  let hostsShown = 0;
  function moreHosts() {
    for (const host of hosts.slice(hostsShown, hostsShown + PAGE)) byId("hosts").append(hostEntry(host));
    hostsShown = Math.min(hostsShown + PAGE, hosts.length);
    byId("hosts-more").hidden = hostsShown >= hosts.length;
    byId("hosts-more").textContent = `${(hosts.length - hostsShown).toLocaleString("en")} more hosts`;
  }

  function hostEntry(host) {
    const meter = make("span", { class: "meter", "aria-hidden": "true" });
    host.counts.forEach((number, index) => {
      if (!number) return;
      const part = make("i", { class: `fill-${report.states[index]}` });
      part.style.flexGrow = number;
      meter.append(part);
    });
    const said = report.states.map((state, index) => [host.counts[index], WORDS.get(state).toLowerCase()])
      .filter(([number, word]) => number && word !== "in sync" && word !== "not selected").map(([number, word]) => `${number} ${word}`).join(", ");
    const state = host.state === "reached" ? said || "in sync" : `${host.state === "partial" ? "stopped early" : host.state}${said ? `, ${said}` : ""}`;
    const button = make("button", { type: "button", "aria-pressed": "false", "data-host": host.name },
      make("bdi", { text: host.name }), make("span", { class: "hint", text: state }), meter);
    button.addEventListener("click", () => {
      inputs.host.value = inputs.host.value === host.name ? "" : host.name;
      group.value = "host";
      update();
    });
    return make("li", {}, button);
  }

  // --- the trend: this run and the ones before it ---------------------------------------------

  function showTrend() {
    if (!report.trend.length) return;
    const sum = (index) => hosts.reduce((total, host) => total + host.counts[index], 0);
    const runs = [...report.trend, ["this run", sum(0), sum(1)]];
    const most = Math.max(1, ...runs.map(([, drifted, unknown]) => drifted + unknown));
    for (const [started, drifted, unknown] of runs) {
      const said = `${started.replace("T", " ").replace("Z", " UTC")}: ${drifted} drifted, ${unknown} unknown`;
      const item = make("li", { title: said }, make("span", { class: "off-screen", text: said }));
      for (const [state, number] of [["unknown", unknown], ["drifted", drifted]]) {
        const bar = make("i", { class: `fill-${state}`, "aria-hidden": "true" });
        bar.style.height = `${(number / most) * 100}%`;
        item.append(bar);
      }
      byId("trend").querySelector("ol").append(item);
    }
    byId("trend").querySelector(".hint").textContent = `last ${runs.length} runs`;
    byId("trend").hidden = false;
  }

  // --- deep links: #host/control ---------------------------------------------------------------

  function link(host, control) {
    return `#${encodeURIComponent(host)}/${encodeURIComponent(control).replaceAll("%2F", "/")}`;
  }

  function follow() {
    const cut = location.hash.indexOf("/");
    if (cut < 2) return;
    let host;
    let control;
    try {
      host = decodeURIComponent(location.hash.slice(1, cut));
      control = decodeURIComponent(location.hash.slice(cut + 1));
    } catch {
      return;
    }
    const row = rows.find((r) => r.host.name === host && r.variant.control.id === control);
    if (!row) return;
    for (const input of Object.values(inputs)) input.value = "";
    inputs.host.value = host;
    inputs.role.value = row.variant.control.role;
    inputs.state.value = row.variant.state;
    group.value = "host";
    update();
    while (shown < units.length) more();
    const wanted = link(host, control);
    const target = [...document.querySelectorAll("#list details")].find((d) => d.dataset.link === wanted || (d.links && d.links.has(wanted)));
    if (!target) return;
    target.fill();
    target.open = true;
    target.scrollIntoView({ block: "start" });
    target.querySelector("summary").focus({ preventScroll: true });
  }

  // --- theme -----------------------------------------------------------------------------------

  const theme = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem("drift-theme");
  } catch {
    chosen = null; // Storage can be forbidden; the page then follows the system.
  }
  const dark = () => (chosen ? chosen === "dark" : system.matches);
  function paint() {
    document.documentElement.style.colorScheme = chosen === "dark" || chosen === "light" ? chosen : "";
    theme.textContent = dark() ? "Light" : "Dark";
    theme.setAttribute("aria-label", dark() ? "Use the light theme" : "Use the dark theme");
  }
  theme.addEventListener("click", () => {
    chosen = dark() ? "light" : "dark";
    try {
      localStorage.setItem("drift-theme", chosen);
    } catch {
      // The choice then lasts as long as the page.
    }
    paint();
  });
  system.addEventListener("change", paint);

  // --- start -----------------------------------------------------------------------------------

  let waiting = 0;
  inputs.text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });
  for (const select of [inputs.host, inputs.role, inputs.state, inputs.severity, group]) select.addEventListener("change", update);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("reset").addEventListener("click", () => {
    for (const input of Object.values(inputs)) input.value = "";
    update();
    inputs.text.focus();
  });
  byId("more").addEventListener("click", more);
  byId("hosts-more").addEventListener("click", moreHosts);
  for (const tile of document.querySelectorAll("button.tile")) {
    tile.disabled = "zero" in tile.dataset;
    tile.addEventListener("click", () => {
      inputs.state.value = inputs.state.value === tile.dataset.state ? "" : tile.dataset.state;
      update();
    });
  }
  // On paper everything that is listed is open.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) {
      if (details.fill) details.fill();
      details.open = true;
    }
  });
  if (report.unused.length) {
    byId("unused").hidden = false;
    byId("unused").querySelector("ul").append(...report.unused.map((text) => make("li", { text })));
  }
  if (report.cut) {
    byId("cut").hidden = false;
    byId("cut").textContent = report.cut;
  }
  if (matchMedia("(max-width: 60rem)").matches) byId("hosts-box").open = false;
  theme.hidden = false;
  byId("app").hidden = false;
  paint();
  showTrend();
  moreHosts();
  update();
  addEventListener("hashchange", follow);
  follow();
})();

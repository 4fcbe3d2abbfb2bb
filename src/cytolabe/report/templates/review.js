"use strict";
// The review sheet. What was contributed is only ever written as text (textContent), never as markup.
(() => {
  const EXACT = "skos:exactMatch", BROAD = "skos:broadMatch", NARROW = "skos:narrowMatch", NOTHING = "sssom:NoTermFound";
  const WORDS = { [EXACT]: "exact", [BROAD]: "term is broader", [NARROW]: "term is narrower", "skos:relatedMatch": "related" };
  const N_FOUND = 12, TOLD_MS = 5000;
  const data = JSON.parse(document.getElementById("data").textContent);
  const labels = data.labels;
  const terms = data.terms.map(([id, name, synonyms, definition, parents]) => ({
    id, name, synonyms, definition, parents, words: [name, ...synonyms].map((text) => text.toLowerCase()),
  }));
  const termOf = new Map(terms.map((term) => [term.id, term]));
  const at = (id) => document.getElementById(id);
  const keyOf = (row) => JSON.stringify([row.dataset, row.label]);
  const indexOf = new Map(labels.map((row, index) => [keyOf(row), index]));
  const nCells = labels.reduce((sum, row) => sum + row.cells, 0);
  const count = (number) => number.toLocaleString("en-US");

  // --- what is kept: one decision and one note per label, in this browser only ---------------------------------------
  const place = `cytolabe-review:${data.set}`;
  const decisions = new Map(), notes = new Map(), pending = new Map(), history = [];
  let current = 0, visible = [], canKeep = true;

  function stored(name) {
    try { return localStorage.getItem(name); } catch { canKeep = false; return null; }
  }

  function keep() {
    const kept = { decisions: {}, notes: {} };
    for (const [index, decision] of decisions) kept.decisions[keyOf(labels[index])] = decision;
    for (const [index, note] of notes) if (note) kept.notes[keyOf(labels[index])] = note;
    try { localStorage.setItem(place, JSON.stringify(kept)); } catch { canKeep = false; }
  }

  function restore() {
    const kept = JSON.parse(stored(place) || "{}");
    for (const [key, decision] of Object.entries(kept.decisions || {})) if (indexOf.has(key)) decisions.set(indexOf.get(key), decision);
    for (const [key, note] of Object.entries(kept.notes || {})) if (indexOf.has(key)) notes.set(indexOf.get(key), note);
    at("reviewer").value = stored("cytolabe-reviewer") || "";
  }

  // --- small means ----------------------------------------------------------------------------------------------------
  function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === true) node.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== ""));
    return node;
  }

  let silence;
  function tell(text) {
    at("told").textContent = text;
    clearTimeout(silence);
    silence = setTimeout(() => { at("told").textContent = ""; }, TOLD_MS);
  }

  const depths = new Map();
  function depth(term) {
    if (!depths.has(term)) depths.set(term, 1 + Math.max(-1, ...term.parents.map((position) => depth(terms[position]))));
    return depths.get(term);
  }

  // One of possibly many ways to the root: the longest, which says most.
  function pathOf(term) {
    const names = [];
    for (let node = term; node; ) {
      names.unshift(node.name);
      const above = node.parents.map((position) => terms[position]);
      node = above.length ? above.reduce((best, other) => (depth(other) > depth(best) ? other : best)) : null;
    }
    return (names.length > 6 ? [names[0], "…", ...names.slice(-5)] : names).join(" › ");
  }

  const nameOf = (id) => (termOf.has(id) ? termOf.get(id).name : id);

  // --- deciding -------------------------------------------------------------------------------------------------------
  function set(index, decision) {
    history.push({ index, before: decisions.get(index) });
    if (decision) decisions.set(index, decision); else decisions.delete(index);
    pending.delete(index);
    keep();
    mark(index);
    showProgress();
  }

  function today() {
    const now = new Date();
    return [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
  }

  function decide(decision, told) {
    const row = labels[current];
    set(current, { ...decision, day: today() });
    const next = nextOpen();
    if (next === null) show(current); else show(next);
    tell(`${row.shown}: ${told}${canKeep ? "" : " (this browser keeps nothing: download before you close the page)"}`);
  }

  function take(id, predicate, action) {
    const chosen = pending.get(current) || predicate || EXACT;
    decide({ action, term: id, predicate: chosen }, `${nameOf(id)} (${WORDS[chosen] || chosen})`);
  }

  function accept() {
    const row = labels[current];
    if (!row.term) { tell("Nothing is proposed here: take a term with 1 to 5, or find one with /"); return; }
    take(row.term, row.predicate, "accept");
  }

  function choose(number) {
    const choice = labels[current].choices[number];
    if (!choice) { tell(`There is no term ${number + 1} here`); return; }
    take(choice.term, choice.predicate, choice.term === labels[current].term ? "accept" : "change");
  }

  function reject() {
    const row = labels[current];
    if (!row.term) { tell("Nothing is proposed that could be rejected; u says that the label names no cell type"); return; }
    decide({ action: "reject", term: row.term, predicate: row.predicate }, `not ${nameOf(row.term)}`);
  }

  const unknown = () => decide({ action: "unknown", term: "", predicate: EXACT }, "names no cell type");

  function turn() {
    const order = [EXACT, BROAD, NARROW];
    const decision = decisions.get(current), row = labels[current];
    const now = decision && decision.term ? decision.predicate : pending.get(current) || row.predicate || EXACT;
    const next = order[(order.indexOf(now) + 1) % order.length];
    if (decision && decision.term && decision.action !== "reject") set(current, { ...decision, predicate: next });
    else pending.set(current, next);
    show(current);
    tell(`${row.shown}: ${WORDS[next]}`);
  }

  function undo() {
    const last = history.pop();
    if (!last) { tell("Nothing to undo"); return; }
    if (last.before) decisions.set(last.index, last.before); else decisions.delete(last.index);
    keep();
    mark(last.index);
    showProgress();
    show(last.index);
    tell(`${labels[last.index].shown}: as before`);
  }

  function nextOpen() {
    const from = visible.indexOf(current);
    const order = [...visible.slice(from + 1), ...visible.slice(0, Math.max(from, 0))];
    const next = order.find((index) => !decisions.has(index));
    return next === undefined ? null : next;
  }

  function step(by) {
    const from = visible.indexOf(current);
    if (visible.length) show(visible[Math.min(visible.length - 1, Math.max(0, from + by))]);
  }

  // --- the queue ------------------------------------------------------------------------------------------------------
  const MARKS = { accept: ["✓", "good", "accepted"], change: ["✎", "good", "changed"], reject: ["✕", "bad", "rejected"], unknown: ["?", "warn", "unknown"] };
  const items = [];

  function mark(index) {
    const decision = decisions.get(index), row = labels[index];
    const [sign, tone, word] = decision ? MARKS[decision.action] : row.decision === "reviewed" ? ["•", "good", "reviewed before"] : ["○", "none", "open"];
    const node = items[index].querySelector(".mark");
    node.textContent = sign;
    node.className = `mark ${tone}`;
    node.title = word;
    const term = decision ? (decision.action === "reject" ? `not ${nameOf(decision.term)}` : nameOf(decision.term) || "no cell type") : row.term ? `${nameOf(row.term)} · ${row.decision}` : row.decision;
    items[index].querySelector("small").textContent = `${row.dataset} · ${term}`;
    items[index].setAttribute("aria-label", `${row.shown}, ${count(row.cells)} cells, ${word}: ${term}`);
  }

  function fillQueue() {
    const list = document.createDocumentFragment();
    labels.forEach((row, index) => {
      const item = el("li", { role: "option", id: `q${index}`, "aria-selected": "false", "data-index": index },
        el("span", { class: "mark", "aria-hidden": "true" }), el("bdi", { class: "name" }, row.shown),
        el("span", { class: "cells" }, count(row.cells)), el("small", {}));
      items.push(item);
      list.append(item);
      mark(index);
    });
    at("queue").append(list);
    for (const name of [...new Set(labels.map((row) => row.dataset))].sort()) at("dataset").append(el("option", { value: name }, name));
  }

  function filter() {
    const text = at("filter").value.toLowerCase().trim(), which = at("show").value, dataset = at("dataset").value;
    visible = [];
    labels.forEach((row, index) => {
      const isShown = (!dataset || row.dataset === dataset)
        && (which === "all" || (which === "open" ? !decisions.has(index) && row.decision !== "reviewed" : which === "decided" ? decisions.has(index) : row.decision === which))
        && (!text || row.shown.toLowerCase().includes(text) || nameOf(row.term).toLowerCase().includes(text));
      items[index].hidden = !isShown;
      if (isShown) visible.push(index);
    });
    at("shown-count").textContent = `${count(visible.length)} of ${count(labels.length)} labels, by cells × uncertainty`;
    if (visible.length && !visible.includes(current)) show(visible[0]);
  }

  function showProgress() {
    let cells = 0;
    for (const index of decisions.keys()) cells += labels[index].cells;
    at("progress").value = decisions.size;
    const share = nCells ? ` · ${Math.floor((100 * cells) / nCells)} % of the cells` : "";
    at("progress-text").textContent = `${count(decisions.size)} of ${count(labels.length)} labels decided here${share} · Cell Ontology ${data.release}`;
    at("download").disabled = decisions.size === 0;
  }

  // --- one label ------------------------------------------------------------------------------------------------------
  function show(index) {
    if (items[current]) items[current].setAttribute("aria-selected", "false");
    current = index;
    items[index].setAttribute("aria-selected", "true");
    items[index].scrollIntoView({ block: "nearest" });
    at("queue").setAttribute("aria-activedescendant", `q${index}`);
    const row = labels[index], fact = (name, value) => (value ? el("div", {}, el("dt", {}, name), el("dd", {}, el("bdi", {}, value))) : null);
    const share = nCells ? ` (${((100 * row.cells) / nCells).toFixed(1)} %)` : "";
    at("label").replaceChildren(
      el("h2", {}, el("bdi", {}, row.shown)),
      el("dl", { class: "facts" }, fact("data set", row.dataset), fact("cells", count(row.cells) + share), fact("tissue", row.tissue), fact("under", row.parent)),
      stateOf(row, decisions.get(index)), actionsOf(row), choicesOf(row, decisions.get(index)), noteOf(index));
    at("search").value = "";
    showFound([]);
    document.querySelector("main").scrollTop = 0;
  }

  function stateOf(row, decision) {
    const pill = (predicate) => el("span", { class: "pill" }, WORDS[predicate] || predicate);
    if (decision) {
      const text = { accept: "Accepted", change: "Changed to", reject: "Rejected: not", unknown: "Names no cell type" }[decision.action];
      const named = decision.term ? [el("strong", {}, nameOf(decision.term)), el("span", { class: "pill" }, decision.term)] : [];
      return el("p", { class: `state ${decision.action === "reject" ? "bad" : "good"}` }, `${text} `, ...named, decision.term && decision.action !== "reject" ? pill(decision.predicate) : "");
    }
    const turned = pending.get(current);
    const said = { auto: "Accepted by the mapper", review: "Waits for a person", abstained: "No term: the mapper abstained", reserved: "Names no cell type", reviewed: `Reviewed${row.reviewer ? ` by ${row.reviewer}` : ""}${row.day ? ` on ${row.day}` : ""}` }[row.decision];
    return el("p", { class: "state" }, `${said}${row.term ? ":" : ""} `, row.term ? el("strong", {}, nameOf(row.term)) : "", row.term ? pill(turned || row.predicate) : "",
      turned ? "(turned, not saved yet)" : "", row.why ? el("small", {}, row.why) : "", row.note ? el("small", {}, `note: ${row.note}`) : "");
  }

  function actionsOf(row) {
    const button = (word, key, act, isOff) => {
      const node = el("button", { type: "button", disabled: isOff }, `${word} `, el("kbd", {}, key));
      node.addEventListener("click", act);
      return node;
    };
    return el("div", { class: "actions", role: "group", "aria-label": "Decide" }, button("Accept", "a", accept, !row.term), button("Reject", "r", reject, !row.term),
      button("Unknown", "u", unknown), button("Exact / broad / narrow", "b", turn), button("Undo", "z", undo, history.length === 0));
  }

  function choicesOf(row, decision) {
    if (!row.choices.length) return el("p", { class: "nothing" }, "No term is near enough to be shown. Find one below, or say unknown.");
    return el("ol", { class: "choices", "aria-label": "Terms that the label may mean" }, ...row.choices.map((choice, number) => choiceOf(choice, number, decision)));
  }

  function choiceOf(choice, number, decision) {
    const term = termOf.get(choice.term) || { name: choice.term, definition: "", parents: [] };
    const isTaken = Boolean(decision) && decision.term === choice.term && decision.action !== "reject";
    const sure = (choice.confidence / 1000).toFixed(2);
    const name = el("button", { type: "button", class: "take" }, term.name);
    const node = el("li", { class: `choice${isTaken ? " taken" : ""}` },
      el("span", { class: "key" }, el("kbd", {}, String(number + 1))),
      el("div", { class: "top" }, name, el("span", { class: "id" }, choice.term), el("span", { class: "pill" }, WORDS[choice.predicate] || choice.predicate),
        el("span", { class: "sure" }, el("meter", { min: "0", max: "1", value: sure, "aria-label": "confidence" }), sure)),
      el("p", { class: "definition" }, term.definition || "No definition."),
      el("div", {}, el("p", { class: "path" }, pathOf(term)),
        el("ul", { class: "reasons" }, ...choice.reasons.map(([kind, matched, confidence, source]) =>
          el("li", {}, el("b", {}, kindOf(kind)), ` ${matched}${source ? ` (${source})` : ""} · ${(confidence / 1000).toFixed(2)}`)))));
    node.addEventListener("click", () => choose(number));
    return node;
  }

  const kindOf = (kind) => kind.replace(/Matching$/, "").replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();

  function noteOf(index) {
    const field = el("textarea", { id: "note", rows: "2", class: "note", maxlength: "500" });
    field.value = notes.get(index) || "";
    field.addEventListener("input", () => { notes.set(index, field.value); keep(); });
    return el("p", {}, el("label", { for: "note" }, "Note ", el("kbd", {}, "n")), field);
  }

  // --- any other term -------------------------------------------------------------------------------------------------
  let found = [], picked = 0;

  function rank(term, query, words) {
    if (term.id.toLowerCase() === query || term.id.slice(3) === query) return 0;
    const [name, ...others] = term.words;
    if (name === query) return 1;
    if (others.includes(query)) return 2;
    if (name.startsWith(query)) return 3;
    if (words.every((word) => name.includes(word))) return 4;
    if (term.words.some((text) => words.every((word) => text.includes(word)))) return 5;
    return null;
  }

  function find() {
    const query = at("search").value.toLowerCase().trim().replace(/^cl_/, "cl:");
    const words = query.split(/\s+/).filter(Boolean);
    const ranked = words.length ? terms.map((term) => [rank(term, query, words), term]).filter(([place]) => place !== null) : [];
    ranked.sort(([a, x], [b, y]) => a - b || x.name.length - y.name.length || (x.id < y.id ? -1 : 1));
    showFound(ranked.slice(0, N_FOUND).map(([, term]) => term));
    if (words.length && !ranked.length) tell(`No term of CL ${data.release} is called like that`);
  }

  function showFound(list) {
    found = list;
    picked = 0;
    at("found").hidden = !list.length;
    at("search").setAttribute("aria-expanded", String(Boolean(list.length)));
    at("found").replaceChildren(...list.map((term, number) => el("li", { role: "option", id: `f${number}`, "data-number": number, "aria-selected": "false" },
      el("strong", {}, term.name), ` ${term.id}`, el("small", {}, pathOf(term)), el("small", {}, term.definition))));
    pick(0);
  }

  function pick(number) {
    if (!found.length) { at("search").removeAttribute("aria-activedescendant"); return; }
    at(`f${picked}`).setAttribute("aria-selected", "false");
    picked = (number + found.length) % found.length;
    at(`f${picked}`).setAttribute("aria-selected", "true");
    at(`f${picked}`).scrollIntoView({ block: "nearest" });
    at("search").setAttribute("aria-activedescendant", `f${picked}`);
  }

  function takeFound() {
    const term = found[picked], row = labels[current];
    if (!term) return;
    at("search").blur();
    take(term.id, term.id === row.term ? row.predicate : EXACT, term.id === row.term ? "accept" : "change");
  }

  // --- the file that `cytolabe reconcile --apply` takes ---------------------------------------------------------------
  const guarded = (text) => (/^[=+\-@'\t\r]/.test(text) ? `'${text}` : text);
  const quoted = (text) => (/["\t\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  function fileRow(index) {
    const row = labels[index], decision = decisions.get(index);
    const term = decision.term && decision.action !== "unknown" ? decision.term : NOTHING;
    const values = {
      subject_label: row.label, subject_type: "rdfs literal", predicate_id: term === NOTHING ? EXACT : decision.predicate,
      predicate_modifier: decision.action === "reject" ? "Not" : "", object_id: term, object_label: term === NOTHING ? "" : nameOf(term),
      mapping_justification: "semapv:MappingReview", confidence: "1.000", object_source: "obo:cl.owl", object_source_version: data.release,
      reviewer_label: at("reviewer").value.trim(), review_date: decision.day, comment: notes.get(index) || "", dataset_id: row.dataset,
      n_cells: String(row.cells), decision: "reviewed", decided_by: "semapv:MappingReview", evidence: decision.action === "accept" ? row.why : "",
      proposed_predicate_id: row.term ? row.predicate : EXACT, proposed_object_id: row.term || NOTHING,
    };
    return data.columns.map((name) => quoted(data.textColumns.includes(name) ? guarded(values[name] || "") : values[name] || "")).join("\t");
  }

  function fileText() {
    const order = [...decisions.keys()].sort((a, b) => (keyOf(labels[a]) < keyOf(labels[b]) ? -1 : 1));
    return `${data.header}${data.columns.join("\t")}\n${order.map((index) => `${fileRow(index)}\n`).join("")}`;
  }

  function download() {
    const reviewer = at("reviewer");
    if (!decisions.size) { tell("Nothing is decided yet"); return; }
    const isNamed = Boolean(reviewer.value.trim());
    reviewer.setAttribute("aria-invalid", String(!isNamed));
    if (!isNamed) { reviewer.focus(); tell("Who decided? Write your name, then download."); return; }
    const link = el("a", { download: "decisions.tsv", href: URL.createObjectURL(new Blob([fileText()], { type: "text/tab-separated-values" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), TOLD_MS);
    tell(`${count(decisions.size)} decision(s) written to decisions.tsv; put them in force with cytolabe reconcile ATLAS --apply decisions.tsv`);
  }

  // --- keys -----------------------------------------------------------------------------------------------------------
  const KEYS = {
    j: () => step(1), k: () => step(-1), a: accept, r: reject, u: unknown, b: turn, z: undo, d: download,
    n: () => at("note").focus(), "/": () => at("search").focus(), "?": () => at("help").showModal(),
  };

  function onKey(event) {
    const isTyping = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && isTyping) { event.target.blur(); return; }
    if (isTyping || at("help").open || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = /^[1-5]$/.test(event.key) ? () => choose(Number(event.key) - 1) : Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : event.target === at("queue") && { ArrowDown: KEYS.j, ArrowUp: KEYS.k }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  function onSearchKey(event) {
    const act = { ArrowDown: () => pick(picked + 1), ArrowUp: () => pick(picked - 1), Enter: takeFound }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  restore();
  fillQueue();
  filter();
  showProgress();
  if (labels.length) {
    current = visible.find((index) => !decisions.has(index)) ?? 0;
    show(current);
  } else {
    at("label").textContent = "The atlas has no labels.";
  }
  document.addEventListener("keydown", onKey);
  at("queue").addEventListener("click", (event) => { const item = event.target.closest("li"); if (item) show(Number(item.dataset.index)); });
  at("search").addEventListener("input", find);
  at("search").addEventListener("keydown", onSearchKey);
  at("found").addEventListener("mousedown", (event) => { const item = event.target.closest("li"); if (item) { event.preventDefault(); pick(Number(item.dataset.number)); takeFound(); } });
  for (const id of ["filter", "show", "dataset"]) at(id).addEventListener("input", filter);
  at("reviewer").addEventListener("input", () => { at("reviewer").setAttribute("aria-invalid", "false"); try { localStorage.setItem("cytolabe-reviewer", at("reviewer").value); } catch { canKeep = false; } });
  at("download").addEventListener("click", download);
  at("help-open").addEventListener("click", () => at("help").showModal());
})();

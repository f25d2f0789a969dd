// All problems of a run as a grid to sort, search and filter; a click on one opens its draws. Until this has run, and in
// print, a table of the worst problems stands in its place.
(() => {
  const FIRST = matchMedia("(max-width: 640px)").matches ? 10 : 20; // rows at first
  const [MORE, GROUPS, LONG] = [100, 20, 600]; // rows at a click; texts of a temperature; characters
  const ENDED = { eos: "ended by itself", stop_string: "ended at a stop string", length: "cut off", decided: "cut short: decided" };

  const make = window.lmrelMake;
  const button = (text, attributes, act) => {
    const node = make("button", { type: "button", ...attributes }, text);
    node.addEventListener("click", act);
    return node;
  };
  const select = (options) => make("select", {}, ...options.map(([value, text]) => make("option", { value }, text)));
  const labelled = (text, control) => make("label", {}, make("span", {}, text), control);
  const percent = (share) => (share === null ? "–" : `${Math.round(100 * share)} %`);
  const mark = (right) => make("span", { class: right ? "right" : "wrong" }, right ? "✓ right" : "✗ wrong");
  const verdict = ([answer, right]) => [make("span", { class: right ? "right" : "wrong" }, right ? "✓ " : "✗ "), answer || "no answer"];
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));

  const grow = (place) => {
    const { temperatures, prompt, problems, notes } = JSON.parse(place.querySelector("script").textContent);
    const [T, hottest] = [temperatures.map((t) => `T = ${t}`), `T = ${temperatures.at(-1)}`];
    const names = [...new Set(problems.map((problem) => problem.task))];
    const has = { greedy: problems.some(({ greedy }) => greedy), common: problems.some(({ common }) => common) };
    const both = has.greedy && has.common;
    const number = (text) => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
    const rank = (pair) => (pair ? `${pair[1] ? 1 : 0}${pair[0]}` : ""); // wrong ones first

    // A column: its title, what it is sorted by, and its cell.
    const columns = [
      ["problem", (p) => p.asked, (p) => make("td", { class: "asked" }, make("button", { type: "button", dir: "auto" }, p.asked))],
      ...T.map((title, i) => [title, (p) => p.shares[i] ?? -1, (p) => {
        const cell = make("td", { class: "share" }, percent(p.shares[i]));
        if (p.shares[i] !== null) cell.style.setProperty("--p", p.shares[i]);
        return cell;
      }]),
      ["right answer", (p) => number(p.expected), (p) => make("td", { class: "answer", dir: "auto" }, p.expected)],
      ...(has.greedy ? [["greedy answer", (p) => rank(p.greedy), (p) => make("td", { class: "answer", dir: "auto" }, ...(p.greedy ? verdict(p.greedy) : []))]] : []),
      ...(has.common ? [[`most frequent at ${hottest}`, (p) => rank(p.common), (p) => make("td", { class: "answer", dir: "auto" }, ...(p.common ? verdict(p.common) : []))]] : []),
      ...(both ? [["flip", (p) => (p.flipped ? 0 : 1), (p) => make("td", {}, p.flipped ? "flip" : "")]] : []),
      ...(names.length > 1 ? [["task", (p) => p.task, (p) => make("td", { dir: "auto" }, p.task.replaceAll("_", " "))]] : []),
    ];
    const turns = {
      all: () => true,
      lost: ({ greedy, common }) => greedy && common && greedy[1] && !common[1],
      won: ({ greedy, common }) => greedy && common && !greedy[1] && common[1],
    };
    const counted = (name, text) => [name, `${text} (${problems.filter(turns[name]).length})`];
    const haystacks = new Map();
    const haystack = (problem) => {
      if (!haystacks.has(problem)) {
        const texts = problem.outputs.map(([text]) => text);
        haystacks.set(problem, [problem.id, problem.asked, problem.expected, ...texts].join(" ").replace(/\s+/g, " ").toLowerCase());
      }
      return haystacks.get(problem);
    };

    const search = make("input", { type: "search", placeholder: "in questions and outputs" });
    const task = select([["", "all"], ...names.map((name) => [name, name.replaceAll("_", " ")])]);
    const turn = select([counted("all", "all"), counted("lost", `greedy right, ${hottest} wrong`), counted("won", `greedy wrong, ${hottest} right`)]);
    const status = make("p", { role: "status" });
    const body = make("tbody");
    const more = make("p", { class: "buttons" });
    let [sorted, down, shown, found] = [null, false, FIRST, problems];

    const heads = columns.map(([title], i) => make("th", { scope: "col", ...(T.includes(title) ? { class: "share" } : {}) }, button(title, {}, () => {
      [sorted, down, shown] = [i, sorted === i && !down, FIRST];
      update();
    })));
    const update = () => {
      const wanted = search.value.trim().replace(/\s+/g, " ").toLowerCase();
      found = problems.filter((p) => (!task.value || p.task === task.value) && turns[turn.value](p) && haystack(p).includes(wanted));
      if (sorted !== null) {
        const key = columns[sorted][1];
        found.sort((a, b) => compare(key(a), key(b)) * (down ? -1 : 1));
      }
      heads.forEach((head, i) => (i === sorted ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
      body.replaceChildren(...found.slice(0, shown).map((problem, i) => {
        const row = make("tr", {}, ...columns.map(([, , cell]) => cell(problem)));
        row.addEventListener("click", () => open(i));
        return row;
      }));
      const order = sorted === null ? "those with the fewest right answers first" : `by ${columns[sorted][0]}`;
      status.textContent = `${found.length} of ${problems.length} problems, ${order}`;
      const left = found.length - shown;
      const show = (text, count) => button(text, {}, () => {
        const before = shown;
        shown += count;
        update();
        body.rows[before].querySelector("button").focus({ preventScroll: true });
      });
      more.replaceChildren(...(left > 0 ? [show(`show ${Math.min(MORE, left)} more`, MORE)] : []), ...(left > MORE ? [show(`show all ${found.length}`, left)] : []));
    };
    const restart = () => {
      shown = FIRST;
      update();
    };
    for (const control of [search, task, turn]) control.addEventListener("input", restart);
    const reset = button("reset", {}, () => {
      [search.value, task.value, turn.value, sorted, down] = ["", "", "all", null, false];
      restart();
    });

    // The drawer, with the draws of one problem of those that are found.
    const content = make("div");
    const [title, previous, next] = [
      make("h3", { id: "lmrel-drawer" }),
      button("‹ previous", {}, () => open(here - 1)),
      button("next ›", {}, () => open(here + 1)),
    ];
    const drawer = make("dialog", { "aria-labelledby": "lmrel-drawer" },
      make("div", { class: "head" }, title, make("p", { class: "buttons" }, previous, next, button("close", {}, () => drawer.close()))), content);
    drawer.addEventListener("click", (event) => event.target === drawer && drawer.close()); // beside it, on the backdrop
    let here = 0;
    const output = ([text, ended, right, answer, failure, nats, often], i) => {
      const facts = [right ? "" : failure.replaceAll("_", " "), `answer ${answer || "none"}`, ENDED[ended] ?? ended,
        nats === null ? "" : `confidence ${nats.toFixed(3).replace("-", "−")}`].filter(Boolean);
      const written = make("pre", { dir: "auto", ...(text.length > LONG ? { tabindex: 0, role: "group", "aria-label": "output" } : {}) }, text || "(empty)");
      return make("li", {}, make("p", {}, `${often[i]} × `, mark(right), ` · ${facts.join(" · ")}`), written);
    };
    const atTemperature = (problem, i) => {
      const drawn = problem.outputs.filter(([, , , , , , often]) => often[i]).sort((a, b) => b[6][i] - a[6][i]);
      const [total, right] = [drawn, drawn.filter(([, , good]) => good)].map((some) => some.reduce((sum, one) => sum + one[6][i], 0));
      const list = make("ul", { role: "list" }, ...drawn.slice(0, GROUPS).map((one) => output(one, i)));
      const rest = drawn.slice(GROUPS);
      const all = button(`show ${rest.length} more texts`, {}, () => {
        list.append(...rest.map((one) => output(one, i)));
        all.remove();
      });
      const name = temperatures[i] === 0 ? `${T[i]} (greedy)` : T[i];
      return make("section", {}, make("h4", {}, `${name}: ${right} of ${total} right`), list, ...(rest.length ? [all] : []));
    };
    const open = (i) => {
      here = i;
      const problem = found[here];
      title.textContent = `Problem ${problem.id}`;
      previous.disabled = here === 0;
      next.disabled = here === found.length - 1;
      const sent = make("details", {}, make("summary", {}, "The prompt as it was sent"), make("pre", { dir: "auto" }, prompt + problem.prompt));
      content.replaceChildren(
        make("p", { class: "question", dir: "auto" }, problem.asked),
        make("p", {}, "Right answer: ", make("strong", { dir: "auto" }, problem.expected)),
        ...(prompt + problem.prompt ? [sent] : []),
        ...temperatures.map((_, t) => atTemperature(problem, t)),
      );
      content.scrollTop = 0;
      if (!drawer.open) drawer.showModal();
    };

    place.append(make("div", { class: "grid" },
      make("div", { class: "controls" }, labelled("search", search), ...(names.length > 1 ? [labelled("task", task)] : []),
        ...(both ? [labelled("show", turn)] : []), reset),
      status,
      make("div", { class: "wide-table", tabindex: 0, role: "group", "aria-label": "problems" },
        make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body)),
      more, ...notes.map((note) => make("p", { class: "note" }, note))), drawer);
    place.dataset.grown = "";
    update();
  };

  for (const place of document.querySelectorAll(".lmrel-run")) grow(place);
})();

// The page for the projector: one step at a time, by the arrow keys, the buttons or the address.
(() => {
  const make = window.lmrelMake;
  const steps = [...document.querySelectorAll(".lmrel-step")].map((step) => step.closest("section"));
  const first = steps[0].parentElement;
  const heads = steps.map((step) => step.querySelector("h2"));
  document.documentElement.classList.add("lmrel-projector");
  const at = make("span", { role: "status" });
  const button = (text, label, by) => {
    const node = make("button", { type: "button", "aria-label": label }, text);
    node.addEventListener("click", () => go(now + by));
    return node;
  };
  const leave = make("button", { type: "button" }, "leave");
  const [back, on] = [button("←", "the step before", -1), button("→", "the next step", 1)];
  first.prepend(make("nav", { class: "steps", "aria-label": "Steps" }, back, at, on, leave));
  for (const head of heads) head.tabIndex = -1;
  let now = 0;
  const show = () => {
    steps.forEach((step, i) => (step.hidden = i !== now));
    at.textContent = `${now + 1} of ${steps.length}`;
    back.disabled = now === 0;
    on.disabled = now === steps.length - 1;
    window.dispatchEvent(new Event("resize")); // figures in there had no width
  };
  const go = (step) => {
    if (step < 0 || step >= steps.length) return;
    now = step;
    history.replaceState(null, "", `#${steps[now].id}`);
    show();
    window.scrollTo(0, 0);
    heads[now].focus({ preventScroll: true });
  };
  document.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 }[event.key];
    // Sliders, fields and grids have the arrows for themselves; a presenter's page keys always turn the page.
    const busy = event.target.closest("input, select, textarea, [role=group] button, [tabindex='0']");
    if (!by || event.altKey || event.ctrlKey || event.metaKey || (busy && event.key.startsWith("Arrow"))) return;
    if (!document.documentElement.classList.contains("lmrel-projector")) return;
    event.preventDefault();
    go(now + by);
  });
  // Once a presenter lets go of a control, the arrows turn pages again; who came by the keyboard stays where they are.
  document.addEventListener("pointerup", ({ target }) => {
    if (target.closest("input[type=range], [role=group] button, [tabindex='0']") && steps[now].contains(target)) {
      setTimeout(() => heads[now].focus({ preventScroll: true }));
    }
  });
  leave.addEventListener("click", () => {
    document.documentElement.classList.remove("lmrel-projector");
    for (const step of steps) step.hidden = false;
    document.querySelector("nav.steps").remove();
  });
  const linked = () => {
    const found = steps.findIndex((step) => `#${step.id}` === location.hash);
    if (found >= 0) now = found;
    show();
  };
  window.addEventListener("hashchange", linked);
  window.addEventListener("beforeprint", () => steps.forEach((step) => (step.hidden = false)));
  window.addEventListener("afterprint", show);
  linked();

  // Hands that are counted: a button a choice, and bars.
  for (const place of document.querySelectorAll(".lmrel-hands")) {
    const choices = [...place.querySelectorAll("li")].map((item) => ({ text: item.textContent, count: 0 }));
    const rows = choices.map((choice) => {
      const [bar, value] = [make("i"), make("output", {}, "0")];
      const change = (by) => () => {
        choice.count = Math.max(0, choice.count + by);
        const most = Math.max(10, ...choices.map(({ count }) => count));
        rows.forEach((row, i) => {
          row.bar.style.width = `${(100 * choices[i].count) / most}%`;
          row.value.textContent = choices[i].count;
        });
      };
      const [more, fewer] = [["+", 1], ["−", -1]].map(([sign, by]) => {
        const node = make("button", { type: "button", "aria-label": `${by > 0 ? "one more" : "one fewer"}: ${choice.text}` }, sign);
        node.addEventListener("click", change(by));
        return node;
      });
      const node = make("div", { class: "hand" }, make("span", { class: "name" }, choice.text), fewer, more, value, make("span", { class: "track", "aria-hidden": "true" }, bar));
      return { node, bar, value };
    });
    place.replaceChildren(...rows.map(({ node }) => node));
  }
})();

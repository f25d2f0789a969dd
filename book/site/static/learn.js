// The lessons' questions: a prediction holds back what follows until a choice is made, and exercises are checked.
(() => {
  const make = window.lmrelMake;

  // A prediction is a row of choices, each a <details> with its comment. All that follows in its section waits.
  // "until-found" lets a search in the page and a link into what is hidden open the gate.
  const gate = (choices) => {
    const group = make("div", { class: "choices", role: "group", "aria-label": "Your prediction" });
    const skip = make("button", { type: "button", class: "skip" }, "read on without choosing");
    const note = make("p", { class: "note" }, "Choose one. Then the page goes on. ", skip);
    const held = make("div", { class: "held", hidden: "until-found" });
    choices[0].before(group);
    group.append(...choices);
    while (group.nextSibling) held.append(group.nextSibling);
    group.after(note, held);
    const open = () => {
      if (!held.hasAttribute("hidden")) return;
      held.removeAttribute("hidden");
      note.remove();
      window.dispatchEvent(new Event("resize")); // figures in there had no width
    };
    choices.forEach((choice) => {
      choice.open = false;
      choice.addEventListener("toggle", () => {
        if (!choice.open) return;
        choices.forEach((other) => (other.open = other === choice));
        open();
      });
    });
    skip.addEventListener("click", () => {
      const next = held;
      open();
      next.tabIndex = -1;
      next.focus({ preventScroll: true });
    });
    held.addEventListener("beforematch", open);
    const linked = () => {
      const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (!target || !held.contains(target)) return;
      open();
      target.scrollIntoView();
    };
    window.addEventListener("hashchange", linked);
    window.addEventListener("beforeprint", open);
    linked();
    if (new URLSearchParams(location.search).has("highlight")) open(); // the reader comes from the search
  };
  // The last gate first, so that an earlier one takes it along, whole.
  const starts = [...document.querySelectorAll("details.choice")].filter(
    (choice) => !choice.previousElementSibling?.matches("details.choice"),
  );
  for (const first of starts.reverse()) {
    const choices = [first];
    while (choices.at(-1).nextElementSibling?.matches("details.choice")) choices.push(choices.at(-1).nextElementSibling);
    gate(choices);
  }

  // The same order of cases as in `exercises.Checked`.
  const said = (exercise, given) => {
    if (!Number.isFinite(given)) return "No answer yet: a number goes here.";
    if (Math.abs(given - exercise.answer) <= exercise.tolerance) return `Right. ${exercise.right}`;
    const hint = exercise.hints.find(([low, high]) => low <= given && given <= high);
    return `Not yet. ${hint ? hint[2] : exercise.otherwise}`;
  };
  const number = (text) => (text.trim() ? Number(text.trim().replace(",", ".").replace("−", "-").replace(/\s*%$/, "")) : NaN);
  [...document.querySelectorAll(".lmrel-exercise")].forEach((place, i) => {
    const exercise = JSON.parse(place.dataset.exercise);
    const input = make("input", { id: `exercise-${i}`, type: "text", inputmode: "decimal", autocomplete: "off", size: "8" });
    const answer = make("p", { role: "status" });
    const form = make("form", { novalidate: "" },
      make("label", { for: input.id }, exercise.question),
      make("div", { class: "answer" }, input, exercise.unit, make("button", { type: "submit" }, "check")),
      answer);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = said(exercise, number(input.value));
      answer.textContent = text;
      place.dataset.verdict = text.startsWith("Right") ? "right" : "wrong";
    });
    place.replaceChildren(form);
  });
})();

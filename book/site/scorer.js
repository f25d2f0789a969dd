// How Sphinx's search orders what it finds: its own scores, then weighed by what a page is for. Lessons come before
// chapters, and the glossary and the functions last, whose entries would otherwise outdo any title.
var Scorer = {
  score: ([page, , , , score]) =>
    score * (page.startsWith("notebooks/learn/") ? 2 : page === "book/glossary" ? 0.2 : page.startsWith("book/api/") ? 0.4 : 1),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

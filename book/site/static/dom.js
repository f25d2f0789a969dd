// An element with attributes and children, for all scripts of the book that make some. Strings become text nodes: what a
// reader types, and what a model or a file says, is never read as HTML.
window.lmrelMake = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

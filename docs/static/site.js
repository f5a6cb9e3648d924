// Sphinx marks the words of a search in the page that is opened next: also inside formulas, which are then not typeset,
// and in the theme's icons, where its script fails.
localStorage.removeItem("sphinx_highlight_terms");
